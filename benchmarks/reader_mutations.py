"""Whether damaged logs crash the readers or keep them busy.

    python benchmarks/reader_mutations.py [--files 2000] [--seed 1]

Damages the fixtures of the tests (bytes changed, lines cut, doubled, torn and mixed with those of
other logs) and examines each; then reads one megabyte of each of some repeated tokens. Prints what
crashed, and the slowest.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from pathlib import Path

from watchstep.errors import LogUnreadableError
from watchstep.postmortem.examination import examine
from watchstep.postmortem.readers.discovery import open_logs

LOGS = Path(__file__).parents[1] / "tests" / "postmortem" / "logs"
MOST_BYTES = 20_000
TOKENS = (
    *("{", "[(", "loss: ", "loss=1 ", "1 ", "1.", "nan ", "nan", "-", "'", '"', "| ", "|", "#"),
    *("step 1 ", "epoch 1 step ", "1/2 ", "[1/", "loss after epoch ", "=", ":", ",", "\t", "\r"),
    *("Error: ", "is ", "2024-01-01 ", "00:00:", "1D+0", "1.5f-", "'s l2", "G_A: 1 D_A: ", "% "),
)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--files", type=int, default=2_000)
    arguments.add_argument("--seed", type=int, default=1)
    chosen = arguments.parse_args()
    source = random.Random(chosen.seed)
    seeds = [path.read_bytes()[:MOST_BYTES] for path in sorted(LOGS.rglob("*")) if path.is_file()]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.txt"
        took = [_seconds(path, damaged(source, seeds), f"file {at}") for at in range(chosen.files)]
        print(f"{chosen.files} damaged files: {sum(took):.0f} s in all, slowest {max(took):.2f} s")
        for end in ("", "\n"):
            for token in TOKENS:
                text = (token + end).encode() * (1_000_000 // len(token + end))
                print(f"1 MB of {token + end!r}: {_seconds(path, text, token):.2f} s")


def damaged(source: random.Random, seeds: list[bytes]) -> bytes:
    """A log with a few kinds of damage."""
    lines = source.choice(seeds).splitlines(keepends=True)
    other = source.choice(seeds).splitlines(keepends=True) or [b""]
    for _ in range(source.randint(1, 12)):
        at = source.randrange(len(lines)) if lines else 0
        line = bytearray(lines[at] if lines else b"")
        kind = source.randrange(6)
        if kind == 0 and line:
            line[source.randrange(len(line))] = source.randrange(256)
        elif kind == 1:
            line += source.choice(TOKENS).encode() * source.randint(1, 200)
        elif kind == 2 and line:
            del line[source.randrange(len(line)) :]
        elif kind == 3:
            line += source.choice(other)
        elif kind == 4:
            line *= source.randint(0, 4)
        else:
            source.shuffle(lines)
        lines[at : at + 1] = [bytes(line)]
    return b"".join(lines)


def _seconds(path: Path, content: bytes, name: str) -> float:
    path.write_bytes(content)
    begin = time.process_time()
    try:
        for log in open_logs([path]):
            examine(log, look_beside=False)
    except LogUnreadableError:
        pass
    except Exception as error:
        print(f"{name}: {error!r}")
    return time.process_time() - begin


if __name__ == "__main__":
    main()
