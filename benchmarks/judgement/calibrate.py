"""Fits what a diagnosis's confidence is worth, and says it of runs that nothing was chosen by.

    python -m benchmarks.judgement.calibrate [RUNS] [--write docs/diagnosis.md]

Every harmful fault with a cause that a log can tell is diagnosed twice: ten updates after its
first evidence, as the service does, and at its end, as a post-mortem does. `SLOPE` and `NOTHING` of
`watchstep.core.diagnosis.table` are those that make the truth of the half "choose" most likely; the
weights are set by hand. Figures are of the half "measure", with the numbers that are in the table.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.judgement.runs import Run, Truth, runs_below
from watchstep.core.diagnosis import scores, signs
from watchstep.core.diagnosis.table import NOTHING, SLOPE
from watchstep.core.engine import RuleSet
from watchstep.core.updates import Update
from watchstep.rules import load

SLOPES = [each / 10 for each in range(4, 21)]
NOTHINGS = [each / 2 for each in range(-3, 4)]
BINS = (0.0, 0.4, 0.6, 0.8, 0.9, 1.0001)
HISTORY, AFTER_EVIDENCE = 300, 10
BEGIN, END = "<!-- calibration begin -->", "<!-- calibration end -->"
Numbers = tuple[float, float]


@dataclass(frozen=True)
class Case:
    """One diagnosis of one run.

    Attributes:
        when: "early" or "end".
        scores: Of every cause that could be named.
    """

    truth: Truth
    when: str
    scores: dict[str, float]

    def first(self, numbers: Numbers) -> tuple[str, float]:
        """The first cause and its confidence; "" and that of nothing where that is likelier."""
        slope, nothing = numbers
        logits = {"": nothing} | {name: slope * score for name, score in self.scores.items()}
        highest = max(logits.values())
        whole = sum(math.exp(logit - highest) for logit in logits.values())
        name = max(logits, key=lambda name: logits[name])
        return name, math.exp(logits[name] - highest) / whole

    def likelihood(self, numbers: Numbers) -> float:
        """Logarithm of what is said of the truth; of nothing, where its cause was no candidate."""
        slope, nothing = numbers
        logits = {"": nothing} | {name: slope * score for name, score in self.scores.items()}
        highest = max(logits.values())
        whole = sum(math.exp(logit - highest) for logit in logits.values())
        return logits.get(self.truth.cause, nothing) - highest - math.log(whole)


def cases(rules: RuleSet, root: Path) -> list[Case]:
    """Both diagnoses of every harmful fault whose cause a log can tell."""
    rows = []
    for run in runs_below(root):
        if not run.truth.harm or not run.truth.cause:
            continue
        for when, updates in _moments(run):
            seen = signs(rules, updates[-HISTORY:], ())
            rows.append(Case(run.truth, when, scores(seen)))
    return rows


def _moments(run: Run) -> Iterable[tuple[str, list[Update]]]:
    updates: list[Update] = []
    seqs: Counter[int] = Counter()
    for number, row in enumerate(run.updates, start=1):
        seqs[row["attempt"]] += 1
        attempt = row["attempt"]
        update = Update(seqs[attempt], row["step"], float(number), row["metrics"], None, attempt)
        updates.append(update)
    if run.truth.evidence_update is not None:
        yield "early", updates[: run.truth.evidence_update + AFTER_EVIDENCE - 1]
    if run.failure:
        event = {"kind": "failed", "error": run.failure}
        attempt = max(seqs, default=1)
        updates.append(Update(seqs[attempt] + 1, 0, 0.0, {}, event, attempt))
    yield "end", updates


def fitted(rows: Sequence[Case]) -> Numbers:
    """Slope and the score of nothing that make the truth most likely."""
    return max(
        itertools.product(SLOPES, NOTHINGS),
        key=lambda numbers: sum(row.likelihood(numbers) for row in rows),
    )


def brier(rows: Sequence[Case], numbers: Numbers) -> float:
    """Of the causes that are named first."""
    squares = [
        (confidence - (name == row.truth.cause)) ** 2
        for row in rows
        for name, confidence in [row.first(numbers)]
        if name
    ]
    return sum(squares) / len(squares) if squares else math.nan


def left_out(rows: Sequence[Case], group: Callable[[Case], str]) -> float:
    """Brier score where each group's numbers are fitted to all the others."""
    names = sorted({group(row) for row in rows})
    weighed = []
    for name in names:
        mine = [row for row in rows if group(row) == name]
        score = brier(mine, fitted([row for row in rows if group(row) != name]))
        named = sum(bool(row.first((SLOPE, NOTHING))[0]) for row in mine)
        if not math.isnan(score):
            weighed.append((score * named, named))
    total = sum(named for _, named in weighed)
    return sum(square for square, _ in weighed) / total if total else math.nan


