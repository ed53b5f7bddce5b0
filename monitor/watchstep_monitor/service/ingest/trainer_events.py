"""What the trainer says of itself, and what that changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from watchstep.core.updates import Update
from watchstep_monitor.service.run_state.unit_of_work import UnitOfWork

_DID = {"skip": "skipped the optimizer step", "rollback": "rolled back", "halt": "halted"}
"""What a guard's verdict was, told as done."""


def take_event(change: UnitOfWork, update: Update, event: Mapping[str, Any]) -> None:
    """Let what the trainer says of itself change the run's row and its commands."""
    kind = event.get("kind")
    record = change.live.record
    change.tell("event", event, update)
    if kind in {"finished", "failed", "halted"}:
        # The end of a stream is where retention may cut and a restart need not replay.
        change.needs_snapshot = True
    if kind == "started" and record.ended_at is not None:
        change.alter(status="running", ended_at=None)
    elif kind == "finished":
        change.alter(status="finished", ended_at=change.now)
    elif kind == "failed":
        error = _text(event, "error")
        died = f"died at update {update.seq}" + (f": {error[:200]}" if error else "")
        change.alter(status="failed", ended_at=change.now, error=error, trainer_did=died)
    elif kind == "halted":
        change.alter(
            status="halted", ended_at=change.now, trainer_did=f"halted at update {update.seq}"
        )
        _answer_commands(change, "halt")
    elif kind == "checkpoint" and event.get("pinned") and event.get("finite", True):
        kept = ("path", "step", "sha256")
        change.alter(checkpoint={key: event[key] for key in kept if key in event})
    elif kind == "guard" and _text(event, "verdict") not in {"", "continue"}:
        verdict = _text(event, "verdict")
        change.alter(trainer_did=f"{_DID.get(verdict, verdict)} at update {update.seq}")
    elif kind == "command":
        _answer_commands(change, _text(event, "id") or _text(event, "command"))


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
