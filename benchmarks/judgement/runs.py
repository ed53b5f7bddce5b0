"""A run on disk: `updates.jsonl` and `truth.json` in a folder of its own.

A run that an exception ended has a last line with nothing but `failure`, its text. This is the
bench's public format, so that other tools can be scored on the same runs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.judgement.cases import Recording
from watchstep.wire.text import number_from_json, number_to_json


@dataclass(frozen=True)
class Truth:
    """What is true of a run.

    Attributes:
        fault: What was broken; None in a healthy run.
        fault_from_update: First update in which it acts, from 1; 0 in a healthy run.
        harm: Whether the run ended clearly worse than its healthy twin, or with a metric of the
            chain at 1,000 times what the twin's ever was.
        lost: Whether it ended no better than it began, or not finite.
        chain: Names of the metrics that the fault works through, as the run logs them.
        cause: Slug of the right cause; "" where no log can tell it.
        detail: Which of several ways to the same cause.
        half: "choose" or "measure": thresholds and weights are chosen on the first half only.
        start, outcome, twin_outcome: Quality before, after, and after the healthy twin; lower
            is better. None where it is not finite.
        evidence_update: First update in which the chain differs from the twin's.
        grown_update: First update in which one of the chain is 1,000 times what the twin's
            ever was; None where none is.
    """

    trainer: str
    algorithm: str
    family: str
    seed: int
    variant: str
    half: str
    fault: str | None = None
    fault_from_update: int = 0
    size: float = 1.0
    harm: bool = False
    lost: bool = False
    chain: tuple[str, ...] = ()
    cause: str = ""
    detail: str = ""
    start: float | None = None
    outcome: float | None = None
    twin_outcome: float | None = None
    evidence_update: int | None = None
    grown_update: int | None = None
    updates: int = 0


@dataclass(frozen=True)
class Run:
    """A run that was made: what it logged, and the truth.

    Attributes:
        updates: One object an update: step, attempt, metrics, and the readings of a hook.
        failure: The exception that ended it; "" without one.
    """

    name: str
    truth: Truth
    updates: Sequence[Mapping[str, Any]]
    failure: str = ""


def write(folder: Path, truth: Truth, recording: Recording) -> None:
    """Keep a run. The truth is written last: a folder that has it is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(worded(update)) for update in recording.updates]
    if recording.failure:
        lines.append(json.dumps({"failure": recording.failure}))
    (folder / "updates.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    text = json.dumps(asdict(truth), indent=1)
    (folder / "truth.json").write_text(text + "\n", encoding="utf-8")


def read(folder: Path, root: Path | None = None) -> Run:
    """A run that `write` kept."""
    document = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    document["chain"] = tuple(document["chain"])
    lines = (folder / "updates.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    failure = rows.pop()["failure"] if rows and "failure" in rows[-1] else ""
    name = str(folder.relative_to(root or folder.parent))
    return Run(name, Truth(**document), [_numbered(row) for row in rows], failure)


def with_hook(run: Run) -> Run:
    """The run as watchstep's hook would log it: with the readings of its guard.

    They belong to the chain of every fault that works through gradients.
    """
    updates = [{**row, "metrics": {**row.get("hook", {}), **row["metrics"]}} for row in run.updates]
    added = dict.fromkeys(name for row in run.updates for name in row.get("hook", {}))
    is_slow_alone = run.truth.fault == "slowdown"
    chain = run.truth.chain if is_slow_alone else (*run.truth.chain, *added)
    return replace(run, updates=updates, truth=replace(run.truth, chain=chain))


def runs_below(root: Path) -> Iterator[Run]:
    """Every complete run below a folder, by name."""
    for truth in sorted(root.rglob("truth.json")):
        yield read(truth.parent, root)


def finite_or_none(value: float) -> float | None:
    """A number as JSON can hold it."""
    return value if math.isfinite(value) else None


def worded(update: Mapping[str, Any]) -> dict[str, Any]:
    """An update as JSON has it: numbers that are not finite are words."""
    return _with_numbers(update, number_to_json)


def _numbered(update: Mapping[str, Any]) -> dict[str, Any]:
    return _with_numbers(update, number_from_json)


def _with_numbers(update: Mapping[str, Any], convert: Callable[[Any], Any]) -> dict[str, Any]:
    parts = {
        part: {name: convert(value) for name, value in update.get(part, {}).items()}
        for part in ("metrics", "hook")
    }
    return {**update, **parts}
