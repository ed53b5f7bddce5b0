"""The one ordered stream of a run: whatever a trainer says gets its place in it here."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from watchstep.core.stages import LEAD_UPDATES
from watchstep.core.updates import Transition, Update, Verdict
from watchstep.hook.events import PendingEvents
from watchstep.hook.judgement import Judgement

if TYPE_CHECKING:
    from watchstep.sender import Outbound


class SaidIncidents:
    """Which critical alerts are said at the terminal: the first of an incident.

    An incident lasts while a critical alert fires, and `LEAD_UPDATES` updates longer.
    """

    def __init__(self) -> None:
        self._firing: set[tuple[str, str]] = set()
        self._newest_seq: int | None = None
        self._more: Counter[str] = Counter()
        self._warnings: dict[tuple[str, str], Transition] = {}
        self._since: dict[tuple[str, str], int] = {}

    def begins(self, transition: Transition) -> Transition | None:
        """A critical alert that begins one, with the step since which it holds; others count."""
        alert = (transition.rule, transition.subject)
        if transition.change == "pending":
            self._since[alert] = transition.step
        else:
            transition = replace(transition, step=self._since.pop(alert, transition.step))
        if transition.change != "firing":
            self._warnings.pop(alert, None)
            if alert in self._firing:
                self._firing.discard(alert)
                self._newest_seq = transition.seq
            return None
        if transition.severity == "warning":
            self._warnings[alert] = transition
        if transition.severity != "critical":
            return None
        newest, self._newest_seq = self._newest_seq, transition.seq
        goes_on = bool(self._firing) or (
            newest is not None and transition.seq - newest <= LEAD_UPDATES
        )
        self._firing.add(alert)
        if goes_on:
            self._more[transition.rule] += 1
        return None if goes_on else transition

    def at_the_end(self, held: Set[str]) -> str:
        """One line for what was counted since, or for warnings where nothing was critical.

        Args:
            held: Rules whose condition held lately; an alert may outlast it.
        """
        more, self._more = ", ".join(self._more), Counter()
        if more or self._newest_seq is not None:
            return f"critical as well since then: {more}" if more else ""
        first: dict[str, Transition] = {}
        for (rule, _), alert in self._warnings.items():
            first.setdefault(rule, alert)
        self._warnings.clear()
        words = (
            f"{rule} {'since' if rule in held else 'at'} step {alert.step}: {alert.reason}"
            for rule, alert in first.items()
        )
        verb = "ends with" if held & first.keys() else "had"
        return f"the run {verb} a warning: {'; '.join(words)}" if first else ""


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
        self._said_incidents = SaidIncidents()

    def put(
        self,
        readings: Mapping[str, float],
        event: Mapping[str, Any] | None = None,
        step: int | None = None,
        late_event: Callable[[], Mapping[str, Any] | None] | None = None,
    ) -> Verdict:
        """Give an update its place, judge it, and send it on its way.

        Args:
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

    def end(self) -> None:
        """The run is over for this process; nothing is put any more."""
        self.ended = True
        if text := self._said_incidents.at_the_end(self.judgement.held_lately()):
            self.alert(text)

    def _remember(self, transitions: Sequence[Transition], event: Mapping[str, Any] | None) -> None:
        self.transitions.extend(transitions)
        error = None if event is None else event.get("error")
        for transition in transitions:
            if alert := self._said_incidents.begins(transition):
                name = " ".join(part for part in (alert.rule, alert.subject) if part)
                self.alert(f"critical at step {alert.step}: {name}: {error or alert.reason}")
        if self.outbound is not None and any(
            transition.change == "firing" for transition in transitions
        ):
            self.outbound.wake()
