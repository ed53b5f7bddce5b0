"""Silences and receivers' routes: matchers over an alert's labels, as in Alertmanager."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import lru_cache

from watchstep_monitor.service.errors import InvalidError, StorageTroubleError
from watchstep_monitor.service.ports import Clock
from watchstep_monitor.service.run_state.records import AlertRecord, Matcher, SilenceRecord
from watchstep_monitor.service.run_state.storage import Store

log = logging.getLogger(__name__)

_WRITTEN = re.compile(r'\s*([A-Za-z_][A-Za-z0-9_]{0,63})\s*(=~|!~|!=|=)\s*("?)(.{0,512}?)\3\s*')
MOST_MATCHERS = 16
MOST_REPEATS = 4
"""Repetitions of one expression: over a name of 128 characters their cost is below a second."""

FRESH_S = 1.0
"""How old they may be where another process can add some."""


def parse_matcher(text: str, *, loc: tuple[str | int, ...] = ()) -> Matcher:
    """Read `name="value"`, with `!=`, `=~` or `!~` for `=`.

    Raises:
        InvalidError: It is none, or its expression cannot be compiled.
    """
    found = _WRITTEN.fullmatch(text)
    if found is None:
        raise InvalidError('must look like rule="name"', loc=loc, kind="matcher")
    name, op, _, value = found.groups()
    matcher = Matcher(name, op, value)  # type: ignore[arg-type]
    check_matcher(matcher, loc=loc)
    return matcher


def check_matcher(matcher: Matcher, *, loc: tuple[str | int, ...]) -> None:
    """Refuse an expression that cannot be compiled, or that could run for very long.

    Raises:
        InvalidError: Such an expression.
    """
    if matcher.op in {"=", "!="}:
        return
    try:
        _compiled(matcher.value)
    except (re.error, OverflowError, RecursionError):
        raise InvalidError("is not a regular expression", loc=loc, kind="regex") from None
    if _may_run_away(matcher.value):
        raise InvalidError("repeats what itself varies", loc=loc, kind="regex")


def _may_run_away(expression: str) -> bool:
    """Whether matching could take longer than a low power of the text's length.

    Python's engine backtracks, and a silence is checked in the writing thread: a repeated group
    that holds a choice or a repetition takes exponential time, and each further repetition in a
    row one power more.
    """
    plain = re.sub(r"\\.|\[\^?\]?[^]]*\]", "x", expression)
    groups, repeats = [False], 0
    for at, char in enumerate(plain):
        repeated = plain[at + 1 : at + 2] in {"*", "+", "{"}
        if char == "(":
            groups.append(False)
        elif char == ")" and len(groups) > 1:
            varies = groups.pop()
            if varies and repeated:
                return True
            groups[-1] |= varies
        # A question mark right after a bracket begins a group's flags.
        elif char in "*+{|" or (char == "?" and plain[at - 1 : at] != "("):
            groups[-1] = True
            repeats += char in "*+{"
    return repeats > MOST_REPEATS


@lru_cache(maxsize=256)
def _compiled(expression: str) -> re.Pattern[str]:
    return re.compile(expression)


def matches(matchers: Iterable[Matcher], labels: Mapping[str, str]) -> bool:
    """Whether all matchers hold; an absent label counts as ""."""
    for matcher in matchers:
        value = labels.get(matcher.name, "")
        if matcher.op in {"=", "!="}:
            held = value == matcher.value
        else:
            held = _compiled(matcher.value).fullmatch(value) is not None
        if held == matcher.op.startswith("!"):
            return False
    return True


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
    }


def silencing(
    silences: Iterable[SilenceRecord], alert: AlertRecord, now: datetime
) -> SilenceRecord | None:
    """The silence that covers an alert now and lasts longest, or None."""
    labels = labels_of(alert)
    covering = [
        silence
        for silence in silences
        if silence.starts_at <= now < silence.ends_at and matches(silence.matchers, labels)
    ]
    return max(covering, key=lambda silence: silence.ends_at, default=None)


class SilenceCache:
    """Thread-safe."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._known: list[SilenceRecord] | None = None
        self._read_at = 0.0

    def current(self) -> list[SilenceRecord]:
        """All silences; the newest that could be read, should the store not answer."""
        with self._lock:
            now = self._clock.monotonic()
            stale = not self._store.exclusive and now - self._read_at > FRESH_S
            if self._known is None or stale:
                try:
                    self._known, self._read_at = self._store.silences(), now
                except StorageTroubleError as error:
                    log.warning("silences cannot be read", extra={"reason": str(error)})
            return self._known or []

    def forget(self) -> None:
        """Read them again the next time: one was added or ended."""
        with self._lock:
            self._known = None
