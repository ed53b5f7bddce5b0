"""The life of an alert: pending, firing, resolved, and the switch to other rules."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal

from watchstep.core.updates import TRAINING, Change, Severity, Transition
from watchstep_monitor.service.run_state.records import (
    SEVERITIES,
    AlertKey,
    AlertRecord,
    short_id,
)
from watchstep_monitor.service.run_state.rulebook import RuleBook, rule_named
from watchstep_monitor.service.run_state.run_cache import LiveRun
from watchstep_monitor.service.run_state.unit_of_work import UnitOfWork

STALLED: AlertKey = ("RunStalled", "", TRAINING)
"""The alert that a trainer's own watch over its loop opens.

It is no rule's: the rule about silence, which was called so once, is RunLost.
"""

_HUNG = {
    "summary": "The training loop stands still.",
    "cause": "A deadlock, a lost rank or a lock.",
}
_SEEN_FROM_OUTSIDE = {**_HUNG, "summary": "The command shows nothing any more."}


def apply_transition(change: UnitOfWork, transition: Transition) -> AlertRecord | None:
    """Move the rule's alert along; returns it if it began, grew worse or ceased just now.

    A rule that fires again in a later attempt while its alert is still open changes nothing:
    it is the same trouble. So it is where another source says what the training has said.
    """
    key = (transition.rule, transition.subject, transition.source)
    open_alert = change.live.alerts.get(key)
    if open_alert is None and _is_told(change.live, key):
        return None
    if transition.change == "pending":
        # Rules with a `for` begin to hold and cease to all the time in healthy runs: such
        # waiting is no history, and telling of it once made 9 of 10 timeline entries.
        if open_alert is None:
            change.begin_alert(_begun(change, transition, "pending"))
        return None
    if transition.change == "cancelled":
        if open_alert is not None and open_alert.state == "pending":
            change.cancel_alert(open_alert)
        return None
    if transition.change == "firing":
        if open_alert is not None and open_alert.state == "firing":
            return _grown_worse(change, transition, open_alert)
        alert = _firing(change, transition, open_alert)
    elif open_alert is not None:
        last_seq = max(1, transition.seq - 1)
        alert = replace(open_alert, state="resolved", resolved_at=change.now, last_seq=last_seq)
    else:
        return None
    change.keep_alert(alert)
    _note(change, transition, alert)
    return alert


def _is_told(live: LiveRun, key: AlertKey) -> bool:
    """Whether the training has the same alert: two sources may see one thing."""
    rule, subject, source = key
    same = live.alerts.get((rule, subject, TRAINING))
    return source != TRAINING and same is not None and same.state == "firing"


def _grown_worse(
    change: UnitOfWork, transition: Transition, open_alert: AlertRecord
) -> AlertRecord | None:
    if SEVERITIES.index(transition.severity) <= SEVERITIES.index(open_alert.severity):
        return None
    alert = replace(open_alert, severity=transition.severity, reason=transition.reason)
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
    live.judge_by(book.for_tags(live.record.tags))
    live.rules_version = book.version


def adopt_renamed(change: UnitOfWork) -> bool:
    """Let alerts go on under the names that their rules have now; whether any had another.

    A rule may be called otherwise than when the alert began, or be for each metric of a role now.
    Then the alert goes on as the one for the metric that it was about; nobody is told.
    """
    live, folds = change.live, change.live.folds()
    strangers = [
        alert
        for (rule, subject, source), alert in live.alerts.items()
        if source in folds
        and (rule, subject) not in folds[source].engine.rules.places
        and not (alert.key == STALLED and live.record.hung is not None)
    ]
    renamed = False
    for alert in strangers:
        key = _key_now(live, alert)
        if key is not None:
            del live.alerts[alert.key]
            change.keep_alert(replace(alert, rule=key[0], subject=key[1]))
            renamed = True
    return renamed


def _key_now(live: LiveRun, alert: AlertRecord) -> tuple[str, str] | None:
    engine = live.folds()[alert.source].engine
    rules = engine.rules
    names = rules.names_of(alert.rule)
    free = [
        key for key in rules.places if key[0] in names and (*key, alert.source) not in live.alerts
    ]
    firing = {(instance.rule.name, instance.subject) for instance in engine.alerts()}
    metric = rules.canonical(alert.metric)
    return min(
        free,
        key=lambda key: (key not in firing, rules.canonical(key[1]) != metric),
        default=None,
    )


def disagreements(live: LiveRun) -> Iterator[Transition]:
    """Transitions that make the alerts say what the rule state says.

    They differ only after the rules were changed: while the service was away, or by a
    reload. A firing alert whose rule is gone, or starts fresh and does not hold, resolves; a
    rule that fires without an alert gets one. The alert of a loop that stands still is no rule's.
    """
    if live.record.ended_at is not None:
        # What its last update proved stays, or was closed by a person.
        return
    firing = set(firing_keys(live))
    for key, alert in list(live.alerts.items()):
        if key == STALLED and live.record.hung is not None:
            continue
        if alert.rule not in live.rules.index:
            change: Change = "resolved" if alert.state == "firing" else "cancelled"
            yield _made(live, key, change, "The rule was removed.")
        elif alert.state == "firing" and key not in firing:
            yield _made(live, key, "resolved", "Does not hold under the rules now loaded.")
    for key in firing:
        open_alert = live.alerts.get(key)
        is_open = open_alert is not None and open_alert.state == "firing"
        if not is_open and not _is_told(live, key):
            yield _made(live, key, "firing", "Holds under the rules now loaded.")


def firing_keys(live: LiveRun) -> list[AlertKey]:
    """Everything that the rule state says to fire."""
    return [
        (instance.rule.name, instance.subject, source)
        for source, fold in live.folds().items()
        for instance in fold.engine.alerts()
    ]


def stalled(live: LiveRun) -> Transition:
    """The run's loop stands still, as its trainer's own watch says in `hung`."""
    hung = live.record.hung or {}
    severity: Severity = "warning"
    if hung.get("severity") == "critical" and not hung.get("moving"):
        severity = "critical"
    return replace(_made(live, STALLED, "firing", _where(hung)), severity=severity)


def closed(live: LiveRun, reason: str, *, others_only: bool = False) -> Iterator[Transition]:
    """The end of every alert of a run, or only of those of other sources than the training."""
    for key, alert in list(live.alerts.items()):
        if not others_only or alert.source != TRAINING:
            change: Change = "resolved" if alert.state == "firing" else "cancelled"
            yield _made(live, key, change, reason)


def moves_again(live: LiveRun) -> Transition:
    """The end of `stalled`."""
    return _made(live, STALLED, "resolved", "The run goes on.")


def _where(hung: Mapping[str, Any]) -> str:
    since, line = hung.get("since_s"), hung.get("innermost")
    how_long = f" for {since:,.0f} s" if isinstance(since, int | float) else ""
    if seen := str(hung.get("seen") or ""):
        return f"{seen[0].upper()}{seen[1:]}{how_long}" + (f"; it is in {line}." if line else ".")
    word = "is slow" if hung.get("moving") else "hangs"
    phase = f" while {hung['phase']}" if hung.get("phase") else ""
    return f"No update{how_long}{phase}: it {word} in {line or 'an unknown line'}."


def _made(live: LiveRun, key: AlertKey, change: Change, reason: str) -> Transition:
    name, subject, source = key
    rule = rule_named(live.rules, name)
    record = live.record
    transition = Transition(
        rule=name,
        change=change,
        attempt=record.attempt,
        seq=live.last_seq(source),
        step=record.step,
        time=record.time,
        metric=subject,
        reading=math.nan,
        reason=reason,
        subject=subject,
        source=source,
    )
    if rule is None:
        return transition
    return replace(transition, severity=rule.severity, action=rule.action)


def _begun(
    change: UnitOfWork, transition: Transition, state: Literal["pending", "firing"]
) -> AlertRecord:
    record = change.live.record
    rule = rule_named(change.live.rules, transition.rule)
    annotations = dict(rule.annotations) if rule else {}
    if record.hung is not None and transition.rule == STALLED[0]:
        annotations = _SEEN_FROM_OUTSIDE if record.hung.get("seen") else _HUNG
    # Without a subject or another source an id is as it was before alerts had one.
    source = "" if transition.source == TRAINING else f"source {transition.source}"
    place = (*(part for part in (transition.subject, source) if part), transition.seq)
    return AlertRecord(
        id=short_id("al", record.run, transition.attempt, transition.rule, *place),
        run=record.run,
        project=record.project,
        attempt=transition.attempt,
        rule=transition.rule,
        severity=transition.severity,
        state=state,
        since=change.now,
        first_seq=transition.seq,
        last_seq=transition.seq,
        metric=transition.metric,
        reading=transition.reading,
        reason=transition.reason,
        action=transition.action.word,
        annotations=annotations,
        labels=dict(rule.labels) if rule else {},
        subject=transition.subject,
        source=transition.source,
    )


def _firing(change: UnitOfWork, transition: Transition, pending: AlertRecord | None) -> AlertRecord:
    begun = pending if pending is not None else _begun(change, transition, "firing")
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
        "subject": transition.subject,
        "change": transition.change,
        "severity": transition.severity,
        "action": transition.action.word,
        "metric": transition.metric,
        "reading": transition.reading if transition.metric else None,
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
        source=transition.source,
    )
