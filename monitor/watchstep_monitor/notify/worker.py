"""Carries deliveries from the outbox to the receivers, and writes down how each ended."""

from __future__ import annotations

import asyncio
import functools
import heapq
import logging
import random
import threading
import uuid
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from watchstep_monitor.notify.config import NotifyConfig, ReceiverConfig
from watchstep_monitor.notify.dispatch import Carriers, Chart, check
from watchstep_monitor.notify.outcomes import Answer, Refused, Taken, outcome_of
from watchstep_monitor.notify.receiver_state import ReceiverState
from watchstep_monitor.notify.targets import Resolver, system_resolver
from watchstep_monitor.service.events import (
    DeliveriesDue,
    DeliveryAttempted,
    EventBus,
    OutboxTrouble,
    delivery_detail,
)
from watchstep_monitor.service.ports import (
    AlertView,
    Clock,
    Dead,
    Delivered,
    Delivery,
    DeliveryStore,
    Notice,
    Outcome,
    ReceiverGone,
    Retry,
)

log = logging.getLogger(__name__)
_Done = TypeVar("_Done")

# Four settles may wait for one group commit together; more would only queue in the store.
_STORE_THREADS = 4
_STORE_PAUSE_S = 1.0

LEASE_S = 4.0
"""After so long without a renewal another replica sends what one that died had under way: with a
second for the rest, within five seconds of its death."""

RENEW_S = 1.0
_SETTLE_PAUSES_S = (0.1, 0.5, 2.0)
_STOPPED = "the delivery worker is not running"


@dataclass(frozen=True, slots=True)
class TestResult:
    """What a test message met: `reason` is "" when it was delivered."""

    __test__ = False  # Pytest takes the name for a test class otherwise.

    receiver: str
    delivered: bool
    reason: str
    took_s: float


