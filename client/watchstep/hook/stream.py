"""The one ordered stream of a run: whatever a trainer says gets its place in it here."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from watchstep.core.updates import Transition, Update, Verdict
from watchstep.hook.events import PendingEvents
from watchstep.hook.judgement import Judgement

if TYPE_CHECKING:
    from watchstep.sender import Outbound


class Stream:
    """Numbers updates, has them judged, and hands them to the sender.

    Args:
        terminal: Whether a critical alert is one line on stderr, where no service tells of it.

    Attributes:
        lock: Held around everything that concerns the order of updates.
        judgement: The rules and where they stand.
        outbound: The sender; None where this process does not report.
        events: What waits for the next update.
        transitions: The newest ones, of this process.
        seq: Number of the last update.
        step: The trainer's step of the last update.
        ended: Whether the run is over for this process.
    """

    def __init__(self, judgement: Judgement, *, terminal: bool = False) -> None:
        self.lock = threading.RLock()
        self._numbering = threading.RLock()
        self.judgement = judgement
        self.outbound: Outbound | None = None
        self.events = PendingEvents()
        self.transitions: deque[Transition] = deque(maxlen=256)
        self.seq = 0
        self.step = 0
        self.ended = False
        self._terminal = terminal
        self._critical: set[tuple[str, str]] = set()

    def put(
        self,
        readings: Mapping[str, float],
        event: Mapping[str, Any] | None = None,
        step: int | None = None,
        late_event: Callable[[], Mapping[str, Any] | None] | None = None,
    ) -> Verdict:
        """Give an update its place, judge it, and send it on its way.

        Args:
            readings: Name to number.
            event: What the update tells besides.
            step: The trainer's step; default: that of the last update.
            late_event: Called once the update is judged: what it tells where `event` is None.
        """
        with self._numbering:
            return self._put(readings, event, step, late_event)

    def interject(self, event: Mapping[str, Any], wait_s: float) -> bool:
        """Tell of an event though the trainer may hang in `log`, which holds the lock.

        Returns:
            False where it hangs in `put` itself, on a disk: then nothing can be told.
        """
        if not self._numbering.acquire(timeout=wait_s):
            return False
        try:
            if not self.ended:
                self._put({}, event)
        finally:
            self._numbering.release()
        return True

    def _put(
        self,
        readings: Mapping[str, float],
        event: Mapping[str, Any] | None,
        step: int | None = None,
        late_event: Callable[[], Mapping[str, Any] | None] | None = None,
    ) -> Verdict:
        self.seq += 1
        where = self.step if step is None else step
        update = Update(self.seq, where, time.time(), readings, event)
        try:
            verdict, transitions = self.judgement.update(update)
            late = late_event() if late_event is not None and event is None else None
            if late is not None:
                update = update._replace(event=late)
        finally:
            # Whatever a rule stumbles over, the update is no hole in the stream.
            if self.outbound is not None:
                self.outbound.put(update)
        if transitions:
            self._remember(transitions, update.event)
        return verdict

    def tell(self, text: str) -> None:
        self.put({}, {"kind": "log", "level": "info", "text": text})

    def alert(self, text: str) -> None:
        """Say one line at the terminal, where no service tells people of it."""
        if self._terminal and self.outbound is not None:
            self.outbound.alert(text)

    def _remember(self, transitions: Sequence[Transition], event: Mapping[str, Any] | None) -> None:
        self.transitions.extend(transitions)
        error = None if event is None else event.get("error")
        for alert in self._new_incidents(transitions):
            name = " ".join(part for part in (alert.rule, alert.subject) if part)
            self.alert(f"critical at step {alert.step}: {name}: {error or alert.reason}")
        if self.outbound is not None and any(
            transition.change == "firing" for transition in transitions
        ):
            self.outbound.wake()

    def _new_incidents(self, transitions: Sequence[Transition]) -> list[Transition]:
        """Critical alerts that begin, one a rule, which may hold for many metrics."""
        new: list[Transition] = []
        for each in transitions:
            key = (each.rule, each.subject)
            if each.change == "resolved":
                self._critical.discard(key)
            elif each.change == "firing" and each.severity == "critical":
                if all(rule != each.rule for rule, _ in self._critical):
                    new.append(each)
                self._critical.add(key)
        return new
