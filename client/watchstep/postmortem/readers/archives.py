"""Logs that were packed for sending: a zip or tar file is read as the folder that it holds."""

from __future__ import annotations

import contextlib
import itertools
import lzma
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from watchstep.errors import LogUnreadableError
from watchstep.postmortem.readers.opening import most_unpacked, open_stream

LARGEST_BYTES = 8 << 30
"""What an archive may unpack to at most, however large it is; see also `most_unpacked`."""

LARGEST_BESIDE_BYTES = 1 << 30
"""The same for an archive that merely lies in a folder which is read."""

MOST_MEMBERS = 20_000
"""Files of an archive that are looked at; the rest is left out."""

_ZIP, _TAR_AT, _TAR = b"PK\x03\x04", 257, b"ustar"
_MODEL_MEMBERS = ("data.pkl", "policy.pth", "pytorch_variables.pth", "version", "parameters.npz")
"""Members of saved models: PyTorch's and Stable-Baselines3's checkpoints are zip files too."""

_DAMAGE = (
    *(OSError, EOFError, RuntimeError, NotImplementedError, ValueError),
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError),
)
_CHUNK_BYTES = 1 << 20


def is_archive(head: bytes) -> bool:
    """Whether a file that begins so, once any gzip is taken off, is a zip or tar file."""
    return head.startswith(_ZIP) or head[_TAR_AT : _TAR_AT + len(_TAR)] == _TAR


def may_hold_logs(path: Path) -> bool:
    """Whether a zip file found in a folder is worth unpacking: small, and no saved model."""
    try:
        with zipfile.ZipFile(path) as packed:
            members = packed.infolist()
    except _DAMAGE:
        return False
    models = any(PurePosixPath(member.filename).name in _MODEL_MEMBERS for member in members)
    return not models and sum(member.file_size for member in members) <= LARGEST_BESIDE_BYTES


@contextlib.contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """A folder with the files of an archive, which goes when the context does.

    The folder is named after the archive, so that what lies directly in it is, too. Links,
    devices and names that lead outside are left out.

    Raises:
        LogUnreadableError: It is damaged, encrypted, or unpacks to too much for its size.
    """
    with tempfile.TemporaryDirectory(prefix="watchstep-") as temporary:
        folder = Path(temporary) / path.name.split(".")[0]
        folder.mkdir()
        try:
            room = min(LARGEST_BYTES, most_unpacked(path.stat().st_size))
            for name, stream in _members(path):
                target = _inside(folder, name)
                if target is not None:
                    room -= _copied(stream, target, room)
        except _DAMAGE as error:
            reason = str(error).partition("\n")[0]
            raise LogUnreadableError(f"{path}: cannot be unpacked: {reason}") from error
        yield folder


def _members(path: Path) -> Iterator[tuple[str, BinaryIO]]:
    with path.open("rb") as file:
        zipped = file.read(len(_ZIP)) == _ZIP
    if zipped:
        with zipfile.ZipFile(path) as packed:
            for member in packed.infolist()[:MOST_MEMBERS]:
                # Of LZMA in a zip file the library bounds no memory, and no logger packs so.
                if not member.is_dir() and member.compress_type != zipfile.ZIP_LZMA:
                    with packed.open(member) as stream:
                        yield member.filename, cast("BinaryIO", stream)
        return
    # Unpacked by our own reader, which bounds what xz may take.
    with open_stream(path) as unpacked_tar, tarfile.open(fileobj=unpacked_tar, mode="r|") as rolled:
        for entry in itertools.islice(rolled, MOST_MEMBERS):
            content = rolled.extractfile(entry) if entry.isfile() else None
            if content is not None:
                yield entry.name, cast("BinaryIO", content)


def _inside(folder: Path, name: str) -> Path | None:
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if not parts or ".." in parts or parts[0] == "/" or ":" in parts[0] or "\0" in name:
        return None
    target = folder.joinpath(*parts)
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _copied(stream: BinaryIO, target: Path, room: int) -> int:
    copied = 0
    with target.open("wb") as file:
        while chunk := stream.read(_CHUNK_BYTES):
            copied += len(chunk)
            if copied > room:
                raise LogUnreadableError(
                    f"{target.name}: the archive unpacks to more than 50 times its size and 64 MiB,"
                    " or 8 GiB; unpack it yourself, plain logs may be of any size"
                )
            file.write(chunk)
    return copied
