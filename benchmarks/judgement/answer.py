"""What a monitor says of a run. `answer` is watchstep, through its post-mortem as a user has it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.judgement.runs import Run, worded

ABSTAINS = "not-enough-evidence"
"""The cause by which watchstep says that it cannot tell."""


@dataclass(frozen=True)
class Alert:
    """One rule that began to fire.

    Attributes:
        metric: The metric it speaks of, as the run logs it; "" where it speaks of none.
        severity: "info", "warning" or "critical".
        update: Where it first fired, counted from 1.
    """

    rule: str
    metric: str
    severity: str
    update: int


@dataclass(frozen=True)
class Answer:
    """All that is scored of a tool.

    Attributes:
        verdict: In the tool's own words; only shown.
        causes: Slugs with their confidence, likeliest first; empty where it names none.
        pack: By what rules it judged; only shown.
        halted: Whether it would have stopped the training.
        judged: False where it says that it cannot tell.
    """

    alerts: tuple[Alert, ...] = ()
    verdict: str = ""
    causes: tuple[tuple[str, float], ...] = ()
    pack: str = ""
    halted: bool = False
    judged: bool = True


def answer(run: Run) -> Answer:
    """What watchstep's post-mortem says of the run's log, with the packs that it chooses."""
    from watchstep.postmortem.examination import examine

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "updates.jsonl"
        path.write_text("".join(f"{json.dumps(row)}\n" for row in _rows(run)), encoding="utf-8")
        examination = examine(_opened(path), look_beside=False)
        alerts = _alerts(run, examination.rule_set, _opened(path).updates)
    causes = [(cause.name, cause.confidence) for cause in examination.causes]
    return Answer(
        alerts,
        examination.verdict,
        () if causes and causes[0][0] == ABSTAINS else tuple(causes),
        "+".join(examination.packs),
        examination.halt_update is not None,
        examination.verdict != "unjudged",
    )


def _alerts(run: Run, rules: Any, updates: Iterable[Any]) -> tuple[Alert, ...]:
    """What fired, in the update in which it began to: an examination has only its first sign."""
    from watchstep.core.engine import State, step

    names: dict[str, str] = {}
    for update in run.updates:
        for name in update["metrics"]:
            names.setdefault(rules.canonical(name), name)
    state, alerts = State(rules), {}
    for update in updates:
        state, transitions = step(rules, state, update)
        for each in transitions:
            metric = getattr(each, "subject", "") or each.metric
            key = (each.rule, names.get(metric, metric), str(each.severity))
            if each.change == "firing" and key not in alerts:
                alerts[key] = Alert(*key, each.step)
    return tuple(alerts.values())


def _opened(path: Path) -> Any:
    from watchstep.postmortem.readers import open_logs

    (log,) = open_logs([path])
    return log


def _rows(run: Run) -> Iterator[dict[str, Any]]:
    """The run as an `updates.jsonl` of watchstep's own; a step is an update's number."""
    seq = {1: 0, 2: 0}
    number = attempt = 1
    for number, update in enumerate(run.updates, start=1):
        attempt = update["attempt"]
        seq[attempt] += 1
        yield {
            "seq": seq[attempt],
            "attempt": attempt,
            "step": number,
            "time": float(number),
            "metrics": worded(update)["metrics"],
        }
    if run.failure:
        yield {
            "seq": seq[attempt] + 1,
            "attempt": attempt,
            "step": number + 1,
            "time": number + 1.0,
            "metrics": {},
            "event": {"kind": "failed", "error": run.failure},
        }
