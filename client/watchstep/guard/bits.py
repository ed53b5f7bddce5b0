"""One hash over the raw bytes of parameters and optimizer state."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from hashlib import _Hash


def bit_hash(*parts: Any) -> str:
    """SHA-256 over the exact bytes of tensors, wherever they sit in `parts`.

    Two states with the same hash are bit-identical: NaN payloads, the sign of zero, dtypes,
    shapes, the order of sequences and every plain number count. The device does not.

    Args:
        parts: Modules, optimizers or anything else with `state_dict()`, tensors, and
            mappings, lists and plain values of these. Read only; copied to the host one
            tensor at a time.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for part in parts:
        _feed(digest, part)
    return digest.hexdigest()


def _feed(digest: _Hash, value: Any) -> None:
    if isinstance(value, torch.Tensor):
        _feed_tensor(digest, value)
    elif hasattr(value, "state_dict"):
        _feed(digest, value.state_dict())
    elif isinstance(value, Mapping):
        digest.update(b"{")
        for key in sorted(value, key=repr):
            digest.update(repr(key).encode())
            _feed(digest, value[key])
        digest.update(b"}")
    elif isinstance(value, (list, tuple)):
        digest.update(b"[")
        for entry in value:
            _feed(digest, entry)
        digest.update(b"]")
    else:
        digest.update(repr(value).encode() + b";")


def _feed_tensor(digest: _Hash, tensor: torch.Tensor) -> None:
    digest.update(f"{tensor.dtype}{tuple(tensor.shape)}{tensor.layout}".encode())
    if tensor.layout is not torch.strided:
        coalesced = tensor.detach().coalesce()
        _feed(digest, [coalesced.indices(), coalesced.values()])
        return
    host = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
    # A zero-dimensional tensor cannot be viewed as bytes, one of shape (1,) can.
    digest.update(host.reshape(-1).view(torch.uint8).numpy().data)
