"""How much a diagnosis's confidence is worth, on real runs with known faults.

    python benchmarks/diagnosis_calibration.py [--seeds 40:46] [--folder F] [--write PAGE]

Makes the labelled runs that the folder does not hold yet (one to four minutes a seed on one
core), diagnoses each at its first alert, as the service does, and at its end, as a post-mortem
does, and prints calibration, scores and confusions. The weights and the two numbers of
`table.py` were fitted to even seeds below 8, and odd ones below 8 were looked at meanwhile; no
other seed was run before they were fixed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from labelled_runs import CASES, Case, make

from watchstep.core.diagnosis import NOT_ENOUGH, Cause, diagnose, signs, weigh
from watchstep.core.diagnosis.table import CAUSES, OFFSET, SLOPE
from watchstep.core.engine import RuleSet, State, step
from watchstep.core.updates import Tick, Transition, Update
from watchstep.postmortem.readers import open_logs
from watchstep.rules import load

KILLED_AFTER = 25
SEEN_SEEDS = range(8)
"""Seeds whose runs were at hand while weights were chosen; the even ones were fitted to."""
BINS = (0.0, 0.4, 0.6, 0.8, 0.9, 0.97, 1.0001)


@dataclass(frozen=True)
class Judged:
    """One diagnosis of one run, beside the truth.

    Attributes:
        when: "first alert" or "end".
        causes: What was told, most likely first.
        true: Slugs of what was wrong; empty for a healthy run and for faults without a name.
        logits: Weighed evidence of every cause that could be named, before calibration.
    """

    case: Case
    seed: int
    when: str
    causes: tuple[Cause, ...]
    true: frozenset[str]
    logits: dict[str, float]
    seen: dict[str, str]

    def right(self, name: str) -> bool:
        return not self.true if name == NOT_ENOUGH else name in self.true


def judged(rules: RuleSet, case: Case, seed: int, here: Path) -> Iterator[Judged]:
    """The run's diagnoses."""
    history = [update for log in open_logs([here]) for update in log.updates]
    truth = json.loads((here / "truth.json").read_text())
    true = frozenset(case.causes) | ({"frozen-after-spike"} if truth["frozen"] else set())
    run = (case, seed, true)
    if case.name == "killed":
        history = history[:KILLED_AFTER]
    state, alerts = State(rules), []
    first: int | None = None
    for at, update in enumerate(history):
        state, found = step(rules, state, update)
        alerts += [each for each in found if each.change == "firing"]
        if first is None and any(each.severity != "info" for each in alerts):
            first = at
            yield _judge(rules, run, "first alert", history[: at + 1], alerts)
    if case.name == "killed":
        last = history[-1].time
        state, found = step(rules, state, Tick(last + 1000.0, last))
        alerts += [each for each in found if each.change == "firing"]
    yield _judge(rules, run, "end", history, alerts)


def _judge(
    rules: RuleSet,
    run: tuple[Case, int, frozenset[str]],
    when: str,
    history: Sequence[Update],
    alerts: Sequence[Transition],
) -> Judged:
    case, seed, true = run
    seen = dict(signs(rules, history, alerts))
    logits = {
        entry.name: weigh(entry, seen)
        for entry in CAUSES
        if any(sign in seen for sign in entry.needs)
    }
    return Judged(case, seed, when, diagnose(rules, history, alerts), true, logits, seen)


def reliability(found: Iterable[Judged]) -> list[tuple[float, float, int, float, float]]:
    """For each bin of confidence: its edges, cases, mean confidence, share that was right."""
    told = [(cause.confidence, each.right(cause.name)) for each in found for cause in each.causes]
    rows = []
    for low, high in itertools.pairwise(BINS):
        mine = [(confidence, right) for confidence, right in told if low <= confidence < high]
        if mine:
            mean = sum(confidence for confidence, _ in mine) / len(mine)
            rows.append((low, high, len(mine), mean, sum(right for _, right in mine) / len(mine)))
    return rows


def brier(found: Iterable[Judged], *, first_only: bool) -> float:
    """Mean squared difference of confidence and truth; 0 is perfect, 0.25 a coin's."""
    squares = [
        (cause.confidence - each.right(cause.name)) ** 2
        for each in found
        for cause in (each.causes[:1] if first_only else each.causes)
    ]
    return sum(squares) / len(squares) if squares else math.nan


