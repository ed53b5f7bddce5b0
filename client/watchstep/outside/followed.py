"""One run whose logs are followed: what was told of it, and where its files were read up to.

What is to be sent stands in a small file before it is sent, together with how far the logs were
read: a follower that is killed goes on from there, and the service knows what it has.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from watchstep.core.updates import Action, Update
from watchstep.errors import say
from watchstep.hook.judgement import Judgement
from watchstep.hook.readings import Coercer
from watchstep.hook.stream import SaidIncidents
from watchstep.machine.processes import Process
from watchstep.outside.endings import ENDS, survived
from watchstep.outside.growing import GrowingFile
from watchstep.outside.hangs import HangWatch, stacks
from watchstep.outside.merging import MergedUpdate, Merger, Source
from watchstep.outside.uplink import Session
from watchstep.postmortem.readers.logs import Row
from watchstep.rules import AUTO, judging, loaded, packs_named
from watchstep.wire.text import encode_update

SETTLE_S = 1.0
"""Silence after which a log's newest row is complete."""

END_S = 10.0
"""Silence after which the words of an end are believed: an exception may have been caught."""

OLD_S = 600.0
"""A log that was not written to for so long when it is first seen is of a run that has ended."""

MOST_UNSENT = 2_000
"""Updates kept for a service that does not answer; the log itself keeps the rest."""

_CLOCK_FROM = 1e6
"""Times below this are the rows' numbers, which logs without a clock are given."""


@dataclass
class Unsent:
    """Updates of one attempt that are not known to be with the service."""

    attempt: int
    first_seq: int
    bodies: list[str] = field(default_factory=list)


