"""How fast console logs are read, and in how much memory.

    python benchmarks/console_reading.py [--megabytes 100] [--log neox.txt]...

Repeats a fixture of the tests with other digits in its numbers until the size is reached, and
feeds it to the reader as a file would be. Judging the rows comes on top of it.
"""

from __future__ import annotations

import argparse
import random
import re
import resource
import time
from collections.abc import Iterator
from pathlib import Path

from watchstep.postmortem.readers.stream import ConsoleReader

PRINTED = Path(__file__).parents[1] / "tests" / "postmortem" / "logs" / "printed"
LOGS = ("neox.txt", "verl.txt", "mmengine.txt", "hf_tqdm.txt", "sb3_table.txt", "nanogpt.txt")
CHUNK_BYTES = 1 << 18


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--megabytes", type=int, default=100)
    arguments.add_argument("--log", action="append", choices=LOGS)
    chosen = arguments.parse_args()
    for name in chosen.log or LOGS:
        reader, rows, size, seconds = ConsoleReader(), 0, 0, 0.0
        for chunk in _chunks(name, chosen.megabytes * 1_000_000):
            begin = time.process_time()
            rows += len(reader.feed(chunk))
            seconds += time.process_time() - begin
            size += len(chunk)
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{name:16s} {size / seconds / 1e6:5.1f} MB/s, {rows} rows, peak {peak_mb:.0f} MiB")


def _chunks(name: str, size: int) -> Iterator[bytes]:
    text = (PRINTED / name).read_bytes().partition(b"Traceback")[0]
    healthy = re.sub(rb"(?i)\bnan\b", b"1.25", text) * (8 * CHUNK_BYTES // len(text))
    chance = random.Random(7)
    varied = re.sub(rb"\d\d(?=\D)", lambda _: b"%02d" % chance.randrange(10, 99), healthy)
    written = 0
    while written < size:
        for at in range(0, len(varied), CHUNK_BYTES):
            yield varied[at : at + CHUNK_BYTES]
            written += CHUNK_BYTES


if __name__ == "__main__":
    main()
