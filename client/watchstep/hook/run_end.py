"""The end of a run, whatever brings it: told, and everything let go of."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from watchstep.core.updates import Verdict
from watchstep.errors import TrainingHalted
from watchstep.hook import captured_logs
from watchstep.hook.context import Context
from watchstep.hook.termination import Termination
from watchstep.hook.watch_checkpoints import WatchCheckpoints

# Of `exit_s`, what a hung disk must leave for telling the service of the end.
_SENDERS_SHARE = 0.25
# What telling of a signal may take: whoever sends one waits a second or more.
_TERMINATION_S = 0.8


class RunEnd:
    """Ends one run once.

    Attributes:
        let_go: Called at the end, in order: what takes hooks and handlers back.
    """

    def __init__(self, context: Context, checkpoints: WatchCheckpoints) -> None:
        self.let_go: list[Callable[[], None]] = []
        self._options, self._stream, self._ranks, self._boundary = context
        self._checkpoints = checkpoints

    def finished(self, events: list[dict[str, Any]]) -> None:
        """Tell what the last save became and then these events, and end the run.

        Takes `exit_s` at most, of which a save in the background has three quarters, or all
        without a service.
        """
        deadline = time.monotonic() + self._options.exit_s
        self._boundary.survive(self._last_save, deadline)
        self._tell_waiting()
        for event in events:
            self._stream.put({}, event)
        self.close(deadline)

    def halted(self, verdict: Verdict) -> TrainingHalted:
        """Tell of a halt, wait a moment for it to be heard, and return what to raise."""
        rule = verdict.rules[0] if verdict.rules else None
        why = f"{rule}: {verdict.reason}" if rule else verdict.reason
        pin = self._boundary.survive(lambda: self._checkpoints.pinned)
        event = {"kind": "halted", "rule": rule or "", "reason": why}
        if pin is not None:
            event["checkpoint"] = str(pin.path)
        self._tell_waiting()
        self._stream.put({}, event)
        self.close()
        text = f"watchstep halted training at step {self._stream.step}: {why}"
        if pin is not None:
            kind = "saved after it began" if pin.suspect else "good checkpoint"
            text += f" ({kind}: {pin.path.name}, step {pin.step})"
        print(text, file=sys.stderr)  # noqa: T201 - a halt is silent where nobody catches it
        return TrainingHalted(text, rule=rule, update=self._stream.seq)

    def preempted(self, termination: Termination) -> None:
        """In another thread: tell of a signal, and end as the process would have ended."""
        deadline = time.monotonic() + min(self._options.exit_s, _TERMINATION_S)
        if termination.rank is None:
            self._boundary.survive(self._ranks.tell_terminated, termination.name)
        # The trainer may hang with the lock in hand; the signal ends it all the same.
        locked = self._stream.lock.acquire(timeout=_TERMINATION_S / 4)
        try:
            if locked and not self._stream.ended:
                self._tell_waiting()
            if self._stream.interject(termination.event(), _TERMINATION_S / 4):
                self._boundary.survive(self.close, deadline)
        finally:
            if locked:
                self._stream.lock.release()
        termination.go_on()

    def close(self, deadline: float | None = None) -> None:
        """Let go of everything; what is unsent stays in the spool.

        Args:
            deadline: On the monotonic clock, of an end that has waited for its save; default:
                `exit_s` from now, for all of it.
        """
        self._stream.end()
        captured_logs.stop(self._stream.events.captured)
        for let_go in self.let_go:
            self._boundary.survive(let_go)
        if deadline is None:
            deadline = time.monotonic() + self._options.exit_s
            self._boundary.survive(self._await_save, deadline)
        if self._stream.outbound is not None:
            left_s = max(deadline - time.monotonic(), 0.0)
            self._boundary.survive(self._stream.outbound.close, left_s)

    def _tell_waiting(self) -> None:
        events = self._stream.events
        while (waiting := events.next() or events.next_checkpoint()) is not None:
            self._stream.put({}, waiting)

    def _last_save(self, deadline: float) -> None:
        """Wait for the save in the background, so that the run's end tells what became of it."""
        if not self._await_save(deadline):
            text = "the run ended before its last save was on disk"
            self._stream.put({}, {"kind": "log", "level": "warning", "text": text})
        for refused in self._checkpoints.finished():
            self._checkpoints.tell_refused(refused)

    def _await_save(self, deadline: float) -> bool:
        """Whether the save in the background was done in time to tell the service the rest."""
        begun = time.monotonic()
        reserve_s = 0.0 if self._options.url is None else self._options.exit_s * _SENDERS_SHARE
        if self._checkpoints.flush(max(deadline - reserve_s - begun, 0.0)):
            return True
        self._boundary.complain(
            "checkpoint",
            "watchstep leaves a save unfinished that took more than"
            f" {time.monotonic() - begun:.2g} s; call flush() with a longer time before the end",
        )
        return False
