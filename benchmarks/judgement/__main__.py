"""python -m benchmarks.judgement make|score|fit: see README.md in this folder."""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.judgement.answer import Answer
    from benchmarks.judgement.runs import Run

HERE = Path(__file__).parent
RUNS = HERE / "runs"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.judgement")
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("make", help="train and break what the folder does not hold")
    making.add_argument("--size", choices=("small", "full"), default="small")
    making.add_argument("--out", type=Path, default=RUNS)
    making.add_argument("--only", default="", help="part of a run's name, such as cnn/")
    making.add_argument("--jobs", type=int, default=1, help="processes")
    making.add_argument("--seconds", type=float, default=1e9, help="stop after so long")
    scoring = commands.add_parser("score", help="hold a tool's answers against the truth")
    scoring.add_argument("runs", type=Path, nargs="?", default=RUNS)
    scoring.add_argument("--half", choices=("choose", "measure"), help="all runs without it")
    scoring.add_argument("--only", default="", help="part of a run's name, such as cnn/")
    scoring.add_argument("--tool", default="watchstep", help="or MODULE:FUNCTION, see README.md")
    scoring.add_argument("--json", type=Path, help="write the figures and every run's answer")
    scoring.add_argument("--write", type=Path, help="page whose marked part to replace")
    fitting = commands.add_parser("fit", help="fit the diagnosis's two numbers, on `choose` alone")
    fitting.add_argument("runs", type=Path, nargs="?", default=RUNS)
    options = parser.parse_args()
    if options.command == "make":
        _make(options)
    elif options.command == "fit":
        _fit(options)
    else:
        _score(options)


def _make(options: argparse.Namespace) -> None:
    from benchmarks.judgement.making import make
    from benchmarks.judgement.trainers import trainers

    wanted = options.only.split("/")[0] if "/" in options.only else ""
    kinds = [kind for kind in trainers() if wanted in kind.name]
    spawning = multiprocessing.get_context("spawn")
    # Each process has its own trainers, so that none makes another's twin.
    processes = [
        spawning.Process(
            target=make,
            args=(kinds[job :: options.jobs], options.out, options.size),
            kwargs={"only": options.only, "seconds": options.seconds},
        )
        for job in range(options.jobs)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()


def _fit(options: argparse.Namespace) -> None:
    from benchmarks.judgement import calibration, runs

    chosen = (run for run in runs.runs_below(options.runs) if run.truth.half == "choose")
    print("SLOPE, NOTHING =", calibration.table_numbers(chosen))


def _score(options: argparse.Namespace) -> None:
    from benchmarks.judgement import report, runs, scoring

    tool = _tool(options.tool)
    chosen = [
        run
        for run in runs.runs_below(options.runs)
        if options.half in {None, run.truth.half} and options.only in run.name
    ]
    by_log = [scoring.scored(run, tool(run)) for run in chosen]
    by_hook = [scoring.scored(run, tool(run)) for run in map(runs.with_hook, chosen)]
    for word, scores in (("The log alone", by_log), ("With the hook's readings", by_hook)):
        print(f"# {word}\n", *report.lines(scores), sep="\n", end="\n\n")
    if options.json is not None:
        document = {"log": report.document(by_log), "hook": report.document(by_hook)}
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    if options.write is not None:
        _replace(options.write, "\n".join(report.page(by_log, by_hook)))


def _tool(name: str) -> Callable[[Run], Answer]:
    module, _, function = name.partition(":")
    if module == "watchstep":
        module, function = "benchmarks.judgement.answer", "answer"
    tool: Callable[[Run], Answer] = getattr(importlib.import_module(module), function)
    return tool


def _replace(page: Path, text: str) -> None:
    """Put the tables between the marks of a page."""
    begin, end = "<!-- judgement begin -->", "<!-- judgement end -->"
    before, rest = page.read_text(encoding="utf-8").split(begin)
    after = rest.split(end)[1]
    page.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
