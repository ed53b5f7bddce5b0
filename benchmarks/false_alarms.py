"""False alarms and catches on trainings of many kinds.

    python benchmarks/false_alarms.py [--seeds 0:2] [--folder F] [--only NAME] [--write PAGE]

Trains what the folder does not hold yet (`healthy_runs.py`: reinforcement learning through
Stable-Baselines3, and plain loops; some minutes a seed), judges every stream by the packs that
its user would have chosen, and prints what healthy runs raised, and what was caught of the
faulty ones and how many updates after the fault. Shares have Wilson intervals over runs.
Environments of MuJoCo are among them where its package is installed.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from healthy_runs import Training, make

from watchstep.core.engine import State, step
from watchstep.core.updates import Action
from watchstep.postmortem.readers import open_logs
from watchstep.rules import load

HARM = 1.2
"""A fault did harm if the median loss of 20 updates came to so many times what it was before."""


@dataclass(frozen=True)
class Firing:
    """An alert that began to fire."""

    rule: str
    severity: str
    action: Action
    update: int


@dataclass(frozen=True)
class Judged:
    """What the rules said of one run.

    Attributes:
        at: First update that the fault can show in; 0 in a healthy run.
        harmed: Whether the fault did any harm that can be measured.
    """

    training: Training
    seed: int
    updates: int
    at: int
    harmed: bool
    firings: tuple[Firing, ...]

    def lag(self, *severities: str) -> int | None:
        """Updates from the fault to the first alert after it; None where there is none."""
        found = [
            one.update - self.at
            for one in self.firings
            if one.severity in severities and one.update >= self.at
        ]
        return min(found, default=None)

    def raised(self, severity: str) -> bool:
        return any(one.severity == severity for one in self.firings)

    @property
    def halts(self) -> bool:
        return any(one.action >= Action.HALT for one in self.firings)


def judged(training: Training, seed: int, here: Path) -> Judged:
    """Fold the run's stream through the packs that its user would have chosen."""
    rules = load([training.packs, "generic"])
    state, firings, losses = State(rules), [], []
    for update in (update for log in open_logs([here]) for update in log.updates):
        state, found = step(rules, state, update)
        if update.readings:
            losses.append(update.readings.get("loss", 0.0))
        firings += [
            Firing(one.rule, str(one.severity), one.action, len(losses))
            for one in found
            if one.change == "firing"
        ]
    at = json.loads((here / "truth.json").read_text())["at"]
    harmed = bool(at) and (training.packs == "grpo" or harm(losses, at))
    return Judged(training, seed, len(losses), at, harmed, tuple(firings))


def harm(losses: Sequence[float], at: int) -> bool:
    """Whether the loss was lost or clearly worse for twenty updates in a row after `at`."""
    before, after = losses[max(0, at - 51) : at - 1], losses[at - 1 :]
    if any(loss - loss != 0.0 for loss in after):
        return True
    rows = range(0, max(len(after) - 19, 1), 5)
    return max(median(after[row : row + 20]) for row in rows) > HARM * max(median(before), 0.05)


def wilson(hits: int, total: int) -> str:
    """A share with its 95 % interval, as text."""
    z, share = 1.96, hits / total
    weight = 1 + z * z / total
    middle = (share + z * z / (2 * total)) / weight
    half = z / weight * math.sqrt(share * (1 - share) / total + (z / total / 2) ** 2)
    low, high = 100 * max(0.0, middle - half), 100 * min(1.0, middle + half)
    return f"{hits} of {total} ({low:.0f}-{high:.0f} %)"


def report(found: Sequence[Judged]) -> list[str]:
    """The tables, in Markdown."""
    healthy = [one for one in found if not one.at]
    return [
        *_alarms(healthy),
        "",
        *_rules(healthy),
        "",
        *_catches([one for one in found if one.at]),
    ]


def _alarms(healthy: Sequence[Judged]) -> list[str]:
    lines = [
        (
            "| Packs | healthy runs | updates | critical alert | halt | warning | "
            "warnings per 1,000 updates |"
        ),
        "|---|---|---|---|---|---|---|",
    ]
    for pack in sorted({one.training.packs for one in healthy}):
        mine = [one for one in healthy if one.training.packs == pack]
        updates = sum(one.updates for one in mine)
        loud = sum(each.severity == "warning" for one in mine for each in one.firings)
        shares = (
            sum(one.raised("critical") for one in mine),
            sum(one.halts for one in mine),
            sum(one.raised("warning") for one in mine),
        )
        told = " | ".join(wilson(share, len(mine)) for share in shares)
        rate = 1000 * loud / updates
        lines.append(f"| `{pack}` + `generic` | {len(mine)} | {updates:,} | {told} | {rate:.2f} |")
    return lines


def _rules(healthy: Iterable[Judged]) -> list[str]:
    runs: dict[tuple[str, str], set[str]] = defaultdict(set)
    for one in healthy:
        for each in one.firings:
            runs[each.severity, each.rule].add(f"{one.training.name} {one.seed}")
    order = ("critical", "warning", "info")
    rows = sorted(runs.items(), key=lambda row: (order.index(row[0][0]), -len(row[1])))
    return [
        "| On healthy runs | severity | runs | kinds |",
        "|---|---|---|---|",
        *(
            f"| {rule} | {severity} | {len(names)} | {_kinds(names)} |"
            for (severity, rule), names in rows
        ),
    ]


def _kinds(names: Iterable[str]) -> str:
    kinds = sorted({name.rsplit(" ", 1)[0] for name in names})
    return ", ".join(kinds[:5]) + (f" and {len(kinds) - 5} more" if len(kinds) > 5 else "")


def _catches(faulty: Sequence[Judged]) -> list[str]:
    lines = [
        (
            "| Fault | runs it harmed | critical alert after it | any alert | median lag, updates "
            "| runs it did not harm | critical alert |"
        ),
        "|---|---|---|---|---|---|---|",
    ]
    for fault in sorted({one.training.fault for one in faulty}):
        mine = [one for one in faulty if one.training.fault == fault]
        hurt = [one for one in mine if one.harmed]
        lags = [lag for one in hurt if (lag := one.lag("critical", "warning")) is not None]
        spared = [one for one in mine if not one.harmed]
        lines.append(
            f"| {fault} | {len(hurt)} | {sum(one.lag('critical') is not None for one in hurt)} "
            f"| {len(lags)} | {median(lags) if lags else '-'} "
            f"| {len(spared)} | {sum(one.lag('critical') is not None for one in spared)} |"
        )
    return lines


def write(page: Path, lines: Sequence[str]) -> None:
    """Put the tables between the marks of a page."""
    marks = "<!-- false alarms begin -->", "<!-- false alarms end -->"
    text = page.read_text(encoding="utf-8")
    between = "\n\n".join((marks[0], "\n".join(lines), marks[1]))
    pattern = f"{re.escape(marks[0])}.*{re.escape(marks[1])}"
    page.write_text(re.sub(pattern, lambda _: between, text, flags=re.S), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="0:2")
    temporary = Path(tempfile.gettempdir()) / "watchstep-trainings"
    parser.add_argument("--folder", type=Path, default=temporary)
    parser.add_argument("--only", default="", help="part of the names of what to train")
    parser.add_argument("--write", type=Path, help="page whose marked part to replace")
    chosen = parser.parse_args()
    low, high = (int(part) for part in chosen.seeds.split(":"))
    lines = report([judged(*row) for row in make(chosen.folder, range(low, high), chosen.only)])
    print("\n".join(lines))
    if chosen.write is not None:
        write(chosen.write, lines)


if __name__ == "__main__":
    main()
