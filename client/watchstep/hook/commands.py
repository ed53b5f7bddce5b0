"""What people ask of a run through the service."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from watchstep.core.updates import Action, Verdict
from watchstep.hook.options import Options
from watchstep.hook.stream import Stream
from watchstep.hook.verdict_actions import VerdictActions
from watchstep.hook.watch_checkpoints import WatchCheckpoints

_MOST = 16
_KINDS = frozenset({"halt", "checkpoint"})


class Commands:
    """Commands that have arrived, and those that are obeyed at the next update."""

    def __init__(
        self,
        options: Options,
        stream: Stream,
        checkpoints: WatchCheckpoints,
        actions: VerdictActions,
    ) -> None:
        self._options = options
        self._stream = stream
        self._checkpoints = checkpoints
        self._actions = actions
        self._waiting: deque[Mapping[str, Any]] = deque(maxlen=_MOST)

    def __len__(self) -> int:
        return len(self._waiting)

    def receive(self, command: Mapping[str, Any]) -> None:
        """Take a command in the sender's thread; it waits for the next update."""
        if self._options.obey_commands and command.get("kind") in _KINDS:
            self._waiting.append(command)

    def obey(self) -> None:
        """Carry out what waits: a halt at once, or at the next vote of all processes."""
        while self._waiting:
            command = self._waiting.popleft()
            kind, reason = str(command["kind"]), str(command.get("reason") or "no reason given")
            event = {"kind": "command", "id": str(command.get("id", "")), "command": kind}
            self._stream.put({}, event)
            if kind == "halt":
                firing = self._stream.judgement.firing()
                text = f"halted by command: {reason}"
                self._actions.together(Verdict(Action.HALT, (), text, firing))
            elif self._checkpoints.targets is not None and self._checkpoints.wanted:
                self._actions.save(self._checkpoints.targets, self._stream.step)
