"""From the body of `POST /runs/{run}/updates` to a batch, fast where all is as usual."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from watchstep.core.roles import is_core, role_of
from watchstep.core.updates import Update
from watchstep.errors import WireError
from watchstep.wire.names import METRIC_NAME, legal_metric_name
from watchstep.wire.rows import Block, row_updates, split_rows
from watchstep.wire.text import decode_update
from watchstep_monitor.http.bodies import MOST_ATTEMPT
from watchstep_monitor.http.problems import Flaw, ProblemError
from watchstep_monitor.http.strict_json import MOST_COUNTER, UsualBatch, read_json, read_usual
from watchstep_monitor.service.ingest.batch import Batch, Rejected
from watchstep_monitor.service.json_values import plain
from watchstep_monitor.settings.schema import LimitSettings

_REMEMBERED_NAMES = 4_096


@dataclass(slots=True)
class _Gathered:
    updates: list[tuple[int, Update]] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    left_out: int = 0

    def reject(self, index: int, error: WireError) -> None:
        place, _, reason = str(error).partition(": ")
        # A metric's name has dots of its own, and comes last.
        loc = () if place == "update" else tuple(place.split(".", 1))
        self.rejected.append(Rejected(index, loc, "invalid", reason or place))

    def batch(self, run: str, attempt: int, projects: tuple[str, ...] | None) -> Batch:
        if self.rejected and not self.updates:
            raise ProblemError(
                422,
                "No update of the batch can be used.",
                flaws=[
                    Flaw(("body", "updates", each.index, *each.loc), each.kind, each.reason)
                    for each in self.rejected[:10]
                ],
            )
        rejected = tuple(self.rejected)
        return Batch(run, attempt, self.updates, rejected, projects, self.left_out)


class BatchReader:
    """Turns documents into batches; remembers the sets of metric names that it has checked."""

    def __init__(self, limits: LimitSettings) -> None:
        self._limits = limits
        self._good_names: set[tuple[str, ...]] = set()

    def read(self, run: str, body: bytes, projects: tuple[str, ...] | None) -> Batch:
        """The batch in a body of JSON.

        One wrong update among good ones is rejected by itself; a batch of nothing but wrong
        ones is refused.

        Raises:
            ProblemError: 400 for malformed bytes, 413 for too many updates, 422 for the rest.
        """
        usual = read_usual(body)
        if usual is not None:
            updates = self._all_usual(usual)
            if updates is not None:
                return Batch(run, usual.attempt, updates, (), projects)
        attempt, listed = self._envelope(read_json(body))
        gathered = _Gathered()
        for index, item in enumerate(listed):
            self._take(gathered, item, attempt, index)
        return gathered.batch(run, attempt, projects)

    def read_rows(self, run: str, body: bytes, projects: tuple[str, ...] | None) -> Batch:
        """The batch in a body of type `ROWS_TYPE`, judged as the same updates in JSON are.

        Raises:
            ProblemError: 400 for a body that is cut short, 413 for too many updates, 422 for
                the rest.
        """
        try:
            attempt, blocks = split_rows(body)
        except WireError as error:
            raise ProblemError(
                400,
                "The body is not rows of updates.",
                flaws=[Flaw(("body",), "rows", str(error).partition(": ")[2])],
            ) from None
        self._check_size(attempt, sum(block.updates for block in blocks))
        gathered, index = _Gathered(), 0
        for block in blocks:
            if block.json is not None:
                self._take(gathered, read_json(block.json), attempt, index)
            else:
                self._take_rows(gathered, block, attempt, index)
            index += block.updates
        return gathered.batch(run, attempt, projects)

    def _all_usual(self, batch: UsualBatch) -> list[tuple[int, Update]] | None:
        """The batch's updates, if all of them have names that are known to be good."""
        attempt, listed, good = batch.attempt, batch.updates, self._good_names
        if not 1 <= attempt <= MOST_ATTEMPT or len(listed) > self._limits.updates_per_batch:
            return None
        last_names: tuple[str, ...] | None = None
        for update in listed:
            names = tuple(update.metrics)
            if names != last_names:
                if names not in good:
                    return None
                last_names = names
        return [
            (index, Update(each.seq, each.step, each.time, each.metrics, None, attempt))
            for index, each in enumerate(listed)
        ]

    def _take(self, gathered: _Gathered, item: Any, attempt: int, index: int) -> None:
        try:
            update = self._careful(item, attempt)
        except WireError as error:
            gathered.reject(index, error)
            return
        self._add(gathered, index, update)
        self._remember(tuple(gathered.updates[-1][1].readings))

    def _add(self, gathered: _Gathered, index: int, update: Update) -> None:
        """Take an update over, without the readings that are too many."""
        most = self._limits.metrics_per_update
        if len(update.readings) > most:
            gathered.left_out += len(update.readings) - most
            update = update._replace(readings=weightiest(update.readings, most))
        gathered.updates.append((index, update))

    def _take_rows(self, gathered: _Gathered, block: Block, attempt: int, index: int) -> None:
        for at, update in enumerate(row_updates(block, attempt), index):
            if isinstance(update, WireError):
                gathered.reject(at, update)
            elif update.seq > MOST_COUNTER or update.step > MOST_COUNTER:
                gathered.reject(at, _beyond_counting())
            else:
                self._add(gathered, at, update)

    def _envelope(self, document: Any) -> tuple[int, list[Any]]:
        if type(document) is not dict:
            raise _invalid(("body",), "type", "must be an object")
        for name in document:
            if name not in {"attempt", "updates"}:
                raise _invalid(("body", name), "extra_forbidden", "is not a field of a batch")
        attempt, listed = document.get("attempt"), document.get("updates")
        if type(listed) is not list:
            raise _invalid(("body", "updates"), "type", "must be a list")
        return self._check_size(attempt, len(listed)), listed

    def _check_size(self, attempt: Any, updates: int) -> int:
        if type(attempt) is not int or not 1 <= attempt <= MOST_ATTEMPT:
            raise _invalid(("body", "attempt"), "range", f"must be from 1 to {MOST_ATTEMPT}")
        if updates > self._limits.updates_per_batch:
            raise _too_large(("body", "updates"), self._limits.updates_per_batch, "updates")
        return attempt

    def _careful(self, item: Any, attempt: int) -> Update:
        if type(item) is not dict:
            raise WireError("update: must be an object")
        metrics = item.get("metrics", {} if item.get("event") is not None else None)
        if isinstance(metrics, dict):
            named = {legal_metric_name(name): value for name, value in metrics.items()}
            item = {**item, "metrics": named}
        event = item.get("event")
        if event is not None and not isinstance(event, Mapping):
            raise WireError("event: must be an object")
        update = decode_update(item, attempt)
        if max(update.seq, update.step) > MOST_COUNTER:
            raise _beyond_counting()
        if update.event is None:
            return update
        # As it will be read back, so that a repetition compares equal.
        return update._replace(event=shortened(plain(update.event), self._limits.event_bytes))

    def _remember(self, names: tuple[str, ...]) -> None:
        if all(METRIC_NAME.match(name) for name in names):
            if len(self._good_names) >= _REMEMBERED_NAMES:
                self._good_names.clear()
            self._good_names.add(names)


