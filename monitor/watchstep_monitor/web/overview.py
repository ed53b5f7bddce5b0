"""The list of runs as the page shows it: searched, filtered, sorted, page by page."""

from __future__ import annotations

import functools
import math
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from watchstep_monitor.service.clock import rfc3339
from watchstep_monitor.service.errors import NotFoundError
from watchstep_monitor.service.ports import RunStatus
from watchstep_monitor.service.run_service import Projects, RunService
from watchstep_monitor.service.run_state.records import (
    SEVERITIES,
    STAGES,
    IncidentRecord,
    RunRecord,
    all_items,
)
from watchstep_monitor.service.run_state.status import shown_status
from watchstep_monitor.service.run_state.storage import RunFilter

FRESH_S = 1.0
"""Age up to which the list of all runs is used again: many browsers ask at once."""

WHOLE_S = 60.0
"""Between two readings of all rows, however little seems to have changed."""

ROWS_A_READ = 1_000
ROWS_A_LOOK = 50
MOST_INCIDENTS = 2_000
"""Newest incidents looked at for open ones; older ones show in their runs' statuses."""

MOST_BY_METRIC = 1_000
"""Runs whose readings are looked up to sort by a metric, newest heard of first."""

_TROUBLE = {"failed": 3, "lost": 2, "stalled": 2, "halted": 1}
_ILLNESS = {"diverged": 3, "exploded": 2, "suspicious": 1}
_PROJECTS_SHOWN = 200

Place = tuple[int, float, str]
"""What sorts: numbers, then what is no number, then texts; what is missing comes last."""

_MISSING: Place = (3, 0.0, "")


@dataclass(frozen=True, slots=True)
class Question:
    """What a person wants to see of the list.

    Attributes:
        words: All must occur, in any case, in a run's name, project, trainer or tags.
        tags: "name=value", or "name" for any value; all must fit.
        columns: Further ones: "metric:NAME", "config:NAME" or "tag:NAME".
        sort: "attention", "heard", "name", "status", "health", "step", "started", or a column.
        hold: Names of the rows that are on the screen and stay where they are.
        number: Page, from 1.
        size: Rows of a page.
    """

    words: tuple[str, ...] = ()
    status: str | None = None
    health: str | None = None
    project: str | None = None
    tags: tuple[str, ...] = ()
    archived: bool = False
    columns: tuple[str, ...] = ()
    sort: str = "attention"
    descending: bool = False
    hold: tuple[str, ...] = ()
    number: int = 1
    size: int = 50


