"""The life of an alert: pending, firing, resolved, and the switch to other rules."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from watchstep.core.engine import State
from watchstep.core.updates import Transition
from watchstep_monitor.service.run_state.records import AlertRecord, short_id
from watchstep_monitor.service.run_state.rulebook import RuleBook, rule_named
from watchstep_monitor.service.run_state.run_cache import LiveRun
from watchstep_monitor.service.run_state.unit_of_work import UnitOfWork


def apply_transition(change: UnitOfWork, transition: Transition) -> AlertRecord | None:
    """Move the rule's alert along; returns it if it began or ceased to fire just now.

    A rule that fires again in a later attempt while its alert is still open changes nothing:
    it is the same trouble.
    """
    known = change.live.alerts.get(transition.rule)
    if transition.change == "pending":
        # Rules with a `for` begin to hold and cease to all the time in healthy runs: such
        # waiting is no history, and telling of it once made 9 of 10 timeline entries.
        if known is None:
            change.begin_alert(_begun(change, transition, "pending"))
        return None
    if transition.change == "cancelled":
        if known is not None and known.state == "pending":
            change.cancel_alert(known)
        return None
    if transition.change == "firing":
        if known is not None and known.state == "firing":
            return None
        alert = _firing(change, transition, known)
        change.keep_alert(alert)
        _note(change, transition, alert)
        return alert
    if known is None:
        return None
    alert = replace(
        known, state="resolved", resolved_at=change.now, last_seq=max(1, transition.seq - 1)
    )
    change.keep_alert(alert)
    _note(change, transition, alert)
    return alert


def cancel_pending(change: UnitOfWork) -> None:
    """Forget what was pending: a new attempt starts every streak anew."""
    for alert in list(change.live.alerts.values()):
        if alert.state == "pending":
            change.cancel_alert(alert)


def switch_rules(live: LiveRun, book: RuleBook) -> None:
    """Take over newly loaded rules; what they share with the old ones goes on as it was."""
    if live.rules_version == book.version:
        return
    rules = book.for_tags(live.record.tags)
    live.engine = State.restore(rules, live.engine.snapshot())
    live.rules, live.rules_version = rules, book.version


def disagreements(live: LiveRun) -> Iterator[Transition]:
    """Transitions that make the alerts say what the rule state says.

    They differ only after the rules were changed: while the service was away, or by a
    reload. A firing alert whose rule is gone, or starts fresh and does not hold, resolves; a
    rule that fires without an alert gets one.
    """
    firing = set(live.engine.firing())
    for rule, alert in list(live.alerts.items()):
        if rule not in live.rules.index:
            change = "resolved" if alert.state == "firing" else "cancelled"
            yield _made(live, rule, change, "The rule was removed.")
        elif alert.state == "firing" and rule not in firing:
            yield _made(live, rule, "resolved", "Does not hold under the rules now loaded.")
    for rule in firing:
        known = live.alerts.get(rule)
        if known is None or known.state != "firing":
            yield _made(live, rule, "firing", "Holds under the rules now loaded.")


def _made(live: LiveRun, name: str, change: str, reason: str) -> Transition:
    rule = rule_named(live.rules, name)
    record = live.record
    told = Transition(
        rule=name,
        change=change,  # type: ignore[arg-type]
        attempt=record.attempt,
        seq=record.last_seq,
        step=record.step,
        time=record.time,
        metric="",
        reading=math.nan,
        reason=reason,
    )
    return told if rule is None else replace(told, severity=rule.severity, action=rule.action)


def _begun(change: UnitOfWork, transition: Transition, state: str) -> AlertRecord:
    record = change.live.record
    rule = rule_named(change.live.rules, transition.rule)
    return AlertRecord(
        id=short_id("al", record.run, transition.attempt, transition.rule, transition.seq),
        run=record.run,
        project=record.project,
        attempt=transition.attempt,
        rule=transition.rule,
        severity=transition.severity,
        state=state,  # type: ignore[arg-type]
        since=change.now,
        first_seq=transition.seq,
        last_seq=transition.seq,
        metric=transition.metric,
        reading=transition.reading,
        reason=transition.reason,
        action=transition.action.word,
        annotations=dict(rule.annotations) if rule else {},
        labels=dict(rule.labels) if rule else {},
    )


def _firing(change: UnitOfWork, transition: Transition, known: AlertRecord | None) -> AlertRecord:
    begun = known if known is not None else _begun(change, transition, "firing")
    return replace(
        begun,
        state="firing",
        since=change.now,
        last_seq=transition.seq,
        severity=transition.severity,
        metric=transition.metric,
        reading=transition.reading,
        reason=transition.reason,
    )


def _note(change: UnitOfWork, transition: Transition, alert: AlertRecord) -> None:
    detail = {
        "alert": alert.id,
        "rule": transition.rule,
        "change": transition.change,
        "severity": transition.severity,
        "action": transition.action.word,
        "metric": transition.metric,
        "reading": transition.reading,
        "reason": transition.reason,
    }
    change.tell("transition", detail)
    entry = change.timeline[-1]
    change.timeline[-1] = replace(
        entry,
        attempt=transition.attempt,
        seq=transition.seq,
        step=transition.step,
        time=transition.time,
    )
