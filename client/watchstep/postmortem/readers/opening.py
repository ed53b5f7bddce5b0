"""Opening what may or may not be a log: only regular files, unpacked, line by line."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import stat
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from watchstep.errors import LogUnreadableError
from watchstep.postmortem.readers.logs import Log

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer as Buffer

HEAD_BYTES = 1 << 16
"""How much of a file is looked at to recognise its format."""

_LONGEST_LINE = 1 << 20
"""Characters of a line that are kept; beyond it there is no training log."""

_CHUNK_BYTES = 1 << 18
_ZEROS = bytes(4)
"""UTF-16 and UTF-32 begin with three zeros at most."""

_MOST_ZEROS = 64 << 20
_DAMAGE = (OSError, EOFError, zlib.error, lzma.LZMAError)
_MOST_XZ_BYTES = 128 << 20
"""Memory that unpacking xz may take: `xz -9` needs 65 MB, a hostile file asks for 4 GB."""


class _XzReader(io.RawIOBase):
    """What an xz file unpacks to, within `_MOST_XZ_BYTES`; the library's own has no limit."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._unpacker = _xz_unpacker()

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()
        super().close()

    def readinto(self, buffer: Buffer) -> int:
        view = memoryview(buffer)
        while True:
            packed = b""
            if self._unpacker.eof:
                packed = self._unpacker.unused_data or self._file.read(_CHUNK_BYTES)
                if not packed.strip(b"\0"):
                    return 0
                self._unpacker = _xz_unpacker()  # Files of several streams are joined ones.
            elif self._unpacker.needs_input:
                packed = self._file.read(_CHUNK_BYTES)
                if not packed:
                    raise EOFError("the file ends before its end was written")
            data = self._unpacker.decompress(packed, len(view))
            if data:
                view[: len(data)] = data
                return len(data)


def _xz_unpacker() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=_MOST_XZ_BYTES)


def _open_xz(path: Path) -> io.BufferedReader:
    return io.BufferedReader(_XzReader(path))


_PACKERS: dict[bytes, Callable[..., object]] = {
    b"\x1f\x8b": gzip.open,
    b"\xfd7zXZ\x00": _open_xz,
    b"BZh": bz2.open,
}
_LONGEST_MAGIC = max(map(len, _PACKERS))


_KINDS = {stat.S_IFIFO: "a named pipe", stat.S_IFDIR: "a folder", stat.S_IFSOCK: "a socket"}


class NothingReadableError(LogUnreadableError):
    """A file or folder that opens without trouble, but holds no training log."""


