"""The trainer's end of the line: `put` is the hot path, everything else may take its time."""

from __future__ import annotations

import atexit
import contextlib
import json
import math
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from watchstep.core.updates import Update
from watchstep.errors import SettingsError, WireError, say, warn
from watchstep.sender.backlog import Backlog, Losses
from watchstep.sender.config import OutboundConfig
from watchstep.sender.loop import SenderLoop
from watchstep.sender.session import Folder, Header, create
from watchstep.sender.session_sender import BATCH_UPDATES, SessionSender
from watchstep.sender.sources import DAMAGED, LiveSource
from watchstep.sender.spool import Spool
from watchstep.sender.spool_writer import SpoolWriter
from watchstep.sender.transport import Target, Transport
from watchstep.wire.packed import Packer, Record
from watchstep.wire.text import to_json

# Command ids remembered, so that one that is sent again is not obeyed again.
_COMMANDS_MAX = 256


@dataclass(frozen=True, slots=True)
class OutboundStats:
    """How an `Outbound` is doing.

    Attributes:
        queue_len: Updates in memory that are not acknowledged.
        spool_bytes: Size on disk; 0 without a disk.
        on_disk: Whether updates are written to disk.
        last_ack_age_s: Seconds since the service last answered well; None before it did.
        sent: Updates that the service stored.
        http_failures: Requests that were not answered well.
        internal_errors: Faults of our own that training never saw.
    """

    queue_len: int
    spool_bytes: int
    on_disk: bool
    last_ack_age_s: float | None
    sent: int
    http_failures: int
    internal_errors: int


