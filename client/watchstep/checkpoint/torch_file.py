"""Writing a file of `torch.save` into a file that is hashed."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from watchstep.checkpoint.durable import HashedFile

_checksums = threading.Lock()


def save_into(file: HashedFile, whole: Mapping[str, Any]) -> None:
    """`torch.save` without its own CRC-32s, a third of its time: SHA-256 covers all of it.

    Whether they are computed is a global option, which torch reads before the first byte: it
    is back to what it was by then.
    """
    with contextlib.ExitStack() as without_checksums:
        without_checksums.enter_context(_checksums)
        before = torch.serialization.get_crc32_options()
        without_checksums.callback(torch.serialization.set_crc32_options, before)
        torch.serialization.set_crc32_options(False)
        file.before_write = without_checksums.close
        try:
            torch.save(dict(whole), file)  # type: ignore[arg-type]  # a file needs no more methods
        except RuntimeError as error:
            # torch wraps a failed write of its own making around the reason.
            causes = (cause for cause in _causes(error) if isinstance(cause, OSError))
            raise next(causes, error) from error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
