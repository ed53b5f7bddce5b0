"""What watchstep's own hook left on disk: one session's spool folder, or one segment of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from watchstep.errors import WireError
from watchstep.postmortem.readers.jsonlogs import own_row, parsed
from watchstep.postmortem.readers.logs import Log, Row
from watchstep.postmortem.readers.opening import open_stream, read_some
from watchstep.wire.packed import HEADER, PLAIN, UPDATE, Frame, Unpacker, scan

MAGIC = b"\xd7\x53\x01"
"""The sync bytes and version that every frame begins with."""

_LARGEST_SEGMENT_BYTES = 64 << 20


def rows(log: Log) -> Iterator[Row]:
    """The updates as the hook wrote them, with their own sequence numbers.

    Numbers that are missing went to the service, or fell to the spool's size limit.
    """
    log.unit = "step"
    unpacker = Unpacker()
    last = 0
    for path in sorted(log.files, key=_reading_order):
        for frame in scan(_bytes_of(path, log)):
            if frame.damaged:
                log.tear(f"{path.name}: damaged bytes were stepped over")
            unpacker.learn(frame)
            if frame.kind == HEADER:
                _describe(frame, log)
            row = _row(frame, unpacker, log) if frame.kind in (UPDATE, PLAIN) else None
            if row is None or row.seq <= last:
                continue
            if row.seq != last + 1:
                log.note(f"updates {last + 1} to {row.seq - 1} are not in the spool any more")
            last = row.seq
            yield row


def _reading_order(path: Path) -> tuple[int, str]:
    # Names are needed before updates; what was saved from deleted segments is older than all.
    return {"names": 0, "kept.seg": 1}.get(path.name, 2), path.name


def _row(frame: Frame, unpacker: Unpacker, log: Log) -> Row | None:
    try:
        update = parsed(unpacker.to_json(frame.framed).decode("utf-8", "replace"))
    except WireError:
        log.tear("an update whose metric names are lost is left out")
        return None
    metrics = update.get("metrics", {}) if isinstance(update, Mapping) else None
    return own_row(update, metrics) if isinstance(metrics, Mapping) else None


def _describe(frame: Frame, log: Log) -> None:
    header = parsed(frame.payload.decode("utf-8", "replace"))
    if not isinstance(header, Mapping):
        return
    if isinstance(header.get("run"), str):
        log.run = header["run"]
    tags = header.get("tags")
    if isinstance(tags, Mapping):
        log.tags.update({str(key): str(value) for key, value in tags.items()})


def _bytes_of(path: Path, log: Log) -> bytes:
    with open_stream(path) as stream:
        content = read_some(stream, _LARGEST_SEGMENT_BYTES + 1, log, path.name)
    if len(content) > _LARGEST_SEGMENT_BYTES:
        log.tear(f"{path.name}: only its first {_LARGEST_SEGMENT_BYTES} bytes are read")
    return content