class Outbound:
    """Takes updates from one trainer and sees to it that the service gets them.

    Making one starts no thread and touches no network. After a fork the child's copy does
    nothing at all; the parent's goes on.

    Args:
        on_command: Called in the sender's thread with each command for this attempt, once.
        on_rules: Called in the sender's thread with the rules that judge the run, whenever they
            change.
    """

    def __init__(
        self,
        config: OutboundConfig,
        *,
        on_command: Callable[[Mapping[str, Any]], None] | None = None,
        on_rules: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> None:
        self._config = config
        self._on_command = on_command
        self._on_rules = on_rules
        self._commands_seen: dict[str, None] = {}
        self._complaints: set[str] = set()
        self._put_lock = threading.RLock()
        self._silent = False
        self._started = False
        self._internal_errors = 0
        self._packer = Packer()
        self._losses = Losses()
        self._header = _header_of(config)
        self._folder = self._make_folder()
        self._spool = self._make_spool(self._folder)
        self._writer = self._make_writer(self._spool)
        self._backlog = Backlog(
            config.queue_updates, is_safe=self._is_on_disk, on_drop=self._dropped
        )
        self._source = LiveSource(self._backlog, self._losses, self._spool)
        self._sender: SessionSender | None = None
        self._loop = self._make_loop()
        _living.add(self)

    @property
    def attempt(self) -> int | None:
        """The attempt that the service assigned; None before it was heard."""
        return self._sender.attempt if self._sender is not None else None

    def introduce(self, path: Path, checkpoints: Path | None) -> None:
        """Say in a file which session this is; where one has said so before, nothing is done.

        Args:
            path: Read by `watchstep run`, which tells beside the session how its process ended.
        """
        if self._folder is None:
            return
        written = path.with_name(f"{path.name}.{os.getpid()}")
        with contextlib.suppress(OSError):
            header = {"run": self._header.run, **json.loads(self._header.announcement())}
            places = {
                "spool": str(self._config.directory.resolve()),
                "checkpoints": None if checkpoints is None else str(checkpoints.resolve()),
            }
            written.write_bytes(to_json({**places, **header}))
            try:
                # Whole or not at all, and the first one counts.
                os.link(written, path)
            finally:
                written.unlink()

    def put(self, update: Update) -> None:
        """Take one update; `seq` must be one higher than the last.

        Never raises, never waits for the network. When it returns the update survives the
        death of this process, unless the disk failed before.
        """
        if self._silent:
            return
        try:
            with self._put_lock:
                self._put(update)
        except Exception:
            self._internal_errors += 1

    def wake(self) -> None:
        """Have what was put sent at once, as is done anyhow with events and non-finite readings."""
        if self._loop is not None and not self._silent:
            self._loop.wake(urgent=True)

    def alert(self, text: str) -> None:
        """Say one line at the terminal, unless a service hears of it and tells people."""
        if self._loop is not None and self._loop.alive:
            self._loop.alert(text)
        else:
            say(text)

    def flush(self, timeout_s: float) -> bool:
        """Wait until the service has everything put so far.

        Returns:
            Whether it has; False when the time is up, or nothing is ever sent.
        """
        target = self._source.newest
        if self._silent or self._loop is None or not self._loop.alive:
            return self._source.acked >= target
        self._loop.wake(urgent=True, everything=True)
        return self._await(target, time.monotonic() + timeout_s)

    @property
    def unsent(self) -> int:
        """Updates that the service has not acknowledged, of those that are to be sent."""
        return 0 if self._loop is None else self._source.newest - self._source.acked

    def close(self, timeout_s: float | None = None, *, patient: bool = False) -> None:
        """Send what can be sent in the time, and let go of everything. May be called twice.

        What is not acknowledged stays in the spool.

        Args:
            timeout_s: None for the configured exit budget. A service that fails while we
                wait ends the wait.
            patient: Whether a failure ends the wait only where the service counts as down, or
                has never answered.
        """
        if self._silent:
            return
        self._silent = True
        _living.discard(self)
        try:
            exit_s = self._config.exit_s if timeout_s is None else timeout_s
            self._drain(exit_s, patient=patient)
        except Exception:
            self._internal_errors += 1
        with self._put_lock:
            self._let_go()

    def losses(self) -> Mapping[str, int]:
        """Updates that will never be sent, by reason.

        The reasons: "queue_full" (memory, with no disk behind it), "spool_full" (the size
        limit on disk), "spool_error" (the disk failed), "unencodable", and "rejected",
        "refused" and "conflict" by the service.
        """
        return self._losses.totals()

    def stats(self) -> OutboundStats:
        loop = self._loop
        heard = loop.last_ack if loop is not None else 0.0
        return OutboundStats(
            queue_len=len(self._backlog),
            spool_bytes=self._spool.size_bytes if self._spool is not None else 0,
            on_disk=self._writer is not None and self._writer.all_written,
            last_ack_age_s=time.monotonic() - heard if heard else None,
            sent=self._sender.sent if self._sender is not None else 0,
            http_failures=loop.pacer.total_failures if loop is not None else 0,
            internal_errors=self._internal_errors + (loop.internal_errors if loop else 0),
        )

    def _put(self, update: Update) -> None:
        seq = update.seq
        try:
            framed, names = self._packer.pack(update)
        except WireError:
            self._losses.add(seq, seq, "unencodable")
            self._source.newest = seq
            return
        urgent = update.event is not None or not math.isfinite(sum(update.readings.values()))
        keep_when_full = urgent or seq == 1
        if self._writer is not None:
            self._writer.write(seq, framed, names, keep_when_full=keep_when_full)
        if self._loop is not None:
            if names:
                self._source.introductions.append(names)
            self._backlog.append(Record(seq, framed, keep_when_full))
        elif self._writer is None:
            self._losses.add(seq, seq, DAMAGED)
        self._source.newest = seq
        if self._loop is not None:
            urgent = urgent or seq % BATCH_UPDATES == 0
            if urgent or self._loop.idle:
                self._wake(self._loop, urgent=urgent)

    def _wake(self, loop: SenderLoop, *, urgent: bool) -> None:
        if not self._started:
            self._started = True
            try:
                loop.start()
            except RuntimeError:
                self._complain("thread", "watchstep cannot start its thread; nothing is sent")
        loop.wake(urgent=urgent)

    def _await(self, target: int, deadline: float, *, ends_on_failure: bool = False) -> bool:
        loop = self._loop
        if loop is None:
            return False
        failures = loop.pacer.total_failures
        with loop.changed:
            while self._source.acked < target:
                left = deadline - time.monotonic()
                if left <= 0 or not loop.alive:
                    return False
                if ends_on_failure and loop.pacer.total_failures > failures:
                    return False
                loop.changed.wait(left)
        return True

    def _drain(self, timeout_s: float, *, patient: bool) -> None:
        loop = self._loop
        if loop is None or not loop.alive:
            return
        if timeout_s > 0 and self._source.acked < self._source.newest:
            loop.wake(urgent=True, everything=True)
            may_answer = patient and loop.last_ack > 0 and not loop.pacer.is_open
            deadline = time.monotonic() + timeout_s
            self._await(self._source.newest, deadline, ends_on_failure=not may_answer)
        loop.stop()

    def _let_go(self) -> None:
        if self._spool is None or self._folder is None or self._writer is None:
            return
        self._writer.close()
        everything = self._source.acked >= self._source.newest and self._loop is not None
        untouched = self._source.newest == 0 and self._spool.last_seq == 0
        self._spool.shut(remove=everything or untouched)

    def _disk_fails(self, reason: str) -> None:
        self._complain(
            "disk",
            f"watchstep cannot write its spool ({reason}); it holds updates in memory and tries"
            " again",
        )

    def _given_up(self, seq: int) -> None:
        # With a service, the queue has the update still, and says so if it must drop it.
        if self._loop is None:
            self._losses.add(seq, seq, DAMAGED)

    def _is_on_disk(self, seq: int) -> bool:
        return self._spool is not None and self._spool.holds(seq)

    def _dropped(self, seq: int) -> None:
        if self._spool is None or self._losses.reason_for(seq) is None:
            self._losses.add(seq, seq, "queue_full")

    def _lost_on_disk(self, first: int, last: int) -> None:
        self._losses.add(first, last, "spool_full")

    def _obey(self, attempt: int, commands: Sequence[Mapping[str, Any]]) -> None:
        for command in commands:
            name = str(command.get("id"))
            of_another = command.get("run", self._config.run) != self._config.run
            if self._on_command is None or command.get("attempt", attempt) != attempt or of_another:
                continue
            if name in self._commands_seen:
                continue
            self._commands_seen[name] = None
            if len(self._commands_seen) > _COMMANDS_MAX:
                del self._commands_seen[next(iter(self._commands_seen))]
            self._on_command(command)

    def _complain(self, kind: str, text: str) -> None:
        if kind in self._complaints:
            return
        self._complaints.add(kind)
        if not warn(text, RuntimeWarning):
            self._internal_errors += 1

    def _make_folder(self) -> Folder | None:
        try:
            return create(self._config.directory, self._header, time.time_ns() // 1_000_000)
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            text = f"watchstep has no spool ({reason}); updates stay in memory only"
            self._complain("disk", text)
            return None

    def _make_spool(self, folder: Folder | None) -> Spool | None:
        if folder is None:
            return None
        return Spool(folder, self._header, self._config.spool_bytes, self._lost_on_disk)

    def _make_writer(self, spool: Spool | None) -> SpoolWriter | None:
        if spool is None:
            return None
        held = self._config.queue_updates
        return SpoolWriter(spool, held, on_lost=self._given_up, on_pause=self._disk_fails)

    def _make_loop(self) -> SenderLoop | None:
        config = self._config
        if config.mode == "offline" or config.url is None:
            return None
        try:
            transport = Transport(
                Target.parse(config.url),
                token=config.token,
                patience=config.patience,
                trust_env=config.trust_env,
            )
        except SettingsError as error:
            self._complain("settings", f"watchstep sends nothing: {error}")
            return None
        self._sender = SessionSender(
            transport,
            self._header,
            self._source,
            on_commands=self._obey,
            on_rules=self._on_rules,
        )
        self._sender.follows_dead = config.goes_on
        return SenderLoop(config, transport, self._sender, self._source, self._complain)

    def _silence_in_child(self) -> None:
        self._silent = True
        self._put_lock = threading.RLock()
        if self._spool is not None:
            self._spool.abandon()
        self._losses = Losses()
        if self._loop is not None:
            self._loop.abandon()


_living: set[Outbound] = set()


def _header_of(config: OutboundConfig) -> Header:
    made = Header(
        session=config.session or os.urandom(16).hex(),
        run=config.run,
        project=config.project,
        tags=config.tags,
        config=config.config,
        trainer=config.trainer,
        source=config.source,
    )
    try:
        made.to_frame()
    except WireError:
        # Megabytes of configuration, or one that refers to itself: the run matters more.
        return replace(made, config={}, tags={})
    return made


def _close_all() -> None:
    deadline: float | None = None
    for outbound in list(_living):
        # One budget for all of them: a process must not leave n times as late.
        budget_s = outbound._config.exit_s  # noqa: SLF001 - same module
        deadline = deadline or time.monotonic() + budget_s
        outbound.close(min(budget_s, max(deadline - time.monotonic(), 0.0)))


def _silence_all() -> None:
    for outbound in list(_living):
        outbound._silence_in_child()  # noqa: SLF001 - same module
    _living.clear()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_silence_all)
