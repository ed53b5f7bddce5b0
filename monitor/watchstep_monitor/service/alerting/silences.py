"""Silences and receivers' routes: matchers over an alert's labels, as in Alertmanager."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import re2

from watchstep.core.ruleset import RuleSet
from watchstep_monitor.service.errors import InvalidError, StorageTroubleError
from watchstep_monitor.service.ports import Clock
from watchstep_monitor.service.run_state.records import AlertRecord, Matcher, SilenceRecord
from watchstep_monitor.service.run_state.rulebook import former_names

if TYPE_CHECKING:
    from watchstep_monitor.store.sql_store import SqlStore

log = logging.getLogger(__name__)

_WRITTEN = re.compile(r'\s*([A-Za-z_][A-Za-z0-9_]{0,63})\s*(=~|!~|!=|=)\s*("?)(.{0,512}?)\3\s*')
FRESH_S = 1.0
"""How old they may be where another process can add some."""

_AUTOMATON_BYTES = 131_072
"""RE2 may take 8 MiB by itself, and a second to fill them, while no other thread runs."""


def parse_matcher(text: str, *, loc: tuple[str | int, ...] = ()) -> Matcher:
    """Read `name="value"`, with `!=`, `=~` or `!~` for `=`.

    Raises:
        InvalidError: It is none, or its expression cannot be compiled.
    """
    written = _WRITTEN.fullmatch(text)
    if written is None:
        raise InvalidError('must look like rule="name"', loc=loc, kind="matcher")
    name, op, _, value = written.groups()
    matcher = Matcher(name, op, value)
    check_matcher(matcher, loc=loc)
    return matcher


def check_matcher(matcher: Matcher, *, loc: tuple[str | int, ...]) -> None:
    """Refuse an expression that cannot be compiled.

    Raises:
        InvalidError: Such an expression.
    """
    if matcher.op.endswith("~") and _compiled(matcher.value) is None:
        reason = "is not a regular expression of RE2's, or needs too much memory"
        raise InvalidError(reason, loc=loc, kind="regex")


@lru_cache(maxsize=4_096)
def _compiled(expression: str) -> Any:
    """RE2's automaton, which takes time linear in the text, as Alertmanager's does; None for none.

    A silence is checked in the writing thread: an engine that backtracks could hold up everyone.
    """
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _AUTOMATON_BYTES
    try:
        return re2.compile(expression, options)
    except re2.error:
        return None


def matches(
    matchers: Iterable[Matcher], labels: Mapping[str, str], formerly: Sequence[str] = ()
) -> bool:
    """Whether all matchers hold; an absent label counts as "".

    Args:
        matchers: An expression that cannot be compiled, from before RE2 was asked, holds for
            nothing: it is better to tell someone too often.
        formerly: What the rule was called before; a matcher may mean any of its names.
    """
    # Those that cost nothing first.
    ordered = sorted(matchers, key=lambda matcher: matcher.op.endswith("~"))
    return all(_holds(matcher, labels, formerly) for matcher in ordered)


def _holds(matcher: Matcher, labels: Mapping[str, str], formerly: Sequence[str]) -> bool:
    values = [labels.get(matcher.name, "")]
    if matcher.name in {"rule", "alertname"}:
        values += formerly
    if matcher.op in {"=", "!="}:
        same = matcher.value in values
    else:
        pattern = _compiled(matcher.value)
        if pattern is None:
            return False
        same = any(pattern.fullmatch(value) is not None for value in values)
    return same != matcher.op.startswith("!")


def labels_of(alert: AlertRecord) -> dict[str, str]:
    """The labels that matchers see; the rule file's own ones cannot hide ours."""
    return {
        **alert.labels,
        "alertname": alert.rule,
        "rule": alert.rule,
        "metric": alert.subject or alert.metric,
        "run": alert.run,
        "project": alert.project,
        "severity": alert.severity,
        "source": alert.source,
    }


def silencing(
    silences: Iterable[SilenceRecord], alert: AlertRecord, now: datetime, rules: RuleSet
) -> SilenceRecord | None:
    """The silence that covers an alert now and lasts longest, or None."""
    labels, formerly = labels_of(alert), former_names(rules, alert.rule)
    covering = [
        silence
        for silence in silences
        if silence.starts_at <= now < silence.ends_at
        and matches(silence.matchers, labels, formerly)
    ]
    return max(covering, key=lambda silence: silence.ends_at, default=None)


class SilenceCache:
    """Thread-safe."""

    def __init__(self, store: SqlStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._silences: list[SilenceRecord] = []
        self._is_fresh = False
        self._read_at = 0.0

    def newest(self) -> list[SilenceRecord]:
        """All silences, those that another replica made a moment ago too: before anyone is told."""
        if not self._store.exclusive:
            self.forget()
        return self.current()

    def current(self) -> list[SilenceRecord]:
        """All silences; the newest that could be read, should the store not answer."""
        with self._lock:
            now = self._clock.monotonic()
            stale = not self._store.exclusive and now - self._read_at > FRESH_S
            if not self._is_fresh or stale:
                try:
                    self._silences, self._read_at = self._store.silences(), now
                    self._is_fresh = True
                except StorageTroubleError as error:
                    log.warning("silences cannot be read", extra={"reason": str(error)})
            return self._silences

    def forget(self) -> None:
        """Read them again the next time: one was added or ended."""
        with self._lock:
            self._is_fresh = False