def lines(rows: Sequence[Case], title: str) -> list[str]:
    """One table."""
    numbers = SLOPE, NOTHING
    firsts = [(*row.first(numbers), row) for row in rows]
    right = sum(name == row.truth.cause for name, _, row in firsts)
    abstained = sum(not name for name, _, _ in firsts)
    said = [
        f"### {title} ({len(rows)} diagnoses)",
        "",
        (
            f"First cause right: {right / len(rows):.0%}. Nothing named:"
            f" {abstained / len(rows):.0%}. Brier score of what was named:"
            f" {brier(rows, numbers):.3f}."
        ),
        "",
        "| confidence | named | mean confidence | right |",
        "|---|---|---|---|",
    ]
    for low, high in itertools.pairwise(BINS):
        mine = [
            (confidence, name == row.truth.cause)
            for name, confidence, row in firsts
            if name and low <= confidence < high
        ]
        if mine:
            mean = sum(confidence for confidence, _ in mine) / len(mine)
            hits = sum(hit for _, hit in mine) / len(mine)
            said.append(
                f"| {low:.2f} to {min(high, 1):.2f} | {len(mine)} | {mean:.2f} | {hits:.2f} |"
            )
    return [*said, ""]


def by_fault(rows: Sequence[Case]) -> list[str]:
    """What was named for each fault at its end."""
    said = ["| fault | right cause | first causes named |", "|---|---|---|"]
    for fault in sorted({str(row.truth.fault) for row in rows}):
        mine = [row for row in rows if row.truth.fault == fault]
        named = Counter(row.first((SLOPE, NOTHING))[0] or "none" for row in mine)
        words = ", ".join(f"{name} {count}" for name, count in named.most_common())
        said.append(f"| {fault} | {mine[0].truth.cause} | {words} |")
    return [*said, ""]


def main() -> None:
    """Print, and write into a page where asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.judgement.calibrate")
    parser.add_argument("runs", type=Path, nargs="?", default=Path(__file__).parent / "runs")
    parser.add_argument("--write", type=Path, help="page whose marked part to replace")
    options = parser.parse_args()
    rows = cases(load(["generic"]), options.runs)
    choose = [row for row in rows if row.truth.half == "choose"]
    measure = [row for row in rows if row.truth.half == "measure"]
    print(f"fitted to {len(choose)} diagnoses: SLOPE, NOTHING = {fitted(choose)}")
    text = []
    for when, words in (
        ("end", "At the end of a run"),
        ("early", "Ten updates after the first evidence"),
    ):
        text += lines([row for row in measure if row.when == when], words)
    for word, group in (("trainer", _trainer), ("fault", _fault)):
        text.append(
            f"Brier with each {word} calibrated on the others: {left_out(rows, group):.3f}."
        )
    text += ["", *by_fault([row for row in measure if row.when == "end"])]
    print("\n".join(text))
    if options.write is not None:
        before, rest = options.write.read_text(encoding="utf-8").split(BEGIN)
        page = f"{before}{BEGIN}\n\n" + "\n".join(text) + f"\n{END}{rest.split(END)[1]}"
        options.write.write_text(page, encoding="utf-8")


def _trainer(row: Case) -> str:
    return row.truth.trainer


def _fault(row: Case) -> str:
    return str(row.truth.fault)


if __name__ == "__main__":
    main()