def check_regular(path: Path) -> None:
    """Refuse what must not be opened: a FIFO would block for ever, a device never end.

    Raises:
        LogUnreadableError: The path is missing, not a regular file, or not ours to see.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise LogUnreadableError(f"{path}: {error.strerror or error}") from error
    if not stat.S_ISREG(mode):
        raise LogUnreadableError(
            f"{path}: {_KINDS.get(stat.S_IFMT(mode), 'a device')}, not a file with a log in it"
        )


def open_stream(path: Path) -> BinaryIO:
    """A file's bytes, unpacked when they are gzip, xz or bzip2.

    Raises:
        LogUnreadableError: It cannot be opened, or is no regular file.
    """
    check_regular(path)
    try:
        raw = path.open("rb")
        begin = raw.read(_LONGEST_MAGIC)
        raw.seek(0)
        for magic, unpack in _PACKERS.items():
            if begin.startswith(magic):
                raw.close()
                return cast("BinaryIO", unpack(path))
    except OSError as error:
        raise LogUnreadableError(f"{path}: {error.strerror or error}") from error
    return raw


def read_some(stream: BinaryIO, size_bytes: int, log: Log, name: str) -> bytes:
    """Up to so many bytes; b"" at the end, and, with a note in `log`, where damage begins."""
    pieces: list[bytes] = []
    try:
        # Not all at once: what was unpacked before the damage would be lost with the rest.
        while size_bytes > 0 and (piece := stream.read1(size_bytes)):  # type: ignore[attr-defined]
            pieces.append(piece)
            size_bytes -= len(piece)
    except _DAMAGE as error:
        log.tear(f"{name}: reading stopped: {error}")
    return b"".join(pieces)


def head_of(path: Path) -> bytes:
    """The first bytes of a file, unpacked; damage further on is not looked for.

    Raises:
        LogUnreadableError: It cannot be read at all.
    """
    with open_stream(path) as stream:
        pieces: list[bytes] = []
        missing, skipped = HEAD_BYTES, 0
        try:
            while missing > 0 and (piece := stream.read1(missing)):  # type: ignore[attr-defined]
                if not pieces and piece.startswith(_ZEROS):
                    # A log that was emptied while its writer kept its place begins in zeros.
                    piece = piece.lstrip(b"\0")
                    skipped += HEAD_BYTES
                    if not piece and skipped < _MOST_ZEROS:
                        continue
                pieces.append(piece)
                missing -= len(piece)
        except _DAMAGE as error:
            if not pieces:
                raise LogUnreadableError(f"{path}: damaged: {error}") from error
        return b"".join(pieces)


ENCODINGS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def encoding_of(head: bytes) -> str | None:
    """The encoding of a text file from its first bytes; None when they are no text."""
    for mark, encoding in ENCODINGS:
        if head.startswith(mark):
            return encoding
    if b"\0" in head:
        return _without_mark(head)
    controls = len(head) - len(head.translate(None, _CONTROLS))
    return "utf-8" if controls * 50 <= len(head) else None


def _without_mark(head: bytes) -> str | None:
    """UTF-16 that lacks its mark, as some Windows tools leave it: every second byte is zero."""
    even, odd = head[0:4096:2], head[1:4096:2]
    if odd and odd.count(0) > 0.9 * len(odd) and not even.count(0):
        return "utf-16-le"
    if odd and even.count(0) > 0.9 * len(even) and not odd.count(0):
        return "utf-16-be"
    # A file that was being written when the machine went down goes on in zeros.
    begins_as_text = b"\0" not in head.partition(b"\n")[0] and b"\n" in head
    rest = head.replace(b"\0", b"")
    return encoding_of(rest) if begins_as_text else None


_CONTROLS = bytes(byte for byte in range(32) if chr(byte) not in "\t\n\r\f\x1b\b\x07")


def text_chunks(path: Path, log: Log) -> Iterator[str]:
    """A text file's content in pieces; foreign bytes are replaced, and noted in `log`."""
    encoding = encoding_of(head_of(path)) or "utf-8"
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    with open_stream(path) as stream:
        ended = False
        while not ended:
            chunk = read_some(stream, _CHUNK_BYTES, log, path.name)
            ended = not chunk
            if b"\0" in chunk and encoding == "utf-8":
                log.tear(f"{path.name}: zeros stand where text was lost")
                chunk = chunk.replace(b"\0", b"") if chunk.strip(b"\0") else b""
            text = decoder.decode(chunk, final=ended)
            if "�" in text:
                log.note(f"{path.name}: bytes that are no {encoding} were replaced")
            yield text


def lines(path: Path, log: Log) -> Iterator[str]:
    """A text file's lines with their line feed; only the last may lack it.

    A line over a million characters is dropped, with a note. Carriage returns inside a line
    (progress bars) are left for the caller.
    """
    rest = ""
    dropping = False
    for text in text_chunks(path, log):
        buffer = io.StringIO(rest + text, newline="\n")
        rest = ""
        for line in buffer:
            if not line.endswith("\n"):
                rest = line
            elif dropping:
                dropping = False
            else:
                yield line
        if len(rest) > _LONGEST_LINE:
            log.tear(f"{path.name}: a line of over {_LONGEST_LINE} characters is left out")
            rest, dropping = "", True
    if rest and not dropping:
        yield rest
