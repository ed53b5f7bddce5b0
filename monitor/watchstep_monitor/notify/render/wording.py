"""What a message says, before any vendor's form: short enough for 3 a.m."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import get_args

from watchstep.core.error_texts import GUESSES
from watchstep.core.updates import Severity
from watchstep_monitor.notify.render.plain import clip, is_link, line, number
from watchstep_monitor.service.alerting.links import LABELS
from watchstep_monitor.service.ports import AlertView, Edge, Notice
from watchstep_monitor.settings.schema import RunEdge

_READINGS_SHOWN = 6
_ALERTS_NAMED = 3
_POINT_CHARS = 400
_TRACEBACK_LINES = 8
_LINKS = ("run", "runbook", *LABELS.values())
"""What a person may click, in this order; other links are for programs."""

_PREFIXES: Mapping[Edge, str] = {
    "changed": "Update",
    "repeat": "Still open",
    "resolved": "Resolved",
    "test": "Test",
}
_OF_THE_RUN = frozenset(get_args(RunEdge))
_ENDED_BADLY = frozenset({"failed", "halted", "lost", "stalled"})
"""Statuses in which an incident that resolves leaves somebody something to do."""
_ASKED = {"halt": "halt", "rollback": "roll-back", "skip": "skipped step"}
_FIRST = {
    "failed": "read the trainer's error, then",
    "halted": "remove the cause, then",
    "lost": "see whether its process lives and reaches the service; if it does not live,",
    "stalled": "see whether it goes on by itself; if it does not, kill it and",
    "hung": "look at the stacks in the run's timeline; if it does not go on, kill it and",
    "waits": "see in the run's timeline what its processes wait for; if it does not go on, kill it"
    " and",
    "device": "make the batch or the sequences smaller, or accumulate gradients, then",
    "host": "give the job more memory, or use fewer loader workers, then",
    "kill": "find out what killed it (the kernel's log shows whether memory ran out; else a"
    " scheduler or a person), then",
    "signal": "look at its last lines and for a core dump (a signal ended it, no exception), then",
    "exit": "see its last lines in the run's timeline for why it left with that code, then",
    "start": "mend the command, which could not be started, then",
    "hang": "see in the run's timeline where it hung, then",
}
"""What to do about an event before starting again."""


@dataclass(frozen=True, slots=True)
class Wording:
    """A message's parts, each one line of harmless but unescaped text.

    Attributes:
        title: The run and what happened to it.
        points: What a person asks, in that order, and the answers: what happened, since
            when, where, how sure, what the trainer did, which checkpoint is safe, what to do.
        readings: Metric and value, the first of them the one that shows the fault.
        traceback: Its last lines; none unless the trainer died of an exception.
        links: Name and address, http(s) only.
        footer: Which severity, run, attempt and incident.
    """

    title: str
    points: tuple[tuple[str, str], ...]
    readings: tuple[tuple[str, str], ...]
    traceback: tuple[str, ...]
    links: tuple[tuple[str, str], ...]
    footer: str


def worded(notice: Notice) -> Wording:
    answers = (
        ("Was" if notice.edge == "resolved" else "What", _what(notice)),
        ("Since", _since(notice)),
        ("Where", _where(notice)),
        ("Likely cause", _cause(notice)),
        ("Trainer", _trainer(notice)),
        ("Checkpoint", _checkpoint(notice)),
        ("Do", _advice(notice)),
    )
    parts: list[str] = [weight(notice)] if notice.alerts and notice.edge != "test" else []
    parts += [f"project {notice.project}"] if notice.project else []
    parts += [f"run {notice.run}", f"attempt {notice.attempt}"]
    parts += [] if notice.edge in _OF_THE_RUN else [f"incident {notice.incident}"]
    return Wording(
        title=clip(line(title(notice)), 150),
        points=tuple((label, clip(line(text), _POINT_CHARS)) for label, text in answers if text),
        readings=_readings(notice),
        traceback=_traceback(notice),
        links=_links(notice),
        footer=clip(line(" · ".join(parts)), 300),
    )


def title(notice: Notice) -> str:
    """One line that a phone's lock screen can show: what a colleague would say."""
    prefix = _PREFIXES.get(notice.edge, "")
    if not prefix and notice.alerts and weight(notice) != "critical":
        prefix = weight(notice).capitalize()
    head = f"{prefix}, {notice.run}" if prefix else notice.run
    more = len(_worth_telling(notice)) - 1
    others = f" (and {more} more)" if more > 0 else ""
    return f"{head}: {_happened(notice)}{_not_over(notice)}{others}"