def weightiest(readings: Mapping[str, float], most: int) -> dict[str, float]:
    """So many readings, in their order: those without which there is no training before others."""
    first = sorted(readings, key=lambda name: not is_core(name, role_of(name)))[:most]
    chosen = set(first)
    return {name: value for name, value in readings.items() if name in chosen}


def shortened(event: dict[str, Any], most_bytes: int) -> dict[str, Any]:
    """The event, with long texts and what still does not fit left out; its kind stays."""
    if _size(event) <= most_bytes:
        return event
    fields = {"kind": event["kind"], "cut": True}
    # The short ones first: a traceback must not take the room of a rank.
    for name, value in sorted(event.items(), key=lambda field: _size(field[1])):
        room = most_bytes - _size({**fields, name: ""})
        # A character takes up to six bytes as JSON.
        part = value[: max(0, room // 6)] if isinstance(value, str) else value
        if name not in fields and _size({**fields, name: part}) <= most_bytes:
            fields[name] = part
    return fields


def _size(document: Any) -> int:
    return len(json.dumps(document))


def _beyond_counting() -> WireError:
    return WireError(f"seq: must be at most {MOST_COUNTER}, and so must step")


def _invalid(loc: tuple[str | int, ...], kind: str, reason: str) -> ProblemError:
    return ProblemError(422, "The batch cannot be used.", flaws=[Flaw(loc, kind, reason)])


def _too_large(loc: tuple[str | int, ...], most: int, what: str) -> ProblemError:
    return ProblemError(
        413, "The batch is too large.", flaws=[Flaw(loc, "too_long", f"at most {most} {what}")]
    )
