"""A thread beside the training: sees that no update comes any more, and hears of SIGTERM."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from watchstep.hook import stacks
from watchstep.hook.progress import Progress, Severity
from watchstep.hook.run_end import RunEnd
from watchstep.hook.stream import Stream
from watchstep.hook.termination import Termination

_LOOK_S = 5.0
"""Between looks at most; a silence is told so much later at most."""
_SOONEST_S = 0.05
_LOCK_S = 2.0
_STANDS_SHARE = 0.5
"""Of what is late, the time in which the trainer must have been seen at one place: a late silence
is at least twice the longest update, so that no update stands as long."""
_STOLEN_S = 5.0
"""Later than planned by more, this thread was stopped with all others, or the machine asleep."""

_RANK: dict[Severity | None, int] = {None: 0, "warning": 1, "critical": 2}


class Watchdog:
    """Looks now and then whether updates come, and says where the trainer stands if not.

    Its thread begins with the first guard, pause or update.

    Attributes:
        started: Whether its thread was started.
    """

    def __init__(
        self,
        stream: Stream,
        progress: Progress,
        termination: Termination | None,
        run_end: RunEnd,
        elsewhere: Callable[[str], str],
    ) -> None:
        self._stream = stream
        self._progress = progress
        self._termination = termination
        self._run_end = run_end
        self._elsewhere = elsewhere
        self.started = False
        self._trainer = threading.get_ident()
        self._reported: Severity | None = None
        self._calls_then = 0
        self._standing = stacks.Standing()
        self._ended = threading.Event()

    def start(self) -> None:
        """Begin to look; twice is harmless. The calling thread is the trainer's."""
        if self.started:
            return
        self.started = True
        self._trainer = threading.get_ident()
        thread = threading.Thread(target=self._run, name="watchstep-watchdog", daemon=True)
        if self._termination is not None:
            self._termination.install()
        try:
            thread.start()
        except RuntimeError:
            # The system has no thread left: training goes on, and signals do what they did.
            self.stop()

    def stop(self) -> None:
        self._ended.set()
        if self._termination is not None:
            self._termination.stop()
            self._termination.wake()

    def _run(self) -> None:
        try:
            self._watch()
        finally:
            if self._termination is not None:
                self._termination.close()

    def _watch(self) -> None:
        while not self._ended.is_set():
            wait_s = self._wait_s()
            begun_s = time.monotonic()
            signalled = self._wait(wait_s)
            now_s = time.monotonic()
            if now_s - begun_s > wait_s + _STOLEN_S:
                self._progress.slept(begun_s + wait_s, now_s)
            if signalled and self._termination is not None and not self._ended.is_set():
                self._run_end.preempted(self._termination)
            elif not self._ended.is_set():
                self._look(now_s)

    def _wait_s(self) -> float:
        silence = self._progress.silence(time.monotonic())
        left_s = silence.late_s - silence.since_s
        # One that is late already was looked at.
        return _LOOK_S if left_s <= 0 else min(max(left_s, _SOONEST_S), _LOOK_S)

    def _wait(self, wait_s: float) -> bool:
        """Sleep at most so long; whether a signal came, which waits two seconds to be told."""
        if self._termination is None:
            self._ended.wait(wait_s)
            return False
        return self._termination.wait(wait_s)

    def _look(self, now_s: float) -> None:
        silence = self._progress.silence(now_s)
        newest = self._newest_call()
        if newest != self._calls_then:
            self._calls_then, self._reported = newest, None
            self._standing = stacks.Standing()
        stands_s = self._standing.seconds(self._trainer, now_s)
        if _RANK[silence.severity(moving=False)] <= _RANK[self._reported]:
            return
        # Right after long work, one usual update may stand still at the moment of this look.
        moving = stands_s < silence.late_s * _STANDS_SHARE or stacks.moves(
            self._trainer, self._wait
        )
        severity = silence.severity(moving=moving)
        signalled = self._termination is not None and self._termination.pending
        if signalled or _RANK[severity] <= _RANK[self._reported] or self._newest_call() != newest:
            return
        all_stacks = stacks.stacks(self._trainer)
        own_line = stacks.own_line(self._trainer)
        innermost = stacks.innermost(self._trainer)
        apart = self._elsewhere(own_line or innermost)
        if self._newest_call() != newest:
            return
        event = {
            "kind": "hung",
            "severity": severity,
            "since_s": round(silence.since_s, 1),
            "moving": moving,
            "phase": silence.phase,
            "innermost": innermost,
            "own_line": f"{own_line}; {apart}" if apart else own_line,
            "stacks": f"{apart}\n{all_stacks}" if apart else all_stacks,
        }
        self._reported = severity
        self._tell(event)

    def _newest_call(self) -> int:
        calls = self._progress.calls_ns
        return calls[-1] if calls else 0

    def _tell(self, event: dict[str, Any]) -> None:
        # A device that hangs does so inside `log`, where its readings are waited for.
        self._stream.interject(event, _LOCK_S)
        state = "works slowly" if event["moving"] else "stands still"
        phase = f" while {event['phase']}" if event["phase"] else ""
        place, caller = event["innermost"], event["own_line"]
        called = f", called from {caller}" if caller not in ("", place) else ""
        self._stream.alert(
            f"{event['severity']} at step {self._stream.step}: no update for"
            f" {event['since_s']:.0f} s{phase}; the training {state} at {place}{called}"
        )