def _not_over(notice: Notice) -> str:
    if notice.edge == "resolved" and notice.status in _ENDED_BADLY:
        return f"; the run is {notice.status}" if notice.status != "failed" else "; the run failed"
    return ", halted" if notice.status == "halted" and notice.edge not in _OF_THE_RUN else ""


def weight(notice: Notice) -> Severity:
    """The worst severity that fires now; once nothing does, the worst there was.

    `Notice.severity` alone would call an incident critical long after its critical alert
    resolved and only warnings were left.
    """
    return (
        replace(notice, alerts=tuple(_open(notice))).severity if _open(notice) else notice.severity
    )


def _happened(notice: Notice) -> str:
    if notice.edge in _OF_THE_RUN:
        return f"{notice.edge}{_at_step(notice.last_step)}"
    alerts = _worth_telling(notice)
    if not alerts:
        return "an incident without alerts"
    worst = alerts[0]
    by_status = "" if notice.edge in {"test", "resolved"} else _of_status(notice)
    since = f" since {_first_bad(notice)}" if worst.metric and notice.first_step is not None else ""
    if worst.metric and not by_status and not math.isfinite(worst.reading):
        by_status = f"{worst.metric} is {'NaN' if math.isnan(worst.reading) else 'infinite'}{since}"
    return by_status or _summary(worst) + (since and f",{since}")


def _of_status(notice: Notice) -> str:
    if notice.status == "failed":
        return f"{_death(notice)}{_at_step(notice.last_step)}"
    if notice.status == "stalled" and notice.hung is not None:
        return _hanging(notice, notice.hung)
    if notice.status in {"lost", "stalled"}:
        newest = f", last{_at_step(notice.last_step)}" if notice.last_step is not None else ""
        return f"nothing heard for {_silence(notice)}{newest}"
    return ""


def _summary(alert: AlertView) -> str:
    text = alert.summary.rstrip(". ")
    is_sentence = text[1:2].islower() or text[1:2] == " "
    return text[0].lower() + text[1:] if is_sentence and text != alert.rule else text or alert.rule


def _death(notice: Notice) -> str:
    if notice.oom:
        return "CUDA out of memory" if notice.oom == "device" else "out of memory on the host"
    return clip(line(notice.error.strip().partition("\n")[0]), 90) or "the trainer died"


def _hanging(notice: Notice, hung: Mapping[str, object]) -> str:
    if hung.get("seen"):
        inside = f", in {hung['innermost']}" if hung.get("innermost") else ""
        return f"{hung['seen']} for {_span(_lasted(notice))}{inside}"
    place, _, function = str(hung.get("innermost") or "").partition(" ")
    # A person looks into the training's own file, not into the library that hangs.
    line = str(hung.get("own_line") or "").partition(" ")[0] or place
    verb = "is slow" if hung.get("moving") else "hangs"
    where = f"{function} ({line})" if function else line
    return f"no update for {_span(_lasted(notice))}" + (f", {verb} in {where}" if where else "")


def _silence(notice: Notice) -> str:
    heard = notice.heard_at or min(alert.since for alert in notice.alerts)
    return _span(notice.at - heard)


def _at_step(step: int | None) -> str:
    return "" if step is None else f" at step {step:,}"


def _worth_telling(notice: Notice) -> list[AlertView]:
    """Without mere information and what somebody silenced, unless nothing is left then."""
    loud = [each for each in notice.alerts if not each.silenced and each.severity != "info"]
    return loud or list(notice.alerts)


