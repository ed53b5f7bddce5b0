"""One attempt of a run as the outside tells it: judged by the rules, spooled, sent."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from watchstep.core.engine import RuleSet
from watchstep.core.updates import ANEW, Action
from watchstep.errors import say
from watchstep.hook.judgement import Judgement
from watchstep.hook.options import Options
from watchstep.hook.readings import Coercer
from watchstep.hook.stream import Stream
from watchstep.machine.sampler import Sampler
from watchstep.outside.merging import MergedUpdate
from watchstep.rules import PACKS_TAG, load, packs_named
from watchstep.sender import Outbound, OutboundConfig

MACHINE_PACK = "machine"

LAST_WORDS_S = 10.0
"""How long the end of a command waits to be heard: nobody trains meanwhile, and a service on a busy
machine may answer late. The default `exit_s` is for trainers, who may be killed soon."""


class RunStream:
    """Speaks for one attempt, from its first update on.

    Nothing is sent before `begin`: a hook inside the command may speak for the run itself.

    Args:
        options: As a hook's; its rules count where the user named some.
        on_halt: Called with the reason where a rule or a person asks for a halt; from any thread.
        sampler: Whose samples ride on the updates.
    """

    def __init__(
        self,
        options: Options,
        *,
        on_halt: Callable[[str], None],
        sampler: Sampler | None = None,
    ) -> None:
        self._options = options
        self._on_halt = on_halt
        self._sampler = sampler
        self._stream: Stream | None = None
        self._attempt = 1
        self._coercer = Coercer()

    @property
    def begun(self) -> bool:
        return self._stream is not None

    def begin(self, *, goes_on: bool = False, anew: bool = False) -> None:
        """Begin an attempt.

        Args:
            goes_on: Whether the command itself has begun training again.
            anew: Whether it did so from the start, as a cross-validation's folds do.
        """
        if goes_on and self._stream is not None:
            # What a resume lost shows only against the levels before it.
            judgement = self._stream.judgement
            judgement.attempt += 1
        else:
            judgement = Judgement(self._rules(), most=Action.ROLLBACK)
        self._coercer = Coercer(judgement.looks_at)
        self._stream = Stream(judgement, terminal=True)
        self._stream.outbound = Outbound(self._config(goes_on), on_command=self._on_command)
        started = {"kind": "started", "by": "watchstep run"}
        self._stream.put({}, {**started, ANEW: True} if anew else started)

    def put(self, update: MergedUpdate) -> None:
        if update.attempt > self._attempt:
            self._attempt = update.attempt
            if self._stream is not None and self._stream.outbound is not None:
                # What is not heard by then, the next attempt's sender brings first.
                self._stream.outbound.close()
                self.begin(goes_on=True, anew=bool((update.event or {}).get(ANEW)))
        stream = self._open()
        readings = self._coercer.fitting(dict(update.readings))
        for notice in self._coercer.take_notices():
            say(notice)
        if self._sampler is not None and readings:
            readings.update(self._sampler.take())
        verdict = stream.put(readings, update.event, max(update.step, 0))
        stream.step = max(update.step, 0)
        if verdict.action >= Action.HALT:
            self._on_halt(f"{verdict.rules[0]}: {verdict.reason}")

    def alert(self, text: str) -> None:
        """Say one line at the terminal, where no service tells people of it."""
        self._open().alert(text)

    def tell(self, event: Mapping[str, Any]) -> None:
        self._open().put({}, event)

    def end(self, event: Mapping[str, Any] | None) -> None:
        """Send the last event, wait a moment for it to be heard, and let go.

        Args:
            event: None where somebody else has told the end.
        """
        if event is not None:
            self.tell(event)
        if self._stream is not None and self._stream.outbound is not None:
            self._stream.end()
            exit_s = self._options.exit_s
            # An `exit_s` of 0 asks to wait for nothing.
            wait_s = max(exit_s, LAST_WORDS_S) if exit_s else 0.0
            close_patiently(self._stream.outbound, self._options.directory, wait_s)

    def _open(self) -> Stream:
        if self._stream is None:
            self.begin()
        assert self._stream is not None
        return self._stream

    def _rules(self) -> RuleSet:
        return load((*self._options.rules, MACHINE_PACK)).for_tags(self._options.tags)

    def _config(self, goes_on: bool) -> OutboundConfig:
        options = self._options
        packs = packs_named(",".join(options.rules))
        # The service judges by the same packs where the user named some.
        tags = {PACKS_TAG: ",".join((*packs, MACHINE_PACK))} if packs else {}
        return OutboundConfig(
            run=options.run,
            url=options.url,
            token=options.token,
            project=options.project,
            tags={**tags, **options.tags},
            config=options.config,
            trainer=options.trainer,
            directory=options.directory,
            mode="offline" if options.mode == "offline" else "online",
            exit_s=options.exit_s,
            terminal=True,
            # What the command prints stands alone there as long as all is well.
            link=False,
            goes_on=goes_on,
        )

    def _on_command(self, command: Mapping[str, Any]) -> None:
        if self._options.obey_commands and command.get("kind") == "halt":
            self._on_halt(f"halted by command: {command.get('reason') or 'no reason given'}")


def close_patiently(outbound: Outbound, spool: Path, wait_s: float) -> None:
    """Wait for the last words to be heard, and say where they are if they were not."""
    outbound.close(wait_s, patient=True)
    if outbound.unsent:
        updates = "1 update" if outbound.unsent == 1 else f"{outbound.unsent} updates"
        folder = shlex.quote(str(spool))
        say(
            f"the service has not heard of {updates}, the end among them; they stay in the"
            f" spool {folder}: `watchstep replay {folder}` sends them"
        )