class Overview:
    """Answers questions about all runs. Thread-safe."""

    def __init__(self, run_service: RunService) -> None:
        self._run_service = run_service
        self._lock = threading.Lock()
        self._read_at = self._read_whole_at = -math.inf
        self._records: dict[str, RunRecord] = {}
        self._incidents: dict[str, IncidentRecord] = {}

    def answer(self, question: Question, projects: Projects) -> dict[str, Any]:
        """One page of rows, with how many runs there are of each status.

        Args:
            projects: What the caller may see; None for everything.
        """
        now, hearing = self._run_service.clock.now(), self._run_service.policy.hearing
        records, incidents = self._archived() if question.archived else self._all()
        visible = [each for each in records if projects is None or each.project in projects]
        statuses = {record.run: shown_status(record, now, hearing) for record in visible}
        fitting = [record for record in visible if _fits(record, question)]
        counts = Counter(statuses[record.run] for record in fitting)
        if question.health is not None:
            fitting = [record for record in fitting if record.health == question.health]
        if question.status is not None:
            fitting = [each for each in fitting if statuses[each.run] == question.status]
        self._sort(fitting, statuses, incidents, question)
        first = (question.number - 1) * question.size
        rows = page = fitting[first : first + question.size]
        if question.hold:
            by_name = {record.run: record for record in visible}
            rows = [by_name[run] for run in question.hold if run in by_name]
        held = [record.run for record in rows]
        sorted_anew = [record.run for record in page]
        return {
            "items": [
                self._row(record, statuses[record.run], incidents.get(record.run), question.columns)
                for record in rows
            ],
            "new": len(set(sorted_anew) - set(held)),
            "moved": [run for run in sorted_anew if run in held] != held,
            "total": len(fitting),
            "page": question.number,
            "pages": max(1, -(-len(fitting) // question.size)),
            "counts": dict(counts),
            "open_incidents": sum(record.run in incidents for record in visible),
            "projects": sorted({record.project for record in visible})[:_PROJECTS_SHOWN],
        }

    def columns(self, runs: Iterable[str], projects: Projects) -> list[str]:
        """The columns that some of the runs could fill; see `Question.columns`."""
        names: set[str] = set()
        for run in runs:
            try:
                view = self._run_service.view(run, projects)
            except NotFoundError:
                continue
            names |= {f"metric:{name}" for name in view.latest}
            names |= {f"tag:{name}" for name in view.record.tags}
            names |= {f"config:{name}" for name in _flat("", view.record.config)}
        return sorted(names)

    def _archived(self) -> tuple[list[RunRecord], dict[str, IncidentRecord]]:
        archived = RunFilter(archived=True)
        read = functools.partial(self._run_service.store.runs, archived, ROWS_A_READ)
        return list(all_items(read)), {}

    def _all(self) -> tuple[list[RunRecord], dict[str, IncidentRecord]]:
        with self._lock:
            now = self._run_service.clock.monotonic()
            if now - self._read_at > FRESH_S:
                whole = now - self._read_whole_at > WHOLE_S
                self._records = self._newest(whole=whole)
                # Read after the runs: an incident of an unknown run would have no row.
                self._incidents = {each.run: each for each in _open_incidents(self._run_service)}
                self._read_at = self._run_service.clock.monotonic()
                self._read_whole_at = self._read_at if whole else self._read_whole_at
            return list(self._records.values()), self._incidents

    def forget(self) -> None:
        """Read all rows anew at the next question: somebody put runs away."""
        with self._lock:
            self._read_at = self._read_whole_at = -math.inf

    def _newest(self, *, whole: bool) -> dict[str, RunRecord]:
        """All runs, newest heard of first; reads on until a stretch of them has not changed.

        What changes a run nearly always makes it the newest heard of. The few other changes
        (someone asked for a halt) are seen when all of it is read again.
        """
        before = self._records
        fresh: dict[str, RunRecord] = {}
        size, cursor = ROWS_A_READ if whole or not before else ROWS_A_LOOK, None
        while True:
            page = self._run_service.store.runs(RunFilter(archived=False), size, cursor)
            fresh |= {record.run: record for record in page.items}
            cursor = page.next_cursor
            if cursor is None:
                return fresh
            if not whole and all(_is_same(record, before) for record in page.items):
                return fresh | {run: row for run, row in before.items() if run not in fresh}

    def _sort(
        self,
        records: list[RunRecord],
        statuses: Mapping[str, RunStatus],
        incidents: Mapping[str, IncidentRecord],
        question: Question,
    ) -> None:
        """Put records in order, in place. Python's sort is stable: newest heard of comes first."""
        sort = question.sort
        if sort == "heard":
            if question.descending:
                records.reverse()
            return
        if sort == "attention":
            records.sort(
                key=lambda each: _urgency(each, statuses[each.run], incidents.get(each.run)),
                reverse=True,
            )
            return
        if sort.startswith("metric:"):
            # Those that are not looked up stay behind, as if they had no such metric.
            looked_up = {record.run for record in records[:MOST_BY_METRIC]}
            places = {
                record.run: _place(self._cell(record, sort) if record.run in looked_up else None)
                for record in records
            }
        else:
            simple: dict[str, Callable[[RunRecord], Any]] = {
                "name": lambda record: record.run,
                "status": lambda record: statuses[record.run],
                "health": lambda record: record.health,
                "step": lambda record: record.step,
                "started": lambda record: record.created_at.timestamp(),
            }
            value = simple.get(sort)
            places = {
                record.run: _place(value(record) if value else self._cell(record, sort))
                for record in records
            }
        records.sort(key=lambda record: places[record.run], reverse=question.descending)
        # Whichever way round, what has no value comes last.
        records.sort(key=lambda record: places[record.run] == _MISSING)

    def _cell(self, record: RunRecord, column: str) -> Any:
        kind, _, name = column.partition(":")
        if kind == "tag":
            return record.tags.get(name)
        if kind == "config":
            return _flat("", record.config).get(name)
        try:
            return self._run_service.view(record.run, None).latest.get(name)
        except NotFoundError:  # Deleted in the meantime.
            return None

    def _row(
        self,
        record: RunRecord,
        status: str,
        incident: IncidentRecord | None,
        columns: Sequence[str],
    ) -> dict[str, Any]:
        return {
            "run": record.run,
            "project": record.project,
            "status": status,
            "health": record.health,
            "attempt": record.attempt,
            "step": record.step,
            "last_seq": record.last_seq,
            "tags": dict(record.tags),
            "trainer": record.trainer,
            "created_at": rfc3339(record.created_at),
            "heard_at": record.heard_at and rfc3339(record.heard_at),
            "ended": record.ended_at is not None,
            "trainer_did": record.trainer_did,
            "error": record.error,
            "columns": {column: self._cell(record, column) for column in columns},
            "incident": None
            if incident is None
            else {
                "id": incident.id,
                "stage": incident.stage,
                "severity": incident.worst,
                "diagnosis": incident.diagnosis,
            },
        }


def _place(value: Any) -> Place:
    if value is None:
        return _MISSING
    if isinstance(value, bool) or not isinstance(value, int | float):
        return (2, 0.0, str(value))
    return (0, float(value), "") if math.isfinite(value) else (1, 0.0, str(value))


def _flat(prefix: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by dotted names."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            flat |= _flat(f"{prefix}{name}.", value)
        else:
            flat[prefix + name] = value
    return flat


def _is_same(record: RunRecord, before: Mapping[str, RunRecord]) -> bool:
    row = before.get(record.run)
    return row is not None and row.version == record.version


def _open_incidents(run_service: RunService) -> Iterable[IncidentRecord]:
    page = run_service.store.incidents(None, None, MOST_INCIDENTS, None)
    return (incident for incident in page.items if incident.state == "open")


def _fits(record: RunRecord, question: Question) -> bool:
    if question.project is not None and record.project != question.project:
        return False
    if not all(_has_tag(record.tags, tag) for tag in question.tags):
        return False
    if not question.words:
        return True
    tags = (f"{name}={value}" for name, value in record.tags.items())
    text = " ".join((record.run, record.project, record.trainer, *tags)).casefold()
    return all(word.casefold() in text for word in question.words)


def _has_tag(tags: Mapping[str, str], pattern: str) -> bool:
    name, has_value, value = pattern.partition("=")
    return name in tags and (not has_value or tags[name] == value)


def _urgency(
    record: RunRecord, status: str, incident: IncidentRecord | None
) -> tuple[bool, int, int, int]:
    """What lives and can still be saved comes before what has ended."""
    trouble = _TROUBLE.get(status, 0) + _ILLNESS.get(record.health, 0)
    if incident is None:
        return (False, 0, trouble, 0)
    worst, stage = SEVERITIES.index(incident.worst), STAGES.index(incident.stage)
    return (record.ended_at is None, 1 + worst, trouble, stage)


def words_of(text: str) -> Sequence[str]:
    """The words of a search, at most eight: more narrow nothing that a person would notice."""
    return text.split()[:8]
