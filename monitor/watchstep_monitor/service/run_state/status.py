"""A run's status and health: what its trainer says, what its readings are, what a clock says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from watchstep.core.health import (
    JUDGED_ROLES,
    REPORTS_KEPT,
    REPORTS_TO_JUDGE,
    FiringAlert,
    Health,
    health_of,
)
from watchstep.core.roles import is_core
from watchstep.core.ruleset import RuleSet
from watchstep.core.updates import Update
from watchstep_monitor.service.ports import RunStatus
from watchstep_monitor.service.run_state.records import AlertRecord, RunRecord


@dataclass(slots=True)
class Liveness:
    """What silence is measured against; owned by the clock's thread, read by all.

    Attributes:
        up_since: When this process began to listen, or could store what it heard again: its
            own absence is no trainer's silence.
        timeout_s: Seconds of silence after which a running run is lost.
    """

    up_since: datetime
    timeout_s: float

    def last_heard(self, record: RunRecord, now: datetime) -> datetime:
        """When the run was last heard, or could first have been."""
        heard = record.heard_at or record.created_at
        # A moment that has yet to come is of a clock that was set back since.
        return max(heard, self.up_since) if heard <= now else self.up_since

    def silent_before(self, now: datetime) -> datetime | None:
        """Runs not heard since then are lost; None when the service is too young to say."""
        moment = now - timedelta(seconds=self.timeout_s)
        return moment if moment > self.up_since else None


def shown_status(record: RunRecord, now: datetime, hearing: Liveness) -> RunStatus:
    if record.status != "running":
        return record.status
    if now - hearing.last_heard(record, now) > timedelta(seconds=hearing.timeout_s):
        return "lost"
    return "running" if record.hung is None else "stalled"


_ALL_FINITE = "1" * REPORTS_KEPT


@dataclass(slots=True)
class Reports:
    """Of one attempt, what health is judged by beside alerts; see `watchstep.core.health`.

    Attributes:
        finite: For every core reading a character for each of its last reports, oldest first:
            "1" where it was finite, else "0".
        judged: Reports of every metric that a run can be judged by, while they are too few.
        is_enough: Whether one of them had enough.
    """

    finite: dict[str, str] = field(default_factory=dict)
    judged: dict[str, int] = field(default_factory=dict)
    is_enough: bool = False

    def take(self, rules: RuleSet, updates: Sequence[Update]) -> None:
        """Count updates that follow each other; of those with only finite readings all at once."""
        quiet: Counter[tuple[str, ...]] = Counter()
        for update in updates:
            readings = update.readings
            total = sum(readings.values())
            if total - total == 0.0:
                quiet[tuple(readings)] += 1
                continue
            self._flush(rules, quiet)
            for name, value in readings.items():
                self._count(rules, name, "1" if value - value == 0.0 else "0", 1)
        self._flush(rules, quiet)

    def _flush(self, rules: RuleSet, quiet: Counter[tuple[str, ...]]) -> None:
        for names, count in quiet.items():
            core, judging = _weighty(rules, names)
            for name in core:
                if self.finite.get(name) != _ALL_FINITE:
                    self._report(name, "1", count)
            if not self.is_enough:
                for name in judging:
                    self._judge_by(name, count)
        quiet.clear()

    def _count(self, rules: RuleSet, name: str, mark: str, count: int) -> None:
        is_core_reading, can_judge = _weight(rules, name)
        if is_core_reading:
            self._report(name, mark, count)
        if can_judge and not self.is_enough:
            self._judge_by(name, count)

    def _report(self, name: str, mark: str, count: int) -> None:
        row = self.finite.get(name, "") + mark * min(count, REPORTS_KEPT)
        self.finite[name] = row[-REPORTS_KEPT:]

    def _judge_by(self, name: str, count: int) -> None:
        self.judged[name] = self.judged.get(name, 0) + count
        self.is_enough = self.is_enough or self.judged[name] >= REPORTS_TO_JUDGE

    def snapshot(self) -> dict[str, Any]:
        """Everything, as plain JSON."""
        return {"finite": self.finite, "judged": self.judged, "is_enough": self.is_enough}

    @classmethod
    def restored(cls, snapshot: Mapping[str, Any]) -> Reports:
        """What `snapshot` wrote down; nothing of an empty one."""
        return cls(**{name: _copied(value) for name, value in snapshot.items()})


def health_now(sources: Iterable[Reports], firing: Iterable[AlertRecord]) -> Health:
    """The word for a run, with the alerts that fire."""
    reports = list(sources)
    alerts = [
        FiringAlert(alert.severity, alert.metric, alert.labels.get("stage", "")) for alert in firing
    ]
    # Rows of finite reports alone, which nearly all are, say nothing against a run.
    rows = (
        [mark == "1" for mark in row]
        for each in reports
        for row in each.finite.values()
        if "0" in row
    )
    return health_of(alerts, rows, judged=any(each.is_enough for each in reports))


def _copied(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value


@lru_cache(maxsize=256)
def _weighty(rules: RuleSet, names: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Of the names of an update those of core readings, and those a run can be judged by."""
    weights = [(name, *_weight(rules, name)) for name in names]
    return [name for name, core, _ in weights if core], [name for name, _, can in weights if can]


def _weight(rules: RuleSet, name: str) -> tuple[bool, bool]:
    """Whether a reading is a core one, and whether a run can be judged by it."""
    role = rules.role(name)
    return is_core(rules.canonical(name), role), role in JUDGED_ROLES
