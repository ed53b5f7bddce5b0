"""python -m benchmarks.judgement make|score: see README.md in this folder."""

from __future__ import annotations

import argparse
from pathlib import Path

HERE = Path(__file__).parent
RUNS = HERE / "runs"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.judgement")
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("make", help="train and break what the folder does not hold")
    making.add_argument("--size", choices=("small", "full"), default="small")
    making.add_argument("--out", type=Path, default=RUNS)
    making.add_argument("--only", default="", help="part of a run's name, such as cnn/")
    making.add_argument("--seconds", type=float, default=1e9, help="stop after so long")
    options = parser.parse_args()
    if options.command == "make":
        from benchmarks.judgement.making import make
        from benchmarks.judgement.trainers import trainers

        kinds = [kind for kind in trainers() if options.only.split("/")[0] in kind.name]
        made = make(kinds, options.out, options.size, options.only, options.seconds)
        print(f"{made} runs made")


if __name__ == "__main__":
    main()