class FollowedRun:
    """The logs of one run.

    Args:
        key: What the run is known by between two starts: the path of its file or folder.
        name: As the service is to call it.
        state_folder: Where its position is kept.
        rules: Packs and files that the user named; None chooses them by what is reported.

    Attributes:
        files: What is read, with the state that each is in.
        unsent: What is to be sent, oldest first.
    """

    def __init__(
        self, key: str, name: str, state_folder: Path, rules: Sequence[str] | None, *, alone: bool
    ) -> None:
        self.key = key
        self.name = name
        self.files: list[tuple[GrowingFile, Source]] = []
        self.unsent: list[Unsent] = []
        self.ended = False
        self._digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:24]
        self._state_path = state_folder / f"{self._digest}.json"
        self._rules = rules
        self._judge_here = alone
        self._judgement: Judgement | None = None
        self._said_incidents = SaidIncidents()
        self._packs: tuple[str, ...] = ()
        names = loaded(())
        self._merger = Merger(names.canonical, names.role, settle_s=SETTLE_S, wait_s=0.0)
        self._coercer = Coercer(names.looks_at)
        self._attempt, self._seq, self._step = 1, 0, 0
        self._end: dict[str, object] | None = None
        self._grew = time.monotonic()
        self._hang = HangWatch(self._grew)
        self._writers: Sequence[Process] = ()
        self._stored: dict[str, Any] = {}
        self._changed = False
        self._load()

    def add(self, file: GrowingFile, rows: Sequence[Row], now: float) -> None:
        """Follow one more file of the run, from where it was read up to.

        Args:
            file: Read a bit, to see what it is.
            now: As in the `poll` that comes next, which is to tell them.
        """
        stored = self._stored.get(str(file.path))
        if stored is None or [*file.identity()] != stored["identity"]:
            source = Source(str(file.path), file.rank)
            self.files.append((file, source))
            self._take(source, rows, now)
            return
        file = file.afresh()
        source = Source(str(file.path), file.rank)
        self.files.append((file, source))
        rows, _ = file.poll(until=stored["offset"])
        if stored.get("read_out", stored["settled"]):
            rows += file.settle()
        self._take(source, rows, now)
        # All of this was told before; rules that judge here go on from where they stood.
        before = self._merger.ready(now + 2 * SETTLE_S if stored["settled"] else now)
        for seq, each in enumerate(before if self._judge_here else (), self._seq - len(before) + 1):
            readings = self._coercer.fitting(dict(each.readings))
            update = Update(seq, max(each.step, 0), time.time(), readings, each.event, each.attempt)
            self._judge(update, replayed=True)

    def poll(self, now: float, *, closing: bool = False) -> bool:
        """Read what was added; whether anything was.

        Args:
            now: On the monotonic clock.
            closing: Whether nothing more is waited for.
        """
        if sum(len(part.bodies) for part in self.unsent) >= MOST_UNSENT:
            return False
        grew = False
        for file, source in self.files:
            rows, grown = file.poll()
            source.rank = file.rank
            if closing:
                rows = [*rows, *file.close()]
            elif not grown and now - source.heard >= SETTLE_S:
                rows = [*rows, *file.settle()]
            self._take(source, rows, now)
            grew = grew or grown
        if grew:
            self._grew = now
            if not self._is_old():
                self._hang.progressed(now)
        for update in self._merger.ready(float("inf") if closing else now):
            self._tell(update)
        self._tell_end(now, closing=closing)
        if self._changed or grew:
            self.save()
        return grew

    def is_silent(self, now: float) -> bool:
        """Whether it is worth a look who writes the logs: a hang may be told soon."""
        return not self.ended and now - self._grew > self._hang.limit_s() / 2 and not self._is_old()

    def look(self, now: float, writers: Sequence[Process]) -> None:
        """Note which processes of this machine hold the logs open for writing."""
        self._writers = writers
        if writers:
            self._hang.look(now, writers)

    def session(self, part: Unsent) -> Session:
        kind = next((file.format for file, _ in self.files if file.format), "log")
        name = f"follow-{self._digest}-{part.attempt}"
        packs = ",".join(packs_named(",".join(self._packs)))
        return Session(self.name, name, f"followed {kind}", packs)

    def sent(self, count: int) -> None:
        part = self.unsent[0]
        del part.bodies[:count]
        part.first_seq += count
        if not part.bodies:
            del self.unsent[0]
        self._changed = True

    @property
    def heartbeat(self) -> Unsent:
        """Nothing to send, of the present attempt."""
        return Unsent(self._attempt, self._seq + 1)

    def _take(self, source: Source, rows: Sequence[Row], now: float) -> None:
        for row in rows:
            if row.event is not None and row.event.get("kind") in ENDS and not row.readings:
                self._end = row.event
                continue
            if row.readings and self._end is not None:
                # It went on: whatever was said, it was no end.
                row.event = row.event or survived(self._end)
                self._end = None
            self._merger.add(source, [row], now)

    def _tell(self, update: MergedUpdate) -> None:
        if update.attempt > self._attempt:
            self._attempt, self._seq = update.attempt, 0
        event = update.event
        if self.ended or not self._seq:
            event = event or {"kind": "started"}
            self.ended = False
        self._step = max(update.step, 0)
        clock = update.time if update.time is not None and update.time > _CLOCK_FROM else None
        readings = self._coercer.fitting(dict(update.readings))
        for notice in self._coercer.take_notices():
            say(notice)
        self._put(readings, event, clock)

    def _tell_end(self, now: float, *, closing: bool) -> None:
        """Tell an end that nothing came after, or a hang."""
        if self.ended or not self._seq:
            return
        silent_s = now - self._grew
        if self._end is not None and (closing or silent_s >= END_S):
            self.ended = True
            self._put({}, self._end, None)
            self._end = None
        elif self._is_old() or closing:
            self.ended = True
            self._put({}, {"kind": "finished", "imported": True}, None)
        elif (event := self._hang.hung(now)) is not None:
            self._tell_hang(event)

    def _tell_hang(self, event: dict[str, Any]) -> None:
        """Say that the logs have fallen silent, and what is seen of whoever writes them."""
        seen = "nothing new in the log"
        if not self._writers:
            seen += ", and no process of this machine has it open for writing"
        elif event["moving"]:
            seen += ", while the process that writes it uses the CPU"
        else:
            seen += ", and the process that writes it does not use the CPU"
        text, innermost = stacks(self._writers)
        self._put({}, {**event, "seen": seen, "stacks": text, "innermost": innermost}, None)
        if self._judge_here:
            say(f"{self.name}: {event['severity']}: {seen} for {event['since_s']:.0f} s")

    def _is_old(self) -> bool:
        newest = max((file.changed for file, _ in self.files), default=0.0)
        return time.time() - newest > OLD_S and not self._hang.progress_seen

    def _put(
        self, readings: dict[str, float], event: dict[str, object] | None, clock: float | None
    ) -> None:
        self._seq += 1
        update = Update(self._seq, self._step, clock or time.time(), readings, event, self._attempt)
        if not self._packs:
            self._packs = tuple(map(str, judging(self._rules or (AUTO,))))
        if self._judge_here:
            self._judge(update)
        else:
            self._enqueue(update)
        self._changed = True

    def _enqueue(self, update: Update) -> None:
        if not self.unsent or self.unsent[-1].attempt != self._attempt:
            self.unsent.append(Unsent(self._attempt, self._seq))
        self.unsent[-1].bodies.append(encode_update(update).decode())

    def _judge(self, update: Update, *, replayed: bool = False) -> None:
        """Without a service the terminal is all there is to tell of a critical alert."""
        if self._judgement is None:
            self._judgement = Judgement(loaded(self._packs), most=Action.NONE)
        _, transitions = self._judgement.update(update)
        for transition in transitions:
            if (alert := self._said_incidents.begins(transition)) and not replayed:
                why = (update.event or {}).get("error") or alert.reason
                say(f"{self.name}: {alert.rule} at step {alert.step}: {why}")
        held = self._judgement.held_lately() if self.ended else set()
        if self.ended and (more := self._said_incidents.at_the_end(held)):
            say(f"{self.name}: {more}")

    def save(self) -> None:
        """Write down how far the logs are told, and what of it is not sent yet."""
        self._changed = False
        state = {
            "path": self.key,
            "run": self.name,
            "attempt": self._attempt,
            "seq": self._seq,
            "step": self._step,
            "ended": self.ended,
            "packs": self._packs,
            "files": {
                str(file.path): {
                    "identity": list(file.identity()),
                    "offset": file.offset,
                    "settled": not self._merger.holds(source),
                    "read_out": file.settled,
                }
                for file, source in self.files
            },
            "unsent": [[part.attempt, part.first_seq, part.bodies] for part in self.unsent],
        }
        written = self._state_path.with_suffix(".new")
        written.write_text(json.dumps(state), encoding="utf-8")
        os.replace(written, self._state_path)  # noqa: PTH105 - ten thousand times an hour

    def _load(self) -> None:
        try:
            state = json.loads(self._state_path.read_text(encoding="utf-8"))
            self._stored = state["files"]
            self.name = state["run"]
            self._attempt, self._seq, self._step = state["attempt"], state["seq"], state["step"]
            self.ended, self._packs = state["ended"], tuple(state["packs"])
            self.unsent = [Unsent(*part) for part in state["unsent"]]
        except (OSError, ValueError, KeyError, TypeError):
            self._stored = {}
