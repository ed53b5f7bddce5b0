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
from watchstep.sender.config import OutboundConfig, Patience
from watchstep.sender.contact import Contact
from watchstep.sender.session import Header, read_header, sessions, take_over
from watchstep.sender.session_sender import BATCH_UPDATES, SessionSender, SetbackError
from watchstep.sender.sources import LiveSource, SpooledSource
from watchstep.sender.transport import Transport

_log = logging.getLogger(__name__)

# Consecutive failures after which the service counts as down, in `Pacer.is_open`.
_BREAKER_FAILURES = 5
_WAKEUPS_MAX = 4


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
        self.failures = 0
        self.not_before = 0.0

    def failed(self, asked_s: float | None = None, *, hopeless: bool = False) -> None:
        """Hold the next request back.

        Args:
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

    def sleep(self) -> None:
        """Sleep until the next request may be made."""
        time.sleep(max(self.not_before - time.monotonic(), 0.0))


class SenderLoop:
    """One daemon thread that brings a living session over, after the dead ones of its run.

    Made by the trainer's thread, which then only calls `start`, `wake` and `stop`.

    Attributes:
        idle: Whether the thread sleeps with nothing to send, and is to be woken by the next
            update, urgent or not.
    """

    def __init__(
        self,
        config: OutboundConfig,
        transport: Transport,
        sender: SessionSender,
        source: LiveSource,
        complain: Callable[[str, str], None],
    ) -> None:
        self._config = config
        self._transport = transport
        self._sender = sender
        self._source = source
        self._complain = complain
        self._wakeups: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._urgent = False
        self._everything_wanted = False
        self._everything = False
        self._stopping = False
        self._last_request = 0.0
        self._last_turn = 0.0
        self._dead_sessions: list[Path] | None = None
        self._dead: tuple[SessionSender, SpooledSource] | None = None
        self._thread: threading.Thread | None = None
        self._contact = Contact(config)
        self.idle = True
        self.pacer = Pacer(config.patience)
        self.changed = threading.Condition()
        self.last_ack = 0.0
        self.internal_errors = 0

    @property
    def alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Start the thread.

        Raises:
            RuntimeError: The system has no thread left.
        """
        self._thread = threading.Thread(target=self._run, name="watchstep-sender", daemon=True)
        self._thread.start()
        self._contact.begin()

    def wake(self, *, urgent: bool, everything: bool = False) -> None:
        """Wake the thread; cheap, takes no lock.

        Args:
            urgent: To send at once; otherwise to see for itself what its time is now.
            everything: To try once, at once, to send all there is, whatever the pacer says.
        """
        self.idle = False
        if everything:
            self._everything_wanted = True
        if urgent:
            self._urgent = True
        # Bounded: while a request hangs nobody empties the queue.
        if self._wakeups.qsize() < _WAKEUPS_MAX:
            self._wakeups.put(None)

    def alert(self, text: str) -> None:
        """Say at the terminal what the service cannot tell people of now."""
        self._contact.alert(text, is_down=self.pacer.is_open)

    def stop(self) -> None:
        """Let the thread end after the request it is in; does not wait."""
        if not self.last_ack:
            self._contact.failed()
        self._contact.end()
        self._stopping = True
        self.wake(urgent=True)

    def abandon(self) -> None:
        """In a forked child: drop the parent's files and connection."""
        self._release_dead()
        self._transport.abandon()

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._wait()
                self._everything, self._everything_wanted = self._everything_wanted, False
                due = self._everything or time.monotonic() >= self.pacer.not_before
                if due and not self._stopping:
                    self._guarded_turn()
                    self._last_turn = time.monotonic()
                    with self.changed:
                        self.changed.notify_all()
        finally:
            self._release_dead()
            self._transport.close()

    def _wait(self) -> None:
        """Sleep until the next turn is due, or something is urgent."""
        while not self._urgent:
            left_s = self._next_turn() - time.monotonic()
            if left_s <= 0:
                break
            with contextlib.suppress(queue.Empty):
                self._wakeups.get(timeout=left_s)
        self._urgent = False

    def _next_turn(self) -> float:
        """When the next turn is due, on the monotonic clock.

        Turns are `flush_s` apart, so that updates that come fast share a request; one that
        comes after a silence finds its time over and goes at once.
        """
        # In this order: an update that is put after the look at `newest` sees `idle`.
        self.idle = True
        if self._sender.acked < self._source.newest:
            self.idle = False
        pause_s = self._config.poll_s if self.idle else self._config.flush_s
        return max(self._last_turn + pause_s, self.pacer.not_before)

    def _guarded_turn(self) -> None:
        try:
            self._turn()
        except UnreachableError as error:
            self._contact.problem = str(error)
            self.pacer.failed()
        except SetbackError as setback:
            self._set_back(setback)
        except OSError:
            # The spool: the service's own count serves instead, memory has the rest.
            self.pacer.failed()
            self.internal_errors += 1
        except Exception:
            if not self.internal_errors:
                _log.debug("sender failed", exc_info=True)
            self.internal_errors += 1
            self.pacer.failed()

    def _turn(self) -> None:
        """Send until nothing is left, the dead sessions of this run first."""
        while not self._stopping:
            sender = self._next_sender()
            now = time.monotonic()
            poll = sender is self._sender and now - self._last_request >= self._config.poll_s
            before = sender.acked
            if sender.advance(poll=poll):
                self._last_request = time.monotonic()
                self.pacer.succeeded()
            elif sender is self._sender:
                return
            else:
                self._finish_dead()
                continue
            if sender.refused:
                self._complain(
                    "refused",
                    "the service refuses updates of this run, which it will not judge; see"
                    " watch.losses() and the service's log",
                )
            if sender is self._sender:
                if sender.rival:
                    self._complain("rival", f"watchstep: {sender.rival}")
                if not self.last_ack:
                    self._contact.made()
                self.last_ack = self._last_request
                with self.changed:
                    self.changed.notify_all()
                if self._may_rest(sender.acked - before):
                    return

    def _may_rest(self, moved: int) -> bool:
        """Whether what is left may wait for company: else each update made its own request."""
        left = self._source.newest - self._sender.acked
        return moved > 0 and left < BATCH_UPDATES // 2 and not self._everything

    def _set_back(self, setback: SetbackError) -> None:
        self._contact.problem = str(setback)
        dead = self._dead is not None
        if setback.kind == "session" and dead:
            self._complain("session", f"an earlier session of the run is not taken: {setback}")
            self._release_dead()
            return
        hopeless = setback.kind in ("shut", "session")
        self.pacer.failed(setback.retry_after_s, hopeless=hopeless)
        if hopeless:
            self._complain(
                "shut",
                f"watchstep's service turns updates away ({setback}); they stay in the spool. "
                "Check WATCHSTEP_URL and WATCHSTEP_TOKEN",
            )

    def _next_sender(self) -> SessionSender:
        if self._dead_sessions is None:
            self._dead_sessions = sessions(self._config.directory)
        while self._dead is None and self._dead_sessions:
            path = self._dead_sessions.pop(0)
            header = read_header(path)
            if header is not None and header.run == self._config.run:
                self._take_up(path, header)
        return self._dead[0] if self._dead is not None else self._sender

    def _take_up(self, path: Path, header: Header) -> None:
        folder = take_over(path)
        if folder is not None:
            self._sender.follows_dead = True
            source = SpooledSource(folder)
            self._dead = (SessionSender(self._transport, header, source), source)

    def _finish_dead(self) -> None:
        if self._dead is not None:
            # It stays where it cannot be removed; sending it again has no second effect.
            with contextlib.suppress(OSError):
                self._dead[1].folder.remove()
            self._release_dead()

    def _release_dead(self) -> None:
        if self._dead is not None:
            self._dead[1].folder.release()
            self._dead = None
