"""From the parsed body of `POST /runs/{run}/updates` to a batch, fast where all is as usual."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from watchstep.core.updates import Update
from watchstep.errors import WireError
from watchstep.wire import METRIC_NAME, decode_update
from watchstep_monitor.http.problems import Flaw, ProblemError
from watchstep_monitor.service.ingest import Batch, Rejected
from watchstep_monitor.service.plain import plain

MOST_ATTEMPT = 1_000_000
_PLAIN_FIELDS = {"seq", "step", "time", "metrics"}
_MOST_COUNTER = 2**53
"""Largest `seq` and `step`: beyond it JSON parsers of other languages lose digits."""

_MOST_TIME = 1e11
"""Epoch seconds until which a time is taken as it is: the year 5138."""

_REMEMBERED_NAMES = 4_096


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """See the settings `limits.*` of the same names."""

    updates_per_batch: int
    metrics_per_update: int
    event_bytes: int


class BatchReader:
    """Turns documents into batches; remembers the sets of metric names that it has checked."""

    def __init__(self, limits: BatchLimits) -> None:
        self._limits = limits
        self._good_names: set[tuple[str, ...]] = set()

    def read(self, run: str, document: Any, projects: tuple[str, ...] | None) -> Batch:
        """The batch in a document.

        One wrong update among good ones is rejected by itself; a batch of nothing but wrong
        ones is refused.

        Raises:
            ProblemError: 413 for too many updates or metrics, 422 for the rest.
        """
        attempt, listed = self._envelope(document)
        updates: list[tuple[int, Update]] = []
        rejected: list[Rejected] = []
        for index, item in enumerate(listed):
            update = self._usual(item, attempt)
            if update is not None:
                updates.append((index, update))
                continue
            try:
                updates.append((index, self._unusual(item, attempt, index)))
            except WireError as error:
                field, _, reason = str(error).partition(": ")
                rejected.append(Rejected(index, (field,), "invalid", reason or field))
        if rejected and not updates:
            raise ProblemError(
                422,
                "No update of the batch can be used.",
                flaws=[
                    Flaw(("body", "updates", one.index, *one.loc), one.kind, one.reason)
                    for one in rejected[:10]
                ],
            )
        return Batch(run, attempt, updates, tuple(rejected), projects)

    def _envelope(self, document: Any) -> tuple[int, list[Any]]:
        if type(document) is not dict:
            raise _invalid(("body",), "type", "must be an object")
        for name in document:
            if name not in {"attempt", "updates"}:
                raise _invalid(("body", name), "extra_forbidden", "is not a field of a batch")
        attempt, listed = document.get("attempt"), document.get("updates")
        if type(attempt) is not int or not 1 <= attempt <= MOST_ATTEMPT:
            raise _invalid(("body", "attempt"), "range", f"must be from 1 to {MOST_ATTEMPT}")
        if type(listed) is not list:
            raise _invalid(("body", "updates"), "type", "must be a list")
        if len(listed) > self._limits.updates_per_batch:
            raise _too_large(("body", "updates"), self._limits.updates_per_batch, "updates")
        return attempt, listed

    def _usual(self, item: Any, attempt: int) -> Update | None:
        """The update, if it is one of known names and plain numbers and carries no event."""
        if type(item) is not dict or item.keys() != _PLAIN_FIELDS:
            return None
        seq, step, time, metrics = item["seq"], item["step"], item["time"], item["metrics"]
        counters = type(seq) is int and type(step) is int and 1 <= seq <= _MOST_COUNTER
        if not counters or not 0 <= step <= _MOST_COUNTER:
            return None
        if type(time) not in {float, int} or not 0.0 <= time <= _MOST_TIME:
            return None
        if type(metrics) is not dict or tuple(metrics) not in self._good_names:
            return None
        if any(type(value) is not float for value in metrics.values()):
            return None
        return Update(seq, step, float(time), metrics, None, attempt)

    def _unusual(self, item: Any, attempt: int, index: int) -> Update:
        if type(item) is not dict:
            raise WireError("update: must be an object")
        metrics = item.get("metrics", {})
        if item.get("event") is not None and "metrics" not in item:
            item = {**item, "metrics": {}}
        if isinstance(metrics, dict) and len(metrics) > self._limits.metrics_per_update:
            raise _too_large(
                ("body", "updates", index, "metrics"), self._limits.metrics_per_update, "metrics"
            )
        self._check_event(item.get("event"))
        update = decode_update(item, attempt)
        if max(update.seq, update.step) > _MOST_COUNTER:
            raise WireError(f"seq: must be at most {_MOST_COUNTER}, and so must step")
        self._remember(tuple(update.readings))
        if update.event is None:
            return update
        # As it will be read back, so that a repetition compares equal.
        return replace(update, event=plain(update.event))

    def _check_event(self, event: object) -> None:
        if event is None:
            return
        if not isinstance(event, Mapping):
            raise WireError("event: must be an object")
        if len(json.dumps(plain(event))) > self._limits.event_bytes:
            raise WireError(f"event: must be at most {self._limits.event_bytes} bytes")

    def _remember(self, names: tuple[str, ...]) -> None:
        if all(METRIC_NAME.match(name) for name in names):
            if len(self._good_names) >= _REMEMBERED_NAMES:
                self._good_names.clear()
            self._good_names.add(names)


def _invalid(loc: tuple[str | int, ...], kind: str, reason: str) -> ProblemError:
    return ProblemError(422, "The batch cannot be used.", flaws=[Flaw(loc, kind, reason)])


def _too_large(loc: tuple[str | int, ...], most: int, what: str) -> ProblemError:
    return ProblemError(
        413, "The batch is too large.", flaws=[Flaw(loc, "too_long", f"at most {most} {what}")]
    )