class Worker:
    """One thread with one event loop that empties the outbox.

    A delivery is in flight at most once per (receiver, incident): the outbox gives out no
    other of that pair meanwhile. A receiver that is slow, dead or at its rate cap is left out
    of the next claims, and costs the others nothing. At least once: a process killed
    between the receiver's answer and our commit sends again, with the same `webhook-id`.
    """

    def __init__(  # noqa: PLR0913 - what it works with; most have a default
        self,
        store: DeliveryStore,
        config: NotifyConfig,
        clock: Clock,
        *,
        bus: EventBus | None = None,
        resolve: Resolver = system_resolver,
        chance: Callable[[], float] = random.random,
        ready: Callable[[], bool] = lambda: True,
        chart: Chart = lambda _: None,
    ) -> None:
        """Prepare; nothing is sent before `start`.

        Args:
            clock: When things are due, and how long they took.
            bus: Told of attempts and of settled deliveries; wakes this worker. None for none.
            resolve: Name lookup, blocking; called in a thread of its own.
            chance: Numbers in [0, 1) for jitter.
            ready: Whether the service can do its work; while it cannot, its heart does not beat.
            chart: A PNG of what a notice is about, or None; called in a thread, with a limit.

        Raises:
            ValueError: A receiver's settings can never work; names receiver and key.
        """
        check(config.receivers)
        self._store = store
        self._config = config
        self._clock = clock
        self._bus = bus or EventBus(clock)
        self._bus.subscribe(DeliveriesDue, lambda _: self.wake())
        self._chance = chance
        self._ready = ready
        self._lanes = {
            receiver.name: ReceiverState(receiver, config.at_once, config.rate_per_minute)
            for receiver in config.receivers
        }
        self._carriers = Carriers(config, resolve, chart)
        self._store_threads = ThreadPoolExecutor(_STORE_THREADS, "watchstep-notify-store")
        self._wake = asyncio.Event()
        self._alarms: list[datetime] = []
        self._attempts: set[asyncio.Task[None]] = set()
        self._claimed: dict[str, Delivery] = {}
        self._started = threading.Event()
        self._stopping = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._grace_s = 0.0

    def start(self) -> None:
        """Begin to deliver; returns once the loop runs. Once per worker."""
        if self._thread is not None:
            raise RuntimeError("a delivery worker starts only once")
        self._thread = threading.Thread(target=self._main, name="watchstep-notify", daemon=True)
        self._thread.start()
        self._started.wait()

    def wake(self) -> None:
        """Look at the outbox now. From any thread, at any time; returns at once."""
        loop = self._loop
        if loop is None:
            return
        try:
            loop.call_soon_threadsafe(self._wake.set)
        except RuntimeError:
            # The loop has closed: what is in the outbox waits for the next start.
            return

    def stop(self, timeout_s: float = 5.0) -> None:
        """Claim nothing more, let attempts under way end, give up on them after `timeout_s`.

        What was given up stays in the outbox and is sent again when its lease ends.
        """
        self._stopping = True
        self._grace_s = timeout_s
        self.wake()
        if self._thread is not None:
            self._thread.join(timeout_s + 2.0)

    def send_test(self, receiver: str) -> TestResult:
        """Send a test message past the outbox, once, and wait for its end. Blocks.

        Raises:
            KeyError: No receiver has that name.
            RuntimeError: The worker does not run.
        """
        lane = self._lanes[receiver]
        loop = self._loop
        if loop is None or self._stopping:
            raise RuntimeError(_STOPPED)
        done = asyncio.run_coroutine_threadsafe(self._try_out(lane), loop)
        return done.result(self._config.timeout_s + 5.0)

    def receivers(self) -> tuple[ReceiverState, ...]:
        """Every receiver and how it fares, in the order of the settings."""
        return tuple(self._lanes.values())

    def _main(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._started.set()
        beside = [asyncio.create_task(self._renew())]
        if self._config.heartbeat_url:
            beside.append(asyncio.create_task(self._beat()))
        try:
            while not self._stopping:
                self._wake.clear()
                await self._wait(await self._round())
        finally:
            await self._wind_up(beside)

    async def _renew(self) -> None:
        """Say every second that what is under way is ours: a slow receiver is no dead replica."""
        while True:
            await asyncio.sleep(RENEW_S)
            if self._claimed:
                claimed = tuple(self._claimed.values())
                renew = functools.partial(self._store.renew, claimed, self._clock.now(), LEASE_S)
                await self._in_store(renew)

    async def _beat(self) -> None:
        """Call who watches the service, for as long as it works."""
        failed = False
        while True:
            if await self._in_store(self._ready):
                answer = await self._carriers.beat(self._clock.now())
                if isinstance(answer, Refused) and not failed:
                    log.warning("the heartbeat was not taken", extra={"reason": answer.reason})
                failed = isinstance(answer, Refused)
            await asyncio.sleep(self._config.heartbeat_s)

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _wind_up(self, beside: list[asyncio.Task[None]]) -> None:
        if self._attempts:
            await asyncio.wait(self._attempts, timeout=self._grace_s)
        for attempt in self._attempts:
            attempt.cancel()
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, *self._attempts, return_exceptions=True)
        await self._carriers.aclose()
        self._store_threads.shutdown(wait=False, cancel_futures=True)

    async def _round(self) -> float:
        """Start all that may start now; seconds until another look is worth it."""
        while True:
            limit, busy = self._room()
            if limit == 0 or self._stopping:
                return self._pause_s(None)
            looked = await self._in_store(functools.partial(self._look, limit, busy))
            if looked is None:
                return _STORE_PAUSE_S
            claimed, due = looked
            for delivery in claimed:
                self._launch(delivery)
            if len(claimed) < limit:
                return self._pause_s(due)

    def _look(self, limit: int, busy: Collection[str]) -> tuple[list[Delivery], datetime | None]:
        now = self._clock.now()
        claimed = self._store.claim(now, limit, LEASE_S, busy)
        # When the next falls due matters only once there is nothing more to start now.
        return claimed, self._store.next_due() if len(claimed) < limit else None

    def _room(self) -> tuple[int, Collection[str]]:
        """How many to claim, and whom to leave alone.

        No lane is ever given more than it may send at once: a delivery that waited here
        would use up its lease.
        """
        monotonic = self._clock.monotonic()
        rooms = {name: lane.room(monotonic) for name, lane in self._lanes.items()}
        busy = {name for name, room in rooms.items() if room == 0}
        if rooms and len(busy) == len(rooms):
            return 0, busy
        return min((room for room in rooms.values() if room), default=1), busy

    def _pause_s(self, due: datetime | None) -> float:
        now = self._clock.now()
        monotonic = self._clock.monotonic()
        while self._alarms and self._alarms[0] <= now:
            heapq.heappop(self._alarms)
        waits = [self._config.poll_s]
        waits += [(at - now).total_seconds() for at in self._alarms[:1]]
        waits += [s for lane in self._lanes.values() if (s := lane.opens_in_s(monotonic))]
        if due is not None and due > now:
            waits.append((due - now).total_seconds())
        return min(waits)

    def _launch(self, delivery: Delivery) -> None:
        lane = self._lanes.get(delivery.receiver)
        if lane is not None:
            lane.begin(self._clock.monotonic(), self._clock.now())
        attempt = asyncio.get_running_loop().create_task(self._deliver(delivery, lane))
        self._attempts.add(attempt)
        self._claimed[delivery.id] = delivery
        attempt.add_done_callback(self._attempts.discard)
        attempt.add_done_callback(lambda _: self._claimed.pop(delivery.id, None))

    async def _deliver(self, delivery: Delivery, lane: ReceiverState | None) -> None:
        if lane is None:
            await self._settle(delivery, Dead("no receiver of that name is configured"))
            self._wake.set()
            return
        try:
            if lane.disabled:
                await self._settle(delivery, ReceiverGone(lane.disabled))
                return
            started = self._clock.monotonic()
            answer = await self._attempt(lane.receiver, delivery)
            outcome = outcome_of(
                answer, delivery.attempt, self._clock.now(), self._config, self._chance
            )
            self._book(lane, outcome, self._clock.monotonic() - started)
            await self._settle(delivery, outcome)
        finally:
            lane.in_flight -= 1
            self._wake.set()

    async def _attempt(self, receiver: ReceiverConfig, delivery: Delivery) -> Answer:
        try:
            async with asyncio.timeout(self._config.timeout_s):
                return await self._carriers.carry(receiver, delivery.notice, self._clock.now())
        except TimeoutError:
            return Refused(f"no answer within {self._config.timeout_s:g} s")
        except Exception as error:
            # Only the type: an exception's text may quote the address or the secret in it.
            kind = type(error).__name__
        log.error("delivery broke", extra={"receiver": receiver.name, "error": kind})
        return Refused(f"internal error: {kind}")

    def _book(self, lane: ReceiverState, outcome: Outcome, seconds: float) -> None:
        name = lane.receiver.name
        lane.healthy = isinstance(outcome, Delivered)
        if isinstance(outcome, Delivered):
            lane.delivered += 1
            lane.last_delivered_at = self._clock.now()
            lane.last_error = ""
            self._count(name, "delivered", seconds)
            return
        lane.last_error = outcome.reason
        fields = {"receiver": name, "reason": outcome.reason}
        if isinstance(outcome, Retry):
            lane.failed += 1
            heapq.heappush(self._alarms, outcome.at)
            self._count(name, "retry", seconds)
            log.info("delivery failed", extra={**fields, "next_at": outcome.at.isoformat()})
            return
        lane.dead += 1
        if isinstance(outcome, ReceiverGone):
            lane.disabled = outcome.reason
        self._count(name, "gone" if lane.disabled else "dead", seconds)
        log.warning("delivery given up", extra=fields)

    def _count(self, receiver: str, result: str, seconds: float) -> None:
        self._bus.publish(DeliveryAttempted(receiver, result, seconds))

    async def _settle(self, delivery: Delivery, outcome: Outcome) -> None:
        def write() -> bool:
            self._store.settle(delivery, outcome, self._clock.now())
            notice = delivery.notice
            detail = delivery_detail(delivery, outcome)
            self._bus.happened("delivery", notice.run, notice.project, detail)
            return True

        for pause_s in _SETTLE_PAUSES_S:
            if await self._in_store(write):
                return
            await asyncio.sleep(pause_s)
        # Not recorded: when its lease ends it is sent once more, under the same id.
        log.error("delivery not recorded", extra={"receiver": delivery.receiver})

    async def _try_out(self, lane: ReceiverState) -> TestResult:
        name = lane.receiver.name
        if lane.disabled:
            return TestResult(name, delivered=False, reason=lane.disabled, took_s=0.0)
        now, started = self._clock.now(), self._clock.monotonic()
        delivery = Delivery("test", name, notice_for_test(now), 1, now, now)
        lane.begin(started, now)
        try:
            answer = await self._attempt(lane.receiver, delivery)
        finally:
            lane.in_flight -= 1
            self._wake.set()
        took_s = self._clock.monotonic() - started
        if isinstance(answer, Taken):
            self._book(lane, Delivered(), took_s)
            return TestResult(name, delivered=True, reason="", took_s=took_s)
        # Never tried again, so it is dead, whatever the same answer means for a delivery.
        ended = ReceiverGone(answer.reason) if answer.gone else Dead(answer.reason)
        self._book(lane, ended, took_s)
        return TestResult(name, delivered=False, reason=answer.reason, took_s=took_s)

    async def _in_store(self, work: Callable[[], _Done]) -> _Done | None:
        """What the outbox answers; None when it is in trouble, which is logged and counted."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._store_threads, work)
        except Exception as error:
            # Only the type: the errors of a database quote rows.
            kind = type(error).__name__
        self._bus.publish(OutboxTrouble())
        log.error("outbox in trouble", extra={"error": kind})
        return None


def notice_for_test(now: datetime) -> Notice:
    """A notice that looks like a real one and says plainly that it is none."""
    alert = AlertView(
        id="test",
        rule="WatchstepTest",
        severity="info",
        state="firing",
        run="watchstep-test",
        project="watchstep",
        attempt=1,
        since=now,
        first_update=1,
        last_update=1,
        resolved_at=None,
        metric="",
        reading=float("nan"),
        action="none",
        reason="Somebody asked for a test message.",
        summary="This is a test: the receiver works, and no run is in trouble.",
    )
    return Notice(
        id=f"test-{uuid.uuid4()}",
        run=alert.run,
        project=alert.project,
        attempt=1,
        incident="watchstep-test",
        edge="test",
        stage="",
        diagnosis="",
        confidence=0.0,
        alerts=(alert,),
        readings={},
        checkpoint=None,
        trainer_did="",
        links={},
        at=now,
    )
