"""The sender's thread: when to send, when to wait, and what to give up on."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path

from watchstep.errors import UnreachableError
from watchstep.sender.cargo import DeadCargo, LiveCargo
from watchstep.sender.config import OutboundConfig, Patience
from watchstep.sender.courier import BATCH_UPDATES, Courier, SetbackError
from watchstep.sender.session import Header, read_header, sessions, take_over
from watchstep.sender.transport import Transport

_log = logging.getLogger(__name__)

# Consecutive failures after which the service counts as down, in `Pacer.is_open`.
_BREAKER_FAILURES = 5
_RINGS_MAX = 4


class Pacer:
    """Says when the next request may be made; the circuit breaker.

    Owned by the sender's thread. Its random numbers come from the system: the trainer's
    generators must not move.
    """

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self.failures = 0
        self.total_failures = 0
        self.not_before = 0.0

    @property
    def is_open(self) -> bool:
        """Whether the service failed so often that it counts as down."""
        return self.failures >= _BREAKER_FAILURES

    def succeeded(self) -> None:
        """Let the next request go at once."""
        self.failures = 0
        self.not_before = 0.0

    def failed(self, asked_s: float | None = None, *, hopeless: bool = False) -> None:
        """Hold the next request back.

        Args:
            asked_s: What the service asked for.
            hopeless: Only a person can help, so wait the longest time at once.
        """
        longest = self._patience.backoff_max_s
        self.failures += 1
        self.total_failures += 1
        doubled = self._patience.backoff_first_s * 2 ** min(self.failures - 1, 30)
        wait_s = longest if hopeless else min(doubled, longest)
        chance = os.urandom(1)[0] / 255
        wait_s *= 0.5 + chance / 2
        if asked_s is not None:
            # Not all at once: whoever was turned away together was told the same.
            asked_s = min(asked_s, self._patience.retry_after_max_s)
            wait_s = max(wait_s, asked_s * (1 + chance / 2))
        self.not_before = time.monotonic() + wait_s


class SenderLoop:
    """One daemon thread that brings a living session over, after the dead ones of its run.

    Made by the trainer's thread, which then only calls `start`, `nudge`, `press` and `stop`.

    Attributes:
        idle: Whether the thread sleeps with nothing to send, and wants a nudge from the next
            update, urgent or not.
    """

    def __init__(
        self,
        config: OutboundConfig,
        transport: Transport,
        courier: Courier,
        cargo: LiveCargo,
        complain: Callable[[str, str], None],
    ) -> None:
        self._config = config
        self._transport = transport
        self._courier = courier
        self._cargo = cargo
        self._complain = complain
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._urgent = False
        self._pressed = False
        self._thorough = False
        self._stopping = False
        self._last_request = 0.0
        self._last_turn = 0.0
        self._elders: list[Path] | None = None
        self._elder: tuple[Courier, DeadCargo] | None = None
        self._thread: threading.Thread | None = None
        self.idle = True
        self.pacer = Pacer(config.patience)
        self.changed = threading.Condition()
        self.last_ack = 0.0
        self.internal_errors = 0

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Start the thread.

        Raises:
            RuntimeError: The system has no thread left.
        """
        self._thread = threading.Thread(target=self._run, name="watchstep-sender", daemon=True)
        self._thread.start()

    def nudge(self, *, urgent: bool) -> None:
        """Wake the thread; cheap, takes no lock.

        Args:
            urgent: To send at once; otherwise to see for itself what its time is now.
        """
        self.idle = False
        if urgent:
            self._urgent = True
        # Bounded: while a request hangs nobody empties the queue.
        if self._bell.qsize() < _RINGS_MAX:
            self._bell.put(None)

    def press(self) -> None:
        """Ask for one try at once, of everything, whatever the pacer says."""
        self._pressed = True
        self.nudge(urgent=True)

    def stop(self) -> None:
        """Let the thread end after the request it is in; does not wait."""
        self._stopping = True
        self.nudge(urgent=True)

    def abandon(self) -> None:
        """In a forked child: drop the parent's files and connection."""
        self._let_elder_go()
        self._transport.close()

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._wait()
                self._thorough, self._pressed = self._pressed, False
                due = self._thorough or time.monotonic() >= self.pacer.not_before
                if due and not self._stopping:
                    self._guarded_turn()
                    self._last_turn = time.monotonic()
                    with self.changed:
                        self.changed.notify_all()
        finally:
            self._let_elder_go()
            self._transport.close()

    def _wait(self) -> None:
        """Sleep until the next turn is due, or something is urgent."""
        while not self._urgent:
            left_s = self._next_turn() - time.monotonic()
            if left_s <= 0:
                break
            with contextlib.suppress(queue.Empty):
                self._bell.get(timeout=left_s)
        self._urgent = False

    def _next_turn(self) -> float:
        """When the next turn is due, on the monotonic clock.

        Turns are `flush_s` apart, so that updates that come fast share a request; one that
        comes after a silence finds its time over and goes at once.
        """
        # In this order: an update that is put after the look at `newest` sees `idle`.
        self.idle = True
        if self._courier.acked < self._cargo.newest:
            self.idle = False
        pause_s = self._config.poll_s if self.idle else self._config.flush_s
        return max(self._last_turn + pause_s, self.pacer.not_before)

    def _guarded_turn(self) -> None:
        try:
            self._turn()
        except UnreachableError:
            self.pacer.failed()
        except SetbackError as setback:
            self._set_back(setback)
        except OSError:
            # The spool: the service's own count serves instead, memory has the rest.
            self.pacer.failed()
            self.internal_errors += 1
        except Exception:  # noqa: BLE001 - the sender's loop: counted, logged once, goes on
            if not self.internal_errors:
                _log.debug("sender failed", exc_info=True)
            self.internal_errors += 1
            self.pacer.failed()

    def _turn(self) -> None:
        """Send until nothing is left, the dead sessions of this run first."""
        while not self._stopping:
            courier = self._next_courier()
            now = time.monotonic()
            poll = courier is self._courier and now - self._last_request >= self._config.poll_s
            before = courier.acked
            if courier.advance(poll=poll):
                self._last_request = time.monotonic()
                self.pacer.succeeded()
            elif courier is self._courier:
                return
            else:
                self._finish_elder()
                continue
            if courier is self._courier:
                self.last_ack = self._last_request
                with self.changed:
                    self.changed.notify_all()
                if self._may_rest(courier.acked - before):
                    return

    def _may_rest(self, moved: int) -> bool:
        """Whether what is left may wait for company: else each update made its own request."""
        left = self._cargo.newest - self._courier.acked
        return moved > 0 and left < BATCH_UPDATES // 2 and not self._thorough

    def _set_back(self, setback: SetbackError) -> None:
        elder = self._elder is not None
        if setback.kind == "session" and elder:
            self._complain("session", f"an earlier session of the run is not taken: {setback}")
            self._let_elder_go()
            return
        hopeless = setback.kind in ("shut", "session")
        self.pacer.failed(setback.retry_after_s, hopeless=hopeless)
        if hopeless:
            self._complain(
                "shut",
                f"watchstep's service turns updates away ({setback}); they stay in the spool. "
                "Check WATCHSTEP_URL and WATCHSTEP_TOKEN",
            )

    def _next_courier(self) -> Courier:
        if self._elders is None:
            self._elders = sessions(self._config.directory)
        while self._elder is None and self._elders:
            path = self._elders.pop(0)
            header = read_header(path)
            if header is not None and header.run == self._config.run:
                self._take_up(path, header)
        return self._elder[0] if self._elder is not None else self._courier

    def _take_up(self, path: Path, header: Header) -> None:
        folder = take_over(path)
        if folder is not None:
            cargo = DeadCargo(folder)
            self._elder = (Courier(self._transport, header, cargo), cargo)

    def _finish_elder(self) -> None:
        if self._elder is not None:
            # It stays where it cannot be removed; sending it again has no second effect.
            with contextlib.suppress(OSError):
                self._elder[1].folder.remove()
            self._let_elder_go()

    def _let_elder_go(self) -> None:
        if self._elder is not None:
            self._elder[1].folder.release()
            self._elder = None
