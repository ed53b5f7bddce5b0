"""Writing a file of `torch.save` into a file that is hashed."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from typing import Any

from watchstep.checkpoint.durable import HashedFile

_checksums = threading.Lock()


def save_into(file: HashedFile, whole: Mapping[str, Any]) -> None:
    """`torch.save` without its own CRC-32s, a third of its time: SHA-256 covers all of it.

    Whether they are computed is a global option, which torch reads before the first byte: it
    is back to what it was by then.
    """
    import torch

    with contextlib.ExitStack() as without_checksums:
        without_checksums.enter_context(_checksums)
        before = torch.serialization.get_crc32_options()
        without_checksums.callback(torch.serialization.set_crc32_options, before)
        torch.serialization.set_crc32_options(False)
        try:
            torch.save(dict(whole), _Stream(file, without_checksums.close))  # type: ignore[arg-type]
        except RuntimeError as error:
            # torch wraps a failed write of its own making around the reason.
            raise _original(error) from error


class _Stream:
    """What torch.save writes to; calls `on_first` before the first byte."""

    def __init__(self, file: HashedFile, on_first: Callable[[], None]) -> None:
        self._file = file
        self._on_first: Callable[[], None] | None = on_first

    def write(self, chunk: bytes) -> int:
        if self._on_first is not None:
            self._on_first()
            self._on_first = None
        return self._file.write(chunk)

    def flush(self) -> None:
        self._file.flush()


def _original(error: BaseException) -> BaseException:
    cause = error.__cause__ or error.__context__
    while cause is not None:
        if isinstance(cause, OSError):
            return cause
        cause = cause.__cause__ or cause.__context__
    return error
