"""TensorBoard event files: every encoding, resumes, and what damage does to them."""

from __future__ import annotations

import json
import math
import struct
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pytest

from postmortem.kit_postmortem import open_log
from watchstep.postmortem.readers import NothingReadableError, open_logs
from watchstep.postmortem.readers.crc32c import crc32c, crc32c_of_each, masked

LOGS = Path(__file__).parents[1] / "logs"


def varint(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*out, number))


def framed(event: bytes) -> bytes:
    length = struct.pack("<Q", len(event))
    return b"".join(
        (
            length,
            struct.pack("<I", masked(crc32c(length))),
            event,
            struct.pack("<I", masked(crc32c(event))),
        )
    )


def scalar(tag: str, value: float, step: int, wall_time: float = 1e9) -> bytes:
    body = b"\x0a" + varint(len(tag)) + tag.encode() + struct.pack("<Bf", 0x15, value)
    summary = b"\x0a" + varint(len(body)) + body
    number = b"\x10" + varint(step) if step else b""
    return framed(
        struct.pack("<Bd", 0x09, wall_time) + number + b"\x2a" + varint(len(summary)) + summary
    )


def version(wall_time: float = 1e9) -> bytes:
    return framed(struct.pack("<Bd", 0x09, wall_time) + b"\x1a\x0dbrain.Event:2")


def event_file(folder: Path, records: Sequence[bytes], name: str = "1") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"events.out.tfevents.{name}.host"
    path.write_bytes(b"".join(records))
    return path


@pytest.mark.parametrize("folder", ["event_encodings", "sb3_carla_4"])
def test_values_are_those_that_tensorboard_itself_reads(folder: str) -> None:
    path = next((LOGS / folder).glob("events*"))
    expected = json.loads((LOGS / folder / "expected.json").read_text())
    series = defaultdict(list)

    log = open_log(path)
    for update in log.updates:
        for name, value in update.readings.items():
            series[name].append([update.step, repr(value)])

    assert len(series) == len(expected)
    for tag, points in expected.items():
        name = tag.replace(" ", "_").replace("@", "_")
        assert series[name] == [[step, repr(float(value))] for step, value in points], tag
    assert not log.partial


def test_a_checksum_is_the_standard_one_one_by_one_and_in_bulk() -> None:
    assert crc32c(b"123456789") == 0xE3069283

    for length in (1, 2, 63, 64, 65, 511, 512, 600):
        records = [bytes((index * 7 + k) % 256 for k in range(length)) for index in range(11)]
        assert crc32c_of_each(records, length) == [crc32c(record) for record in records]


def test_a_torn_tail_keeps_everything_before_it(tmp_path: Path) -> None:
    whole = b"".join([version(), *(scalar("loss", 0.5, step) for step in range(5))])

    for cut in range(1, len(scalar("loss", 0.5, 4))):
        log = open_log(event_file(tmp_path, [whole[:-cut]]))
        assert [update.step for update in log.updates] == [0, 1, 2, 3]
        assert log.partial


def test_a_record_that_fails_its_checksum_is_left_out_and_said(tmp_path: Path) -> None:
    records = [version(), *(scalar("loss", 0.5, step) for step in range(20))]
    broken = bytearray(records[11])
    broken[30] ^= 0x10
    records[11] = bytes(broken)

    log = open_log(event_file(tmp_path, records))
    steps = [update.step for update in log.updates]

    assert steps == [step for step in range(20) if step != 10]
    assert log.partial
    assert "corrupted record" in log.notes[0]


def test_a_broken_length_ends_the_reading_there(tmp_path: Path) -> None:
    records = [version(), *(scalar("loss", 0.5, step) for step in range(20))]
    records[11] = b"\0" * len(records[11])

    log = open_log(event_file(tmp_path, records))

    assert [update.step for update in log.updates] == list(range(10))
    assert log.partial


def test_a_file_that_was_only_begun_holds_nothing_readable(tmp_path: Path) -> None:
    with pytest.raises(NothingReadableError, match="no reading in it"):
        open_log(event_file(tmp_path, [version()]))


def test_files_of_one_folder_are_one_run_and_a_resume_is_the_next_attempt(tmp_path: Path) -> None:
    run = tmp_path / "PPO_1"
    first = [version(1e9), *(scalar("loss", 1, step, 1e9 + step) for step in range(1, 6))]
    second = [version(2e9), *(scalar("loss", 2, step, 2e9 + step) for step in range(4, 8))]
    event_file(run, second, "a-later")
    event_file(run, first, "b-earlier")

    (log,) = open_logs([tmp_path])
    updates = list(log.updates)

    assert log.run == "PPO_1"
    assert [update.step for update in updates] == [1, 2, 3, 4, 5, 4, 5, 6, 7]
    assert [update.attempt for update in updates] == [1] * 5 + [2] * 4
    assert [update.seq for update in updates] == list(range(1, 10))


def test_files_written_side_by_side_become_one_stream(tmp_path: Path) -> None:
    train = [version(), *(scalar("loss", 1, step, 1e9 + step) for step in range(1, 5))]
    evaluation = [version(), *(scalar("eval", 2, step, 1e9 + step + 0.1) for step in (2, 4))]
    event_file(tmp_path, train, "1.0")
    event_file(tmp_path, evaluation, "1.1")

    (log,) = open_logs([tmp_path])

    assert [(update.step, sorted(update.readings)) for update in log.updates] == [
        (1, ["loss"]),
        (2, ["eval", "loss"]),
        (3, ["loss"]),
        (4, ["eval", "loss"]),
    ]


def test_a_tag_written_twice_at_one_step_loses_neither_value(tmp_path: Path) -> None:
    records = [version(), *(scalar("loss", value, 3) for value in (1, 2, math.nan))]

    values = [update.readings["loss"] for update in open_log(event_file(tmp_path, records)).updates]

    assert values[:2] == [1, 2]
    assert math.isnan(values[2])


def test_episodes_between_updates_belong_to_the_next_update(tmp_path: Path) -> None:
    records = [
        version(),
        scalar("charts/episodic_return", 20, 130),
        scalar("charts/episodic_return", 30, 180),
        scalar("losses/value_loss", 1, 256),
        scalar("losses/policy_loss", 2, 256),
        scalar("charts/episodic_return", 40, 300),
    ]

    log = open_log(event_file(tmp_path, records))

    assert [(update.step, update.readings) for update in log.updates] == [
        (
            256,
            {"charts/episodic_return": 30, "losses/value_loss": 1, "losses/policy_loss": 2},
        ),
        (300, {"charts/episodic_return": 40}),
    ]


def test_events_that_are_no_message_are_left_out(tmp_path: Path) -> None:
    nonsense = framed(b"\x09" + b"\xff" * 40)
    records = [version(), scalar("loss", 1, 1), nonsense, scalar("loss", 2, 2)]

    log = open_log(event_file(tmp_path, records))

    assert [update.step for update in log.updates] == [1, 2]
    assert log.partial


def test_an_image_of_many_megabytes_is_stepped_over(tmp_path: Path) -> None:
    image = b"\x09" + bytes(8) + b"\x2a" + varint(20 << 20) + bytes(20 << 20)
    length = struct.pack("<Q", len(image))
    header = length + struct.pack("<I", masked(crc32c(length)))
    records = [version(), scalar("loss", 1, 1), header, image, bytes(4), scalar("loss", 2, 2)]

    log = open_log(event_file(tmp_path, records))

    assert [update.step for update in log.updates] == [1, 2]
    assert not log.partial
