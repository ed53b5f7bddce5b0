"""Unit tests of rules on written series, as promtool has them, counted in updates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from watchstep.core.compiling import Instance
from watchstep.core.engine import RuleSet, State, judge, step
from watchstep.core.updates import EVENT_KINDS, Action, Tick, Update
from watchstep.errors import RuleError
from watchstep.rules.files import load, packs, read_bytes
from watchstep.rules.series import expand
from watchstep.rules.strict_yaml import Mapped, read

_ROOT_KEYS = ("rule_files", "tests")
_TEST_KEYS = (
    "name",
    "tags",
    "interval_s",
    "input_series",
    "events",
    "resumes_at",
    "silences",
    "alert_rule_test",
    "action_test",
    "only",
)
_ALERT_KEYS = ("update", "alertname", "metric", "firing")
_ACTION_KEYS = ("update", "action")
_SILENCE_KEYS = ("update", "seconds", "timeout_s")


@dataclass(frozen=True, slots=True)
class Expectation:
    """What must be so after an update.

    Attributes:
        update: Number of the update, from 1 over all attempts.
        alertname: A rule, or "" where `action` is expected.
        metric: The metric that a rule with `each` fires for; "" for any.
        firing: Whether the rule fires.
        action: What the verdict asks for, or None.
    """

    update: int
    alertname: str = ""
    metric: str = ""
    firing: bool = True
    action: Action | None = None
    line: int = 0


@dataclass(frozen=True, slots=True)
class UnitTest:
    """One test of a file; see docs/rules.md for the keys."""

    name: str
    updates: tuple[Update, ...]
    expectations: tuple[Expectation, ...]
    tags: Mapping[str, str] = field(default_factory=dict)
    ticks: Mapping[int, Tick] = field(default_factory=dict)
    only: frozenset[str] | None = None
    line: int = 0


@dataclass(frozen=True, slots=True)
class TestFile:
    """The rules under test and what is expected of them."""

    __test__ = False

    source: str
    rules: RuleSet
    tests: tuple[UnitTest, ...]


@dataclass(frozen=True, slots=True)
class Failure:
    """An expectation that was not met."""

    source: str
    line: int
    test: str
    reason: str

    def __str__(self) -> str:
        return f"{self.source}:{self.line}: {self.test}: {self.reason}"


def read_tests(source: str) -> TestFile:
    """Read a file of tests and the rules it names.

    Raises:
        RuleError: The file, or one of its rule files, is wrong.
    """
    root = read(read_bytes(source), source)
    root.refuse_unknown(_ROOT_KEYS, "a test file")
    files = root.sequence("rule_files")
    if not files or not all(isinstance(name, str) for name in files):
        raise root.wrong("rule_files", "expected packs, or files beside this one")
    folder = Path(source).parent
    rules = load([name if name in packs() else folder / name for name in files])
    tests = tuple(_test(entry, rules) for entry in root.mappings("tests"))
    return TestFile(source, rules, tests)


def run(file: TestFile) -> list[Failure]:
    """Every expectation of a file that its rules do not meet."""
    return [failure for test in file.tests for failure in _run(file, test)]


def _run(file: TestFile, test: UnitTest) -> list[Failure]:
    rules = file.rules.for_tags(test.tags)
    state = State(rules)
    failures: list[Failure] = []
    ever: dict[str, int] = {}
    for number, update in enumerate(test.updates, start=1):
        state, _ = step(rules, state, update)
        action = judge(rules, state).action
        if number in test.ticks:
            state, _ = step(rules, state, test.ticks[number])
        firing = state.alerts()
        for alert in firing:
            ever.setdefault(alert.rule.name, number)
        for expected in test.expectations:
            reason = _unmet(expected, firing, action) if expected.update == number else ""
            if reason:
                failures.append(Failure(file.source, expected.line, test.name, reason))
    if test.only is not None:
        strangers = [f"{name} (update {at})" for name, at in ever.items() if name not in test.only]
        if strangers:
            reason = f"nothing else was to fire, but did: {', '.join(strangers)}"
            failures.append(Failure(file.source, test.line, test.name, reason))
    return failures


def _unmet(expected: Expectation, firing: Sequence[Instance], action: Action) -> str:
    if expected.action is not None:
        if action == expected.action:
            return ""
        wanted, got = expected.action.word, action.word
        return f"update {expected.update}: expected the action {wanted}, got {got}"
    fires = any(
        alert.rule.name == expected.alertname and expected.metric in {"", alert.subject}
        for alert in firing
    )
    if fires == expected.firing:
        return ""
    wanted = "firing" if expected.firing else "not firing"
    name = _with_metric(expected.alertname, expected.metric)
    shown = ", ".join(_with_metric(alert.rule.name, alert.subject) for alert in firing) or "none"
    return f"update {expected.update}: expected {name} {wanted}; firing: {shown}"


def _with_metric(rule: str, metric: str) -> str:
    return f"{rule} of {metric}" if metric else rule


def _test(entry: Mapped, rules: RuleSet) -> UnitTest:
    entry.refuse_unknown(_TEST_KEYS, "a test")
    updates = _updates(entry)
    expectations = [_alert(part, rules) for part in entry.mappings("alert_rule_test")]
    expectations += [_action(part) for part in entry.mappings("action_test")]
    for expected in expectations:
        if expected.update > len(updates):
            reason = f"update {expected.update} of a series of {len(updates)}"
            raise RuleError(reason, line=expected.line, source=entry.source)
    return UnitTest(
        name=entry.text("name") or f"line {entry.line}",
        updates=updates,
        expectations=tuple(expectations),
        tags=entry.texts("tags"),
        ticks=dict(_tick(part, updates) for part in entry.mappings("silences")),
        only=_only(entry, rules),
        line=entry.line,
    )


def _updates(entry: Mapped) -> tuple[Update, ...]:
    series = _series(entry)
    events = {part.integer("update", 0, 1): _event(part) for part in entry.mappings("events")}
    interval_s = _seconds(entry, "interval_s", 1.0)
    resumes = {_whole(entry, number) for number in entry.sequence("resumes_at")}
    length = max([0, *map(len, series.values()), *events])
    updates: list[Update] = []
    attempt, seq = 1, 0
    for at in range(length):
        if at + 1 in resumes:
            attempt, seq = attempt + 1, 0
        seq += 1
        row = {name: values[at] for name, values in series.items() if at < len(values)}
        readings = {name: value for name, value in row.items() if value is not None}
        time = at * interval_s
        updates.append(Update(seq, at + 1, time, readings, events.get(at + 1), attempt))
    return tuple(updates)


def _series(entry: Mapped) -> dict[str, list[float | None]]:
    written = entry.values.get("input_series")
    if written is None:
        return {}
    if not isinstance(written, Mapped):
        raise entry.wrong("input_series", 'expected `metric: "1 2 3"`')
    series = {}
    for name, text in entry.texts("input_series").items():
        try:
            series[name] = expand(text)
        except ValueError as error:
            raise written.wrong(name, str(error)) from None
    return series


def _event(part: Mapped) -> dict[str, Any]:
    kind = part.text("kind")
    if kind not in EVENT_KINDS:
        raise part.wrong("kind", f"{kind!r} is none of {', '.join(EVENT_KINDS)}")
    return {name: value for name, value in part.values.items() if name != "update"}


def _tick(part: Mapped, updates: Sequence[Update]) -> tuple[int, Tick]:
    part.refuse_unknown(_SILENCE_KEYS, "a silence")
    number = part.integer("update", 0, 1)
    if number > len(updates):
        raise part.wrong("update", f"update {number} of a series of {len(updates)}")
    heard = updates[number - 1].time
    silence_s = _seconds(part, "seconds", math.nan)
    timeout_s = _seconds(part, "timeout_s", 300.0)
    return number, Tick(heard + silence_s, heard, timeout_s)


def _alert(part: Mapped, rules: RuleSet) -> Expectation:
    part.refuse_unknown(_ALERT_KEYS, "an expectation")
    firing = part.values.get("firing", True)
    if not isinstance(firing, bool):
        raise part.wrong("firing", f"expected true or false, found {firing!r}")
    name = part.text("alertname") or ""
    _known(part, "alertname", name, rules)
    metric = part.text("metric") or ""
    if metric and not rules.rules[rules.index[name]].each:
        raise part.wrong("metric", f"{name} has no `each`, and so no metric of its own")
    return Expectation(part.integer("update", 0, 1), name, metric, firing, line=part.line)


def _action(part: Mapped) -> Expectation:
    part.refuse_unknown(_ACTION_KEYS, "an expectation")
    word = str(part.text("action")).upper()
    if word not in Action.__members__:
        words = ", ".join(action.word for action in Action)
        raise part.wrong("action", f"{word.lower()!r} is none of {words}")
    return Expectation(part.integer("update", 0, 1), action=Action[word], line=part.line)


def _only(entry: Mapped, rules: RuleSet) -> frozenset[str] | None:
    if "only" not in entry.values:
        return None
    names = [str(name) for name in entry.sequence("only")]
    for name in names:
        _known(entry, "only", name, rules)
    return frozenset(names)


def _known(part: Mapped, key: str, name: str, rules: RuleSet) -> None:
    if name not in rules.index:
        raise part.wrong(key, f"none of the rule files has a rule {name!r}")


def _seconds(part: Mapped, key: str, default: float) -> float:
    value = part.values.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e12:
        raise part.wrong(key, f"expected seconds, found {value!r}")
    return float(value)


def _whole(entry: Mapped, number: object) -> int:
    if isinstance(number, bool) or not isinstance(number, int):
        raise entry.wrong("resumes_at", f"expected numbers of updates, found {number!r}")
    return number
