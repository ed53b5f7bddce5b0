"""How a rule has done: over labelled logs before it was shipped, and over the runs in the store."""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import math
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from watchstep.core.rules import Rule
from watchstep_monitor.service.clock import rfc3339
from watchstep_monitor.service.run_service import Projects, RunService
from watchstep_monitor.service.run_state.records import AlertRecord, all_items
from watchstep_monitor.service.run_state.status import shown_status
from watchstep_monitor.service.run_state.storage import AlertFilter, RunFilter

FIGURES = "backtest.json"
"""Written by `docs/make_backtest.py`, which needs the labelled logs."""

MOST_ALERTS = 5_000
"""Newest alerts that are looked at; older ones say little about the rules of today."""

ROWS_A_READ = 1_000
FRESH_S = 30.0
"""Age up to which what was counted is used again: nothing hangs on the newest alert here."""

_BAD = frozenset({"failed", "halted", "stalled", "lost"})


def mark_of(rule: Rule) -> str:
    """Changes with whatever makes the rule judge otherwise; its texts and action do not."""
    judging = (
        *(rule.expr, rule.severity, rule.hold, rule.keep, rule.clear, rule.unless, rule.warmup),
        *(rule.on_nan, sorted(rule.where.items())),
    )
    return hashlib.blake2b(repr(judging).encode(), digest_size=8).hexdigest()


def backtested(rules: Iterable[Rule]) -> dict[str, Any]:
    """The shipped figures of those rules that are still as they were when they were counted."""
    shipped = _shipped()
    figures: Mapping[str, Mapping[str, Any]] = shipped["rules"]
    return {
        "logs": shipped["logs"],
        "healthy_updates": shipped["healthy_updates"],
        "rules": {rule.name: figures[mark] for rule in rules if (mark := mark_of(rule)) in figures},
    }


@functools.cache
def _shipped() -> Any:
    return json.loads(files("watchstep_monitor.web").joinpath(FIGURES).read_text("utf-8"))


@dataclass(frozen=True, slots=True)
class _Firing:
    rule: str
    run: str
    project: str
    at: str
    bad: bool


class RuleHistory:
    """What the rules did over the runs in the store. Thread-safe."""

    def __init__(self, run_service: RunService) -> None:
        self._run_service = run_service
        self._lock = threading.Lock()
        self._counted_at = -math.inf
        self._firings: list[_Firing] = []

    def here(self, projects: Projects) -> dict[str, dict[str, Any]]:
        """By rule: in how many runs it fired, how many of these went badly, and when last."""
        record: dict[str, dict[str, Any]] = {}
        runs: dict[str, set[str]] = {}
        for firing in self._all():
            if projects is not None and firing.project not in projects:
                continue
            counts = record.setdefault(firing.rule, {"runs": 0, "bad": 0, "last_at": firing.at})
            if firing.run not in runs.setdefault(firing.rule, set()):
                runs[firing.rule].add(firing.run)
                counts["runs"] += 1
                counts["bad"] += firing.bad
        return record

    def _all(self) -> list[_Firing]:
        with self._lock:
            now = self._run_service.clock.monotonic()
            if now - self._counted_at > FRESH_S:
                self._firings = self._counted()
                self._counted_at = now
            return self._firings

    def _counted(self) -> list[_Firing]:
        alerts = list(self._newest())
        bad = self._bad_runs()
        return [
            _Firing(alert.rule, alert.run, alert.project, rfc3339(alert.since), alert.run in bad)
            for alert in alerts
            if alert.state != "pending"
        ]

    def _newest(self) -> Iterable[AlertRecord]:
        read = functools.partial(self._run_service.store.alerts, AlertFilter(), ROWS_A_READ)
        return itertools.islice(all_items(read), MOST_ALERTS)

    def _bad_runs(self) -> set[str]:
        now, hearing = self._run_service.clock.now(), self._run_service.policy.hearing
        read = functools.partial(self._run_service.store.runs, RunFilter(), ROWS_A_READ)
        return {
            record.run
            for record in all_items(read)
            if record.health == "diverged" or shown_status(record, now, hearing) in _BAD
        }
