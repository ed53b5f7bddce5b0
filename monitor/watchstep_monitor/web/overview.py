"""The list of runs as the page shows it: searched, filtered, worst first, page by page."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from watchstep_monitor.service.clock import rfc3339
from watchstep_monitor.service.ports import RunStatus
from watchstep_monitor.service.run_service import Projects, RunService
from watchstep_monitor.service.run_state.records import (
    SEVERITIES,
    STAGES,
    IncidentRecord,
    RunRecord,
)
from watchstep_monitor.service.run_state.status import shown_status
from watchstep_monitor.service.run_state.storage import RunFilter

Sort = Literal["attention", "heard", "name"]

FRESH_S = 1.0
"""Age up to which the list of all runs is used again: many browsers ask at once."""

WHOLE_S = 60.0
"""Between two readings of all rows, however little seems to have changed."""

ROWS_A_READ = 1_000
ROWS_A_LOOK = 50
MOST_INCIDENTS = 2_000
"""Newest incidents looked at for open ones; older ones show in their runs' statuses."""

_TROUBLE = {"failed": 3, "lost": 2, "stalled": 2, "halted": 1}
_ILLNESS = {"diverged": 3, "exploded": 2, "suspicious": 1}
_PROJECTS_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of the list.

    Attributes:
        words: All must occur, in any case, in a run's name, project, trainer or tags.
        tags: "name=value", or "name" for any value; all must fit.
        number: Page, from 1.
        size: Rows of a page.
    """

    words: tuple[str, ...] = ()
    status: str | None = None
    health: str | None = None
    project: str | None = None
    tags: tuple[str, ...] = ()
    sort: Sort = "attention"
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

    def answer(self, asked: Question, projects: Projects) -> dict[str, Any]:
        """One page of rows, with how many runs there are of each status.

        Args:
            asked: See there.
            projects: What the caller may see; None for everything.
        """
        now, hearing = self._run_service.clock.now(), self._run_service.policy.hearing
        records, incidents = self._all()
        visible = [one for one in records if projects is None or one.project in projects]
        fitting = [
            (record, shown_status(record, now, hearing))
            for record in visible
            if _fits(record, asked)
        ]
        counts = Counter(status for _, status in fitting)
        if asked.health is not None:
            fitting = [pair for pair in fitting if pair[0].health == asked.health]
        if asked.status is not None:
            fitting = [pair for pair in fitting if pair[1] == asked.status]
        _order(fitting, incidents, asked.sort)
        first = (asked.number - 1) * asked.size
        return {
            "items": [
                _row(record, status, incidents.get(record.run))
                for record, status in fitting[first : first + asked.size]
            ],
            "total": len(fitting),
            "page": asked.number,
            "pages": max(1, -(-len(fitting) // asked.size)),
            "counts": dict(counts),
            "open_incidents": sum(record.run in incidents for record in visible),
            "projects": sorted({record.project for record in visible})[:_PROJECTS_SHOWN],
        }

    def _all(self) -> tuple[list[RunRecord], dict[str, IncidentRecord]]:
        with self._lock:
            now = self._run_service.clock.monotonic()
            if now - self._read_at > FRESH_S:
                whole = now - self._read_whole_at > WHOLE_S
                self._records = self._newest(whole=whole)
                # Read after the runs: an incident of an unknown run would have no row.
                self._incidents = {one.run: one for one in _open_incidents(self._run_service)}
                self._read_at = self._run_service.clock.monotonic()
                self._read_whole_at = self._read_at if whole else self._read_whole_at
            return list(self._records.values()), self._incidents

    def _newest(self, *, whole: bool) -> dict[str, RunRecord]:
        """All runs, newest heard of first; reads on until a stretch of them is known already.

        What changes a run nearly always makes it the newest heard of. The few other changes
        (someone asked for a halt) are seen when all of it is read again.
        """
        known = self._records
        fresh: dict[str, RunRecord] = {}
        size, cursor = ROWS_A_READ if whole or not known else ROWS_A_LOOK, None
        while True:
            page = self._run_service.store.runs(RunFilter(archived=False), size, cursor)
            fresh |= {record.run: record for record in page.items}
            cursor = page.next_cursor
            if cursor is None:
                return fresh
            if not whole and all(_is_known(record, known) for record in page.items):
                return fresh | {run: one for run, one in known.items() if run not in fresh}


def _is_known(record: RunRecord, known: Mapping[str, RunRecord]) -> bool:
    before = known.get(record.run)
    return before is not None and before.version == record.version


def _open_incidents(run_service: RunService) -> Iterable[IncidentRecord]:
    page = run_service.store.incidents(None, None, MOST_INCIDENTS, None)
    return (incident for incident in page.items if incident.state == "open")


def _fits(record: RunRecord, asked: Question) -> bool:
    if asked.project is not None and record.project != asked.project:
        return False
    if not all(_has_tag(record.tags, tag) for tag in asked.tags):
        return False
    if not asked.words:
        return True
    tags = (f"{name}={value}" for name, value in record.tags.items())
    text = " ".join((record.run, record.project, record.trainer, *tags)).casefold()
    return all(word.casefold() in text for word in asked.words)


def _has_tag(tags: Mapping[str, str], wanted: str) -> bool:
    name, has_value, value = wanted.partition("=")
    return name in tags and (not has_value or tags[name] == value)


def _order(
    fitting: list[tuple[RunRecord, RunStatus]], incidents: Mapping[str, IncidentRecord], sort: Sort
) -> None:
    if sort == "name":
        fitting.sort(key=lambda pair: pair[0].run)
        return
    # Python's sort is stable, and the store gives the newest heard of first.
    if sort == "attention":
        fitting.sort(
            key=lambda pair: _urgency(pair[0], pair[1], incidents.get(pair[0].run)), reverse=True
        )


def _urgency(
    record: RunRecord, status: str, incident: IncidentRecord | None
) -> tuple[bool, int, int, int]:
    """What lives and can still be saved comes before what has ended."""
    trouble = _TROUBLE.get(status, 0) + _ILLNESS.get(record.health, 0)
    if incident is None:
        return (False, 0, trouble, 0)
    worst, stage = SEVERITIES.index(incident.worst), STAGES.index(incident.stage)
    return (record.ended_at is None, 1 + worst, trouble, stage)


def _row(record: RunRecord, status: str, incident: IncidentRecord | None) -> dict[str, Any]:
    return {
        "run": record.run,
        "project": record.project,
        "status": status,
        "health": record.health,
        "attempt": record.attempt,
        "step": record.step,
        "last_seq": record.last_seq,
        "updates": record.updates,
        "tags": dict(record.tags),
        "trainer": record.trainer,
        "created_at": rfc3339(record.created_at),
        "heard_at": _moment(record.heard_at),
        "trainer_did": record.trainer_did,
        "error": record.error,
        "incident": None
        if incident is None
        else {
            "id": incident.id,
            "stage": incident.stage,
            "severity": incident.worst,
            "diagnosis": incident.diagnosis,
            "opened_at": rfc3339(incident.opened_at),
        },
    }


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else rfc3339(moment)


def words_of(text: str) -> Sequence[str]:
    """The words of a search, at most eight: more narrow nothing that a person would notice."""
    return text.split()[:8]