def _lasted(notice: Notice) -> timedelta:
    """How long it has gone on; a hang began before the trainer told of it."""
    begun = min(alert.since for alert in _worth_telling(notice))
    since_s = (notice.hung or {}).get("since_s")
    told_after = timedelta(seconds=since_s if isinstance(since_s, int | float) else 0)
    return max(notice.at - begun, told_after if notice.status == "stalled" else timedelta())


def _what(notice: Notice) -> str:
    alerts = _worth_telling(notice)
    if not alerts:
        return ""
    worst = alerts[0]
    # Without a metric the reason is the rule's own expression, which says nothing to a person.
    is_sentence = bool(worst.metric) or not worst.summary or notice.hung is not None
    reason = worst.reason if is_sentence else ""
    texts = [worst.summary, reason, notice.error if notice.status == "failed" else ""]
    first = ". ".join(dict.fromkeys(text.rstrip(". ") for text in texts if text))
    others = [alert.rule for alert in alerts[1 : 1 + _ALERTS_NAMED]]
    left = len(alerts) - 1 - len(others)
    if not others:
        return first
    also = ", ".join(others) + (f" and {left} more" if left else "")
    return f"{first}. Also: {also}" if first else also


def _since(notice: Notice) -> str:
    if not notice.alerts or notice.edge == "test":
        return ""
    lasted = _lasted(notice)
    text = f"{_first_bad(notice)}, {_moment(notice.at - lasted)}"
    if notice.edge == "resolved":
        return f"{text}, over after {_span(lasted)}"
    return f"{text} ({_span(lasted)} ago)" if lasted >= timedelta(minutes=1) else text


def _first_bad(notice: Notice) -> str:
    """The trainer's own step, and the update's number, by which the status counts."""
    step, update = notice.first_step, notice.first_update
    if step is not None:
        return f"step {step:,}" + ("" if update in {None, step} else f" (update {update:,})")
    # Sequence numbers begin again with each attempt: compare them within one only.
    first = min(_worth_telling(notice), key=lambda alert: (alert.attempt, alert.first_update))
    return f"update {first.first_update:,}"


def _where(notice: Notice) -> str:
    parts = (("host", notice.host), ("user", notice.user))
    return ", ".join(f"{label} {text}" for label, text in parts if text)


def _cause(notice: Notice) -> str:
    if notice.edge == "test":
        return ""
    # What a death leaves behind is said under What already.
    if notice.error and notice.error.rstrip(". ") in notice.diagnosis:
        return ""
    if notice.diagnosis:
        # A likelihood in words is not doubled by one in figures, which is of the death itself.
        sure = 0.0 if notice.diagnosis in GUESSES else notice.confidence
        percent = f" ({sure * 100:.0f} % sure)" if math.isfinite(sure) and 0 < sure <= 1 else ""
        return notice.diagnosis.rstrip(". ") + percent
    noted = next((alert.cause for alert in notice.alerts if alert.cause), "")
    return f"{noted.rstrip('. ')} (the rule's note; nothing diagnosed)" if noted else ""


def _trainer(notice: Notice) -> str:
    if notice.edge == "test" or notice.edge in _OF_THE_RUN:
        return ""
    if notice.status in {"lost", "stalled"}:
        newest = max((alert.last_update for alert in notice.alerts), default=0)
        return f"has sent nothing since update {newest:,}"
    if notice.trainer_did:
        return notice.trainer_did.partition(": ")[0] if notice.error else notice.trainer_did
    acting = [alert for alert in _open(notice) if alert.action in _ASKED]
    if acting:
        # Whether the trainer obeys is its own setting; `watchstep run` only tells unless asked.
        return f"{acting[0].rule} asks for a {_ASKED[acting[0].action]}; none has been reported"
    return "was not asked to do anything" if notice.edge != "resolved" else ""


def _checkpoint(notice: Notice) -> str:
    pinned = notice.checkpoint
    if pinned is None:
        critical = weight(notice) == "critical" and notice.edge not in {"resolved", "test"}
        return "none is pinned" if critical else ""
    step = pinned.get("step")
    of_step = f"{_at_step(step)[4:]} is " if isinstance(step, int) else ""
    digest = str(pinned.get("sha256") or "")[:12]
    checksum = f", sha256 {digest}…" if digest else ""
    return f"{of_step}pinned and finite: {pinned.get('path', 'path not reported')}{checksum}"


