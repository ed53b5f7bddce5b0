"""A record that is torn, altered or wiped costs itself and no other."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchstep.core.updates import Update
from watchstep.sender.session import Header, Reader, create
from watchstep.wire.packed import UPDATE, Packer, Record, Unpacker, scan, seq_of

HEADER = Header("0" * 32, "r", "default", {}, {}, "")
EVENT = {"kind": "log", "level": "info", "text": "S" * 300}


def cut(record, at):
    return record[:at]


def flipped(record, at):
    return record[:at] + bytes([record[at] ^ 0x10]) + record[at + 1 :]


def wiped(record, at):
    return record[:at] + bytes(len(record) - at)


def longer(record, at):
    """Claims to reach far into the records behind it."""
    del at
    return record[:4] + (len(record) + 700).to_bytes(4, "little") + record[8:]


DAMAGES = (cut, flipped, wiped, longer)


def packed(count):
    """Frames of updates, every seventh with an event, and the frames of their names."""
    packer = Packer()
    readings = {f"train/metric_{number}": number + 0.5 for number in range(20)}
    pairs = [
        packer.pack(Update(seq, seq, 1.7e9, readings, EVENT if seq % 7 == 0 else None))
        for seq in range(1, count + 1)
    ]
    return [framed for framed, _ in pairs], b"".join(names for _, names in pairs)


FRAMES, NAMES = packed(12)


@given(st.lists(st.none() | st.tuples(st.sampled_from(DAMAGES), st.floats(0, 1)), max_size=12))
def test_what_is_between_damaged_records_is_read_as_it_was_written(fates):
    whole = [frame for frame, fate in zip(FRAMES, fates, strict=False) if fate is None]
    data = NAMES
    for frame, fate in zip(FRAMES, fates, strict=False):
        # Not the last byte: wiping a zero alters nothing.
        data += frame if fate is None else fate[0](frame, int(fate[1] * (len(frame) - 9)))

    frames = [frame for frame in scan(data) if frame.kind == UPDATE]

    assert [frame.payload for frame in frames] == [frame[12:] for frame in whole]
    unpacker = Unpacker()
    for frame in scan(data):
        unpacker.learn(frame)
    records = [Record(seq_of(frame.framed), frame.framed) for frame in frames]
    assert all(map(unpacker.can_read, whole))
    assert [frame.seq for frame in unpacker.parcels(records)] == [seq_of(frame) for frame in whole]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_reader_of_files_larger_than_it_reads_at_once_loses_nothing_more(tmp_path, damage):
    frames, names = packed(2_000)
    generator = random.Random(1)
    lost = set(generator.sample(range(1, 2_001), 200))
    records = [
        damage(frame, generator.randrange(len(frame) - 8)) if seq in lost else frame
        for seq, frame in enumerate(frames, 1)
    ]
    folder = create(tmp_path, HEADER, 1)
    for number, part in enumerate((records[:1_300], records[1_300:]), 1):
        (folder.path / f"{number:06d}.seg").write_bytes(HEADER.to_frame() + names + b"".join(part))
    reader = Reader(folder)

    frames: list[int] = []
    while batch := reader.read(frames[-1] + 1 if frames else 1, None, 300):
        frames += [frame.seq for frame in batch]

    folder.release()
    assert frames == [seq for seq in range(1, 2_001) if seq not in lost]
    assert reader.damaged > 0