def fitted(found: Sequence[Judged]) -> tuple[float, float]:
    """Slope and offset that make the weighed evidence of these runs most likely (Platt)."""
    pairs = [(logit, name in each.true) for each in found for name, logit in each.logits.items()]
    slope, offset = 1.0, 0.0
    for _ in range(200):
        grad = [0.0, 0.0]
        hess = [1e-9, 0.0, 1e-9]
        for logit, right in pairs:
            p = 1.0 / (1.0 + math.exp(-max(min(slope * logit + offset, 30.0), -30.0)))
            miss, weight = p - right, p * (1.0 - p)
            grad[0] += miss * logit
            grad[1] += miss
            hess[0] += weight * logit * logit
            hess[1] += weight * logit
            hess[2] += weight
        det = hess[0] * hess[2] - hess[1] ** 2
        slope -= (hess[2] * grad[0] - hess[1] * grad[1]) / det
        offset -= (hess[0] * grad[1] - hess[1] * grad[0]) / det
    return slope, offset


def report(found: Sequence[Judged]) -> list[str]:
    """The results as Markdown."""
    lines = []
    for when in ("end", "first alert"):
        for name in ("untouched", "looked at", "fitted"):
            mine = [each for each in found if each.when == when and _seen(each.seed) == name]
            if not mine:
                continue
            lines += [
                "",
                f"### Diagnosed at the {when}, {name} runs ({len(mine)})",
                "",
                _scores(mine),
                "",
                "| confidence | told | mean confidence | right |",
                "|---|---|---|---|",
            ]
            lines += [
                f"| {low:.2f} to {min(high, 1.0):.2f} | {count} | {mean:.2f} | {right:.2f} |"
                for low, high, count, mean, right in reliability(mine)
            ]
    return [*lines, *_by_case(found)]


def _seen(seed: int) -> str:
    if seed not in SEEN_SEEDS:
        return "untouched"
    return "looked at" if seed % 2 else "fitted"


def _scores(mine: Sequence[Judged]) -> str:
    first = sum(each.right(each.causes[0].name) for each in mine) / len(mine)
    any_of = sum(any(each.right(c.name) for c in each.causes) for each in mine) / len(mine)
    return (
        f"First cause right: {first:.0%}. Right cause among those told: {any_of:.0%}."
        f" Brier score: {brier(mine, first_only=True):.3f} for the first cause,"
        f" {brier(mine, first_only=False):.3f} over all told."
    )


def _by_case(found: Sequence[Judged]) -> list[str]:
    lines = [
        "",
        "### By fault, at their end",
        "",
        "| fault | runs | first cause right | first causes told |",
        "|---|---|---|---|",
    ]
    for case in CASES:
        mine = [e for e in found if e.case is case and e.when == "end"]
        if mine:
            told = Counter(each.causes[0].name for each in mine)
            right = sum(each.right(each.causes[0].name) for each in mine)
            words = ", ".join(f"{name} {count}" for name, count in told.most_common())
            lines.append(f"| {case.name} | {len(mine)} | {right} | {words} |")
    kinds = [each for each in found if each.case.kind]
    named = [
        (each.case.kind, cause.kind)
        for each in kinds
        for cause in each.causes
        if cause.kind and each.right(cause.name)
    ]
    right = sum(kind == told for kind, told in named)
    told = f"{right} of {len(named)} right"
    return [*lines, "", f"Kind of wrong-sample normalisation, at both moments: {told} where named."]


def write(page: Path, lines: Sequence[str]) -> None:
    """Put the results between the page's two marks."""
    begin, end = "<!-- results begin -->", "<!-- results end -->"
    text = page.read_text(encoding="utf-8")
    block = "\n".join([begin, *lines, "", end])
    page.write_text(
        re.sub(f"{begin}.*{end}", lambda _: block, text, flags=re.DOTALL), encoding="utf-8"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    default = Path(tempfile.gettempdir()) / "watchstep-labelled-runs"
    parser.add_argument("--folder", type=Path, default=default)
    parser.add_argument("--seeds", default="0:2", help="first:end, end excluded")
    parser.add_argument("--write", type=Path, help="a page with result marks to fill in")
    parser.add_argument("--wrong", action="store_true", help="print what was judged wrongly")
    options = parser.parse_args()
    torch.set_num_threads(1)
    first, end = map(int, options.seeds.split(":"))
    rules = load(["ppo", "generic"])
    found: list[Judged] = []
    for case, seed, here in make(options.folder, range(first, end)):
        found += judged(rules, case, seed, here)
    lines = report(found)
    print("\n".join(lines))
    mine = [each for each in found if _seen(each.seed) == "fitted"]
    if mine:
        slope, offset = fitted(mine)
        print(f"\nfit: SLOPE {slope:.2f}, OFFSET {offset:.2f} (in use {SLOPE}, {OFFSET})")
    if options.wrong:
        for each in found:
            if not each.right(each.causes[0].name):
                told = ", ".join(f"{c.name} {c.confidence}" for c in each.causes)
                print(f"{each.case.name}-{each.seed} {each.when}: {told}\n    {sorted(each.seen)}")
    if options.write:
        write(options.write, lines)


if __name__ == "__main__":
    main()