def _advice(notice: Notice) -> str:
    if notice.edge == "resolved" and notice.status not in _ENDED_BADLY:
        return _check(notice)
    if notice.edge == "preempted":
        then = "; watch.restore() takes the pin" if notice.checkpoint is not None else ""
        return f"nothing if the scheduler starts it again{then}"
    if notice.edge == "test" or notice.edge in _OF_THE_RUN:
        return "nothing"
    event = notice.status
    if event == "failed":
        event = next((why for why in (notice.oom, notice.ended_by) if why in _FIRST), event)
    if event == "stalled" and notice.hung is not None and not notice.hung.get("moving"):
        event = _advised(notice.hung)
    first = _FIRST.get(event)
    if first is None and weight(notice) == "critical":
        first = f"stop it unless you expected this (watchstep halt {notice.run}), then"
    if first is None:
        return "look at the readings when you can; nothing has to stop yet"
    return f"{first} {_resume(notice)}"


def _advised(hung: Mapping[str, object]) -> str:
    """Which advice a hang has: from outside a Python stack is rare, and there may be nothing."""
    if not hung.get("seen"):
        return "hung"
    return "waits" if hung.get("innermost") else "stalled"


def _check(notice: Notice) -> str:
    """What is left to do once an incident is over.

    A rule that ceased to fire says that its window no longer shows the fault, not that all is
    well: of a reading a person sees whether it is back.
    """
    timeline = "the run's timeline shows what happened"
    shown = next((each for each in _worth_telling(notice) if each.metric in notice.readings), None)
    if shown is None:
        return f"nothing while the run goes on; {timeline}"
    then, now = number(shown.reading), number(notice.readings[shown.metric])
    return f"see that it is over: {shown.metric} was {then} then and is {now} now; {timeline}"


def _resume(notice: Notice) -> str:
    if notice.checkpoint is not None:
        return "start again; watch.restore() takes the pinned checkpoint"
    # A death without a sign in the readings spoils no checkpoint.
    bad = [alert.first_update for alert in notice.alerts if alert.metric]
    if not bad:
        return "start again from the newest checkpoint"
    if notice.first_step == 0:
        return "start again from the beginning"
    if notice.first_step is not None:
        return f"start again from a checkpoint of before {_first_bad(notice)}"
    return f"start again from a checkpoint older than update {min(bad):,}"


def _readings(notice: Notice) -> tuple[tuple[str, str], ...]:
    newest = dict(notice.readings)
    # What raised the alert stands first, with the value that raised it.
    raised: dict[str, float] = {}
    for alert in notice.alerts:
        if alert.metric:
            raised.setdefault(alert.metric, alert.reading)
    ordered = {**raised, **{name: value for name, value in newest.items() if name not in raised}}
    pairs = [(clip(line(name), 128), number(value)) for name, value in ordered.items()]
    return tuple(pairs[:_READINGS_SHOWN])


def _traceback(notice: Notice) -> tuple[str, ...]:
    if notice.status != "failed" or notice.edge == "resolved":
        return ()
    lines = [text for text in notice.traceback.expandtabs(2).split("\n") if text.strip()]
    return tuple(
        " " * (len(text) - len(text.lstrip(" "))) + clip(line(text), 160)
        for text in lines[-_TRACEBACK_LINES:]
    )


def _links(notice: Notice) -> tuple[tuple[str, str], ...]:
    links = dict(notice.links)
    runbook = next((alert.runbook_url for alert in notice.alerts if alert.runbook_url), "")
    if runbook:
        links.setdefault("runbook", runbook)
    return tuple((name, links[name]) for name in _LINKS if is_link(links.get(name, "")))


def _open(notice: Notice) -> list[AlertView]:
    return [alert for alert in notice.alerts if alert.state != "resolved"]


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _span(length: timedelta) -> str:
    seconds = max(0, int(length.total_seconds()))
    if seconds < 120:
        return f"{seconds} s"
    if seconds < 7200:
        return f"{seconds // 60} min"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"
