"""What the processes of a distributed training tell each other beside their collectives.

Each looks twice a second, in a thread, into the store over which they met; on the way of a step
there is no collective and no request, until one of them wants a halt.
"""

from __future__ import annotations

import itertools
import json
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from watchstep.boundary import Boundary
from watchstep.core.updates import Action, Verdict
from watchstep.peers import Peers, peers

_HEALTHY = Verdict()
_LOOK_S = 0.5
_LOOKS_A_SECOND = 4_000
"""Of all processes together: a store answers tens of thousands of requests a second."""
_PACE_S = 5.0
"""Between reports of how long a process's own work takes."""
_STEPS = 64
_FEWEST_STEPS = 16
_PATIENCE_S = 20.0
"""How long a halt waits for the other processes to hear of it."""

_STANDING_S = 10.0
"""How long a process that hangs waits to hear where the others stand."""
_MOST_APART = 4

_numbers = itertools.count()


class OtherRanks:
    """Brings a halt, and the end by a signal, from one process to all, and finds the slowest.

    A process that halted alone would leave the others in their next collective. So one that
    wants a halt says so in the store; once all have heard of it, it names a step that none of them
    can have reached, and all halt there. Steps are those of guarded optimizers, or, where nothing
    is guarded, calls of `log`.

    Attributes:
        on_terminated: Called in the thread with the signal's name and the rank that it came to.
    """

    def __init__(self, boundary: Boundary) -> None:
        self.on_terminated: Callable[[str, int], None] = lambda _name, _rank: None
        self._boundary = boundary
        self._peers: Peers | None = None
        self._base = ""
        self._ended = threading.Event()
        self._guards = 0
        self._steps = 0
        # Held while a wish is heard or carried out: the thread hears of those of others.
        self._lock = threading.Lock()
        self._round = 0
        self._request: Verdict | None = None
        self._is_ours = False
        self._requested_s = 0.0
        self._work_s: deque[float] = deque(maxlen=_STEPS)
        self._stepped_s = self._newest_s = 0.0
        self._slowest: dict[str, float] = {}

    def join(self) -> None:
        """Take part, where there are other processes. In the trainer's thread; twice is harmless.

        Processes find each other by the order in which they make their watches.
        """
        if self._peers is not None or self._ended.is_set():
            return
        self._peers = peers()
        if self._peers is None:
            return
        self._base = f"watchstep/run/{next(_numbers)}"
        self._peers.store.add(f"{self._base}/here", 1)
        thread = threading.Thread(target=self._run, name="watchstep-ranks", daemon=True)
        thread.start()

    def stop(self) -> None:
        """Take part no longer; does not wait."""
        self._ended.set()

    def shared(self, name: str, own: str) -> str:
        """A value that is the same in all processes: that of the first to ask for it."""
        if self._peers is None:
            return own
        first: bytes = self._peers.store.compare_set(f"{self._base}/{name}", "", own)
        return first.decode()

    def request(self, verdict: Verdict) -> bool:
        """Ask all processes for a halt; False where this one must decide alone."""
        others = self._peers
        if others is None or self._ended.is_set():
            return False
        try:
            if others.store.add(f"{self._base}/here", 0) < others.world:
                return False
            reason = f"rank {others.rank}: {verdict.reason}"
            wish = json.dumps([int(verdict.action), list(verdict.rules), reason, others.rank])
            with self._lock:
                first = others.store.compare_set(self._key("wish"), "", wish).decode()
                self._hear(others, others.store, first)
            others.store.add(f"{self._base}/news", 1)
        except RuntimeError:
            # The store is gone, and with it the process that held it.
            return False
        return True

    def due(self, *, guarded: bool) -> Verdict:
        """What all processes do at the step that begins now; in the trainer's thread.

        Args:
            guarded: Whether it is an optimizer's step, and not a call of `log`.
        """
        if not guarded and self._guards:
            return _HEALTHY
        self._steps += 1
        if self._request is None or self._peers is None:
            return _HEALTHY
        with self._lock:
            request = self._request
            try:
                if not self._is_due(self._peers):
                    return _HEALTHY
            except RuntimeError:
                self._ended.set()
            self._request = None
            self._round += 1
        return request

    def follow(self, optimizer: Any) -> Callable[[], None]:
        """Measure this process's own work in each step of an optimizer; returns what ends it.

        That is the time from the end of a step to the first gradient of the next: loading data,
        the forward pass, and backward passes before the last. What comes later waits for others.
        """
        self._guards += 1
        hooks = []
        if self._peers is not None:
            hooks.append(optimizer.register_step_post_hook(self._stepped))
            groups = optimizer.param_groups
            trained = [p for group in groups for p in group["params"] if p.requires_grad]
            # Gradients come from the last layer on.
            hooks += [
                parameter.register_post_accumulate_grad_hook(self._has_gradient)
                for parameter in trained[-1:]
            ]

        def leave() -> None:
            self._guards -= 1
            for hook in hooks:
                hook.remove()

        return leave

    def readings(self) -> dict[str, float]:
        """Which rank is slowest and how much slower than the others, where that is new."""
        slowest, self._slowest = self._slowest, {}
        return slowest

    def elsewhere(self, place: str) -> str:
        """Of a training that hangs: which processes stand at another line, in words.

        Called beside the trainer's thread in each of them; the first one hears where all stand.

        Args:
            place: The training's own line in which this process stands.
        """
        others = self._peers
        if others is None or self._ended.is_set():
            return ""
        keys = [f"{self._base}/stands/{rank}" for rank in range(others.world)]
        try:
            store = others.store.clone()
            store.set(keys[others.rank], json.dumps([self._steps, place]))
            deadline = time.monotonic() + _STANDING_S
            while not others.rank and not store.check(keys) and time.monotonic() < deadline:
                self._ended.wait(_LOOK_S)
            if others.rank:
                return ""
            answers = [json.loads(store.get(key)) if store.check([key]) else None for key in keys]
        except RuntimeError:
            return ""
        # A place of an earlier hang is none of this one.
        places = [a[1] if a and abs(a[0] - self._steps) <= 1 else None for a in answers]
        apart = [
            f"rank {rank} is at {there}" if there else f"rank {rank} does not answer"
            for rank, there in enumerate(places)
            if there != place
        ]
        more = f" and {len(apart) - _MOST_APART} more" if len(apart) > _MOST_APART else ""
        return ", ".join(apart[:_MOST_APART]) + more

    def tell_terminated(self, name: str) -> None:
        """Tell the others that this process ends by a signal."""
        if self._peers is not None and not self._ended.is_set():
            self._peers.store.set(f"{self._base}/signal", f"{name} {self._peers.rank}")
            self._peers.store.add(f"{self._base}/news", 1)

    def look_for_signal(self) -> None:
        """Hear now of another process that ends by a signal: its collectives fail at once."""
        if self._peers is not None:
            self._take_signal(self._peers, self._peers.store)

    def _is_due(self, others: Peers) -> bool:
        """Whether what was wished for is to be done at this step; names the step if it may."""
        store, at = others.store, self._key("at")
        if self._is_ours and not store.check([at]):
            all_know = store.add(self._key("know"), 0) >= others.world
            if not all_know and time.monotonic() - self._requested_s < _PATIENCE_S:
                return False
            # None can be further on than the next step that waits for this process, which is one
            # of the next of all optimizers.
            margin = max(self._guards, 1) + 1 if all_know else 0
            store.set(at, str(self._steps + margin))
        return bool(store.check([at])) and self._steps >= int(store.get(at))

    def _hear(self, others: Peers, store: Any, wish: str) -> None:
        if self._request is not None:
            return
        action, rules, reason, rank = json.loads(wish)
        self._is_ours = rank == others.rank
        self._requested_s = time.monotonic()
        self._request = Verdict(Action(action), tuple(rules), reason)
        store.add(self._key("know"), 1)

    def _run(self) -> None:
        self._boundary.survive(self._look)

    def _look(self) -> None:
        """Look for news until the end, or until the store is gone, and the training with it."""
        others = self._peers
        assert others is not None
        # A connection of the thread's own: the trainer may wait on the other one.
        store, heard = others.store.clone(), 0
        look_s, next_pace_s = max(_LOOK_S, others.world / _LOOKS_A_SECOND), 0.0
        while not self._ended.wait(look_s):
            try:
                news = store.add(f"{self._base}/news", 0)
                if news != heard:
                    heard = news
                    self._take_news(others, store)
                if time.monotonic() >= next_pace_s:
                    next_pace_s = time.monotonic() + _PACE_S
                    self._compare_pace(others, store)
            except RuntimeError:
                return

    def _take_news(self, others: Peers, store: Any) -> None:
        with self._lock:
            wish = self._key("wish")
            if store.check([wish]):
                self._hear(others, store, store.get(wish).decode())
        self._take_signal(others, store)

    def _take_signal(self, others: Peers, store: Any) -> None:
        if store.check([f"{self._base}/signal"]):
            name, rank = store.get(f"{self._base}/signal").decode().split()
            if int(rank) != others.rank:
                self.on_terminated(name, int(rank))

    def _compare_pace(self, others: Peers, store: Any) -> None:
        """Report this process's own work, and in the first one compare that of all."""
        if len(self._work_s) < _FEWEST_STEPS:
            return
        keys = [f"{self._base}/pace/{rank}" for rank in range(others.world)]
        store.set(keys[others.rank], repr(statistics.median(self._work_s)))
        if others.rank or not store.check(keys):
            return
        pace_s = [float(store.get(key)) for key in keys]
        slowest = max(range(others.world), key=pace_s.__getitem__)
        others_s = statistics.median([*pace_s[:slowest], *pace_s[slowest + 1 :]])
        self._slowest = {
            "ranks/slowest": float(slowest),
            "ranks/slowest_ratio": pace_s[slowest] / max(others_s, 1e-9),
            "ranks/slowest_work_s": pace_s[slowest],
        }

    def _stepped(self, *_: Any) -> None:
        if self._newest_s:
            self._work_s.append(self._newest_s)
            self._newest_s = 0.0
        self._stepped_s = time.monotonic()

    def _has_gradient(self, _: Any) -> None:
        if self._stepped_s:
            self._newest_s = time.monotonic() - self._stepped_s

    def _key(self, name: str) -> str:
        return f"{self._base}/{self._round}/{name}"
