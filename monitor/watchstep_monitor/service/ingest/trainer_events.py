"""What the trainer says of itself, and what that changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from watchstep.core.updates import TRAINING, Update
from watchstep_monitor.service.run_state.unit_of_work import UnitOfWork

ENDS = frozenset({"finished", "failed", "halted", "preempted"})
"""Events after which nothing is expected of the attempt; each is a status of that name."""

_DID = {"skip": "skipped the optimizer step", "rollback": "rolled back", "halt": "halted"}
"""What a guard's verdict was, told as done."""

_OF_A_HANG = ("since_s", "innermost", "own_line", "moving", "phase", "severity", "seen")


def take_event(change: UnitOfWork, update: Update, event: Mapping[str, Any]) -> None:
    """Let what the trainer says of itself change the run's row and its commands."""
    kind = event.get("kind")
    record = change.live.record
    is_training = update.source == TRAINING
    change.tell("event", event, update)
    if is_training and record.hung is not None and kind != "hung":
        change.alter(hung=None)
    if kind in ENDS:
        # What the training says of its end counts, unless it said that all was well.
        if is_training or record.ended_at is None or record.status == "finished" != kind:
            _end(change, event)
    elif kind == "started" and is_training and record.ended_at is not None:
        change.alter(status="running", ended_at=None)
    # Trainers before told of slow work too, as an info.
    elif kind == "hung" and event.get("severity") != "info":
        change.alter(hung=_some(event, _OF_A_HANG))
    elif kind == "checkpoint" and event.get("pinned") and event.get("finite", True):
        change.alter(checkpoint=_some(event, ("path", "step", "sha256")))
    elif kind == "guard" and _text(event, "verdict") not in {"", "continue"}:
        verdict = _text(event, "verdict")
        change.alter(trainer_did=f"{_DID.get(verdict, verdict)} at update {record.last_seq}")
    elif kind == "command":
        _answer_commands(change, _text(event, "id") or _text(event, "command"))


def _end(change: UnitOfWork, event: Mapping[str, Any]) -> None:
    # The end of a stream is where retention may cut and a restart need not replay.
    change.needs_snapshot = True
    kind, at = event["kind"], f"at update {change.live.record.last_seq}"
    fields: dict[str, Any] = {"status": kind, "ended_at": change.now}
    if kind == "failed":
        error = _text(event, "error")
        fields |= {"error": error, "trainer_did": f"died {at}" + _after(": ", error[:200])}
    elif kind == "preempted":
        fields["trainer_did"] = f"preempted {at}" + _after(" by ", _text(event, "signal")[:40])
    elif kind == "halted":
        # Of a rule's halt its alert tells the reason.
        reason = "" if _text(event, "rule") else _text(event, "reason")[:200]
        fields["trainer_did"] = f"halted {at}" + _after(": ", reason)
        _answer_commands(change, "halt")
    change.alter(**fields)


def _after(words: str, text: str) -> str:
    return words + text if text else ""


def _some(event: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    return {key: event[key] for key in keys if key in event}


def _answer_commands(change: UnitOfWork, which: str) -> None:
    for command in list(change.live.commands):
        if which in {command.id, command.kind}:
            change.live.commands.remove(command)
            change.commands[command.id] = replace(command, state="taken")


def _text(event: Mapping[str, Any], key: str) -> str:
    value = event.get(key, "")
    if not isinstance(value, str):
        return ""
    # Control characters have no place in messages, and PostgreSQL refuses a NUL.
    return "".join(char if char.isprintable() else " " for char in value[:1000])
