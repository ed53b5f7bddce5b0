"""`watchstep run`: start the command, pass on what it prints, see it to its end, start it again."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from watchstep.errors import HALT_EXIT_CODE, say
from watchstep.outside import command as commands
from watchstep.outside.channels import Channel, hold_standard_streams, open_channels
from watchstep.outside.command import CannotStartError, Command
from watchstep.outside.endings import Ending, memory_kills
from watchstep.outside.observer import Observer, Watching

_TURN_S = 0.5
_QUIET_S = 0.3
"""How long output of processes that outlive the command is waited for."""

_FIRST_BACKOFF_S = 1.0
_LONGEST_BACKOFF_S = 60.0
_OUTLIVING_NAMED = 5


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What the user asked for.

    Attributes:
        grace_s: Between SIGINT, SIGTERM and SIGKILL.
        restarts: How often the command is started again after a crash or a hang.
        unbuffered: Whether PYTHONUNBUFFERED is set: piped Python holds its output back.
    """

    words: Sequence[str]
    watching: Watching
    on_critical: Literal["alert", "halt"] = "alert"
    grace_s: float = 60.0
    restarts: int = 0
    unbuffered: bool = True


def run_command(settings: RunSettings) -> int:
    """Run the command, as often as is asked for; the exit code that we leave with."""
    hold_standard_streams()
    heard = commands.take_signals()
    pin: str | None = None
    for start in range(settings.restarts + 1):
        attempt = Attempt(settings, heard, pin)
        exit_code = attempt.run()
        if start == settings.restarts or not attempt.may_restart:
            break
        pin = attempt.pin
        wait_s = min(_FIRST_BACKOFF_S * 2**start, _LONGEST_BACKOFF_S)
        say(f"starts the command again in {wait_s:g} s ({start + 1} of {settings.restarts})")
        if _told_to_end(heard, wait_s):
            break
    return exit_code


class Attempt:
    """One start of the command.

    Attributes:
        may_restart: Whether it crashed or hung, and nobody asked for its end.
        pin: The last good checkpoint that is known, or None.
    """

    def __init__(
        self, settings: RunSettings, heard: frozenset[signal.Signals], pin: str | None
    ) -> None:
        self._settings = settings
        self._heard = heard
        self._halt: str | None = None
        self._observer = Observer(settings.watching, self._on_halt)
        self._channels: list[Channel] = []
        self.may_restart = False
        self.pin = pin

    def run(self) -> int:
        """Start the command and see it to its end; its exit code, or ours after a halt.

        Raises:
            CannotStartError: It cannot be started.
        """
        kills = memory_kills()
        self._channels = open_channels(self._observer.heard)
        command = self._start()
        self._observer.start()
        hung = self._see_to_the_end(command)
        self._drain(command, stopped=hung or self._halt is not None)
        self._observer.finish()
        assert command.status is not None
        ending = Ending(
            command.status,
            lines=self._observer.last_lines.lines(),
            error_lines=self._observer.error_lines.lines(),
            signals=command.signals,
            killed_for_memory=memory_kills() - kills,
            hung=hung,
        )
        return self._told(ending)

    def _start(self) -> Command:
        try:
            return commands.start(self._settings.words, self._environment(), self._channels)
        except CannotStartError as error:
            if self._settings.watching.options.url:
                # Who started it may look at the service alone, as at the runs of a night.
                event = {"kind": "failed", "error": str(error), "exit_code": error.exit_code}
                self._observer.tell_end({**event, "ended_by": "start"})
            raise

    def _on_halt(self, reason: str) -> None:
        """Any thread; the main loop acts on it."""
        if self._halt is None and (
            self._settings.on_critical == "halt" or reason.startswith("halted by command")
        ):
            self._halt = reason

    def _environment(self) -> dict[str, str]:
        options = self._settings.watching.options
        environment = {
            **os.environ,
            # A hook inside speaks for the same run, in the same spool.
            "WATCHSTEP_RUN": options.run,
            "WATCHSTEP_DIR": str(options.directory.resolve()),
            "WATCHSTEP_OUTSIDE": str(self._observer.hook.mark),
        }
        if self._settings.unbuffered:
            environment.setdefault("PYTHONUNBUFFERED", "1")
        if environment.get("WATCHSTEP_MIRROR"):
            # Each Python of the command's imports watchstep first, which mirrors.
            startup = str(Path(__file__).parent / "startup")
            paths = (startup, environment.get("PYTHONPATH"))
            environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
        if self.pin is not None:
            environment["WATCHSTEP_RESUME_FROM"] = self.pin
        return environment

    def _see_to_the_end(self, command: Command) -> bool:
        """Wait for the command, or end it where that is asked for; whether it hung."""

        def pump(timeout_s: float) -> bool:
            return commands.wait(command, self._heard, timeout_s, self._resize)

        while not pump(_TURN_S):
            hung = self._observer.hung and self._settings.restarts > 0
            if self._halt is not None or hung:
                say(f"stops the command: {self._halt or 'it hangs'}")
                commands.stop(command, self._settings.grace_s, pump)
                return hung and self._halt is None
        return False

    def _resize(self) -> None:
        for channel in self._channels:
            channel.resize()

    def _drain(self, command: Command, *, stopped: bool) -> None:
        """Pass on what is left of the output, and deal with processes that outlive the command."""
        while not all(channel.finish(_QUIET_S) for channel in self._channels):
            living = command.living()
            if not living:
                continue  # Whoever reads our output takes its time.
            names = ", ".join(
                f"{process.name} ({process.pid})" for process in living[:_OUTLIVING_NAMED]
            )
            self._observer.outliving = f"{len(living)} processes outlive the command: {names}"
            if stopped or self._settings.restarts:
                command.signal_all(signal.SIGKILL)
                command.reap()
                continue
            for channel in self._channels:
                channel.hand_over()
            return

    def _told(self, ending: Ending) -> int:
        event = ending.event()
        if self._halt is not None:
            rule, _, reason = self._halt.partition(": ")
            event = {"kind": "halted", "rule": rule, "reason": reason or rule}
        self._observer.tell_end(event)
        self.pin = self._observer.hook.pin or self.pin
        self.may_restart = ending.crashed and self._halt is None
        if self._halt is not None:
            return HALT_EXIT_CODE
        return ending.exit_code


def _told_to_end(heard: frozenset[signal.Signals], wait_s: float) -> bool:
    deadline = time.monotonic() + wait_s
    ends = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT}
    while (left_s := deadline - time.monotonic()) > 0:
        info = signal.sigtimedwait(heard, left_s)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)
        if info is not None and info.si_signo in ends:
            return True
    return False
