"""How fast TensorBoard files are read, against TensorBoard's own EventAccumulator.

    python benchmarks/tensorboard_reading.py [--scalars 1000000]

Writes one event file, reads it with watchstep and, where tensorboard is installed, with an
EventAccumulator whose sampling is off, compares every value, and prints both times and the
peak of Python's memory for two file sizes.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import random
import struct
import tempfile
import time
import tracemalloc
from pathlib import Path

from watchstep.postmortem.readers import open_logs
from watchstep.postmortem.readers.crc32c import crc32c, crc32c_of_each, masked

TAGS = [f"train/metric_{number:02d}" for number in range(20)]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--scalars", type=int, default=1_000_000)
    count = arguments.parse_args().scalars
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.out.tfevents.1700000000.host.1.0"
        write_events(path, count)
        print(f"{count} scalars, {path.stat().st_size / 1e6:.1f} MB")
        ours, values = read_here(path)
        print(f"watchstep         {ours:7.2f} s  {ours / count * 1e6:6.2f} us a scalar")
        compare_with_tensorboard(path, ours, values)
        small = Path(folder) / "events.out.tfevents.1700000000.host.2.0"
        write_events(small, count // 10)
        print(f"peak memory       {peak_mb(small):.1f} MB of {count // 10} scalars")
        print(f"                  {peak_mb(path):.1f} MB of {count} scalars")


def write_events(path: Path, count: int) -> None:
    """`count` scalars as torch's SummaryWriter frames them, one NaN in a thousand."""
    chance = random.Random(7)
    events = [struct.pack("<Bd", 0x09, 1.7e9) + b"\x1a\x0dbrain.Event:2"]
    for number in range(count):
        tag = TAGS[number % len(TAGS)].encode()
        value = math.nan if chance.random() < 0.001 else chance.gauss(0, 1)
        body = b"\x0a" + bytes((len(tag),)) + tag + struct.pack("<Bf", 0x15, value)
        summary = b"\x0a" + bytes((len(body),)) + body
        events.append(
            struct.pack("<Bd", 0x09, 1.7e9 + number / 100)
            + b"\x10"
            + _varint((number // len(TAGS)) * 2048)
            + b"\x2a"
            + bytes((len(summary),))
            + summary
        )
    with path.open("wb") as stream:
        for begin in range(0, len(events), 10_000):
            stream.write(_framed(events[begin : begin + 10_000]))


def read_here(path: Path) -> tuple[float, list[tuple[int, dict[str, float]]]]:
    begin = time.perf_counter()
    (log,) = open_logs([path])
    values = [(update.step, dict(update.readings)) for update in log.updates]
    seconds = time.perf_counter() - begin
    assert not log.partial, log.notes
    return seconds, values


def compare_with_tensorboard(
    path: Path, ours: float, values: list[tuple[int, dict[str, float]]]
) -> None:
    if importlib.util.find_spec("tensorboard") is None:
        print("EventAccumulator  not installed: no comparison")
        return
    from tensorboard.backend.event_processing import event_accumulator

    begin = time.perf_counter()
    theirs = event_accumulator.EventAccumulator(str(path), size_guidance={"scalars": 0})
    theirs.Reload()
    series = {tag: theirs.Scalars(tag) for tag in theirs.Tags()["scalars"]}
    seconds = time.perf_counter() - begin
    for tag, events in series.items():
        here = [(step, readings[tag]) for step, readings in values if tag in readings]
        there = [(event.step, event.value) for event in events]
        assert len(here) == len(there), tag
        for (step, value), (their_step, their_value) in zip(here, there, strict=True):
            assert step == their_step, tag
            assert struct.pack("<d", value) == struct.pack("<d", their_value), tag
    print(f"EventAccumulator  {seconds:7.2f} s  {seconds / ours:.1f} times as long, same values")


def peak_mb(path: Path) -> float:
    tracemalloc.start()
    (log,) = open_logs([path])
    for _ in log.updates:
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


def _framed(events: list[bytes]) -> bytes:
    checksums = dict[int, int]()
    by_length: dict[int, list[int]] = {}
    for index, event in enumerate(events):
        by_length.setdefault(len(event), []).append(index)
    for length, indices in by_length.items():
        of_length = crc32c_of_each([events[index] for index in indices], length)
        checksums.update(zip(indices, of_length, strict=True))
    framed = []
    for index, event in enumerate(events):
        length = struct.pack("<Q", len(event))
        framed += [
            length,
            struct.pack("<I", masked(crc32c(length))),
            event,
            struct.pack("<I", masked(checksums[index])),
        ]
    return b"".join(framed)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


if __name__ == "__main__":
    main()
