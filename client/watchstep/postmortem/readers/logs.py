"""What a reader hands over: one run's log, and the rows it is made of."""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from watchstep.core.updates import ANEW, Update
from watchstep.postmortem.readers.endings import tells
from watchstep.postmortem.readers.vocabulary import TRAINING

Unit = Literal["iteration", "step", "row"]

_MOST_NOTES = 50
"""Notes kept of one log; a hostile file could otherwise earn one for each line."""

_MOST_NAMES = 10_000
"""Metric names remembered of one log, for the same reason."""

_MOST_UNNUMBERED = 100_000

_ROUNDED = 0.005
"""By how much a number may differ that two loggers print: three digits are the fewest in use."""

_LOOKAHEAD = 8
"""Updates read on opening, from which `kind` and `unit` are known before iteration."""


_OF_EVALUATION = re.compile(r"(?:^|[/_.])(?:val(?!ue)|eval|test|best)", re.IGNORECASE)
"""In names that are not of training, wherever in a path the word stands."""

_LONG_RUN = 20
"""Numbered rows after which a few that go back are no new attempt."""

_MOST_STRAYS = 3


@dataclass(slots=True)
class Row:
    """What one line, table or record of a log says, before rows are joined into updates.

    Attributes:
        readings: Metric name to number, names in the metric charset.
        step: The iteration or step that the log prints for it; None when it prints none.
        time: Seconds since the epoch, None when the log has no clock.
        event: None, or a mapping with a "kind".
        attempt: 0 to let numbers that go back mean a resume; else the attempt itself.
        seq: 0 to count; else the number that our own hook gave the update.
        epoch: The epoch within which `step` counts, None where it counts over the run.
        length: Up to where `step` counts in one epoch, None when the log does not say.
        line: The line of the text that it ends in, from 1; 0 where there are no lines.
        rank: Which of several processes printed it, "" where its line does not say.
        resumed: Whether the log says before it that training goes on from a checkpoint.
    """

    readings: dict[str, float]
    step: int | None = None
    time: float | None = None
    event: dict[str, object] | None = None
    attempt: int = 0
    seq: int = 0
    epoch: int | None = None
    length: int | None = None
    line: int = 0
    rank: str = ""
    resumed: bool = False


@dataclass
class Log:
    """One run as its log tells it.

    Attributes:
        path: The file, or the folder when several files tell of the same run.
        format: What the content was recognised as, such as "tensorboard" or "sb3_csv".
        run: Name of the run: the folder's, or the file's for a log that shares its folder.
        updates: The updates in the order of the log, read as they are asked for; once only.
            `seq` counts from 1, `step` is the number that the log prints (see `unit`).
        unit: What `Update.step` counts: the printed iteration, else the printed step, else
            the row.
        unnumbered: Which updates with readings, from 1, the log prints no number for although it
            prints some; their `step` is the last one printed. Final after iteration.
        unnumbered_first: Those before the first printed number; their `step` counts them.
        kind: A guess at the trainer from its metric names ("ppo", "grpo", "dqn", "sac",
            "dpo", "sft", "pretrain"), "" when they do not tell.
        tags: What the log says about the run, such as {"env": "CartPole-v1"}.
        lag_updates: 1 where the logger prints `train/*` one update late, as SB3's do: a row
            numbered 41 then tells of update 40. Numbers are kept as printed.
        partial: Whether part of the log could not be read. Final after iteration.
        names: Metric names seen so far.
        steady: Those that each of the first few updates has.
        events: Whether the first few updates carry an event that tells how the run went, as
            a log of nothing but an error does.
        files: The files that are read.
    """

    path: Path
    format: str
    run: str
    updates: Iterator[Update] = field(default_factory=lambda: iter(()), repr=False)
    unit: Unit = "row"
    unnumbered: set[int] = field(default_factory=set, repr=False)
    unnumbered_first: range = range(0)
    kind: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    lag_updates: int = 0
    partial: bool = False
    names: set[str] = field(default_factory=set, repr=False)
    steady: set[str] = field(default_factory=set, repr=False)
    events: bool = False
    files: list[Path] = field(default_factory=list)
    _counts: dict[str, int] = field(default_factory=dict, repr=False)

    def note(self, text: str, *, count: int = 1) -> None:
        """Remember something about the log; the same text again only raises its count."""
        before = self._counts.get(text, 0)
        if before or len(self._counts) < _MOST_NOTES:
            self._counts[text] = before + count

    @property
    def notes(self) -> list[str]:
        """What was skipped, torn or noteworthy, a sentence each. Final after iteration."""
        return [
            f"{text} ({times} times)" if times > 1 else text for text, times in self._counts.items()
        ]

    def tear(self, text: str, *, count: int = 1) -> None:
        """Remember that part of the log could not be read."""
        self.partial = True
        self.note(text, count=count)

    def begin(self, rows: Iterator[Row]) -> int:
        """Attach the rows and read the first few, so that `unit` and `names` are known.

        Returns:
            How many updates were read, fewer than 8 only when there are no more.
        """
        stream = self._assembled(rows)
        head = list(itertools.islice(stream, _LOOKAHEAD))
        read = [set(update.readings) for update in head if update.readings]
        self.steady = set.intersection(*read) if read else set()
        self.events = any(tells(update.event) for update in head)
        self.updates = itertools.chain(head, stream)
        return len(head)

    def _assembled(self, rows: Iterator[Row]) -> Iterator[Update]:
        seq, last, updates = 0, None, 0
        for row in joined(without_strays(rows)):
            seq = row.seq or seq + 1
            updates += bool(row.readings)
            lacks_number = row.readings and row.step is None and last is not None
            if lacks_number and len(self.unnumbered) < _MOST_UNNUMBERED:
                self.unnumbered.add(updates)
            if last is None and row.step is not None and row.readings:
                self.unnumbered_first = range(1, updates)
            last = last if row.step is None else row.step
            if len(self.names) < _MOST_NAMES:
                self.names.update(row.readings)
            yield Update(
                seq=seq,
                step=seq if last is None else last,
                time=float(seq) if row.time is None else row.time,
                readings=row.readings,
                event=row.event,
                attempt=row.attempt,
            )


def without_strays(rows: Iterator[Row]) -> Iterator[Row]:
    """Rows, of which strays have lost their number, see `Strays`."""
    strays = Strays()
    for row in rows:
        yield from strays.add(row)
    yield from strays.rest()


class Strays:
    """Takes the number of a few rows that go back after a long run.

    They sum up, as "Best model at step 59000" and "best iteration is: [571]" do, or count something
    else. Only a run that goes on from there, begins anew, says that it resumes, or had stopped
    before was begun again. Until that is known such rows are held back.
    """

    def __init__(self) -> None:
        self._held: list[Row] = []
        self._first: int | None = None
        self._last: int | None = None
        self._length = 0
        self._stopped = False

    @property
    def holds(self) -> bool:
        return bool(self._held)

    def add(self, row: Row) -> list[Row]:
        """Take the next row; those of which all is known now, in their order."""
        if row.event is not None and not row.readings and row.step is None:
            self._stopped = self._stopped or _stops(row)
            return [row]
        counted_otherwise = row.attempt or row.rank or row.epoch is not None
        if row.step is None or counted_otherwise or "epoch" in row.readings:
            self._last = row.step if row.step is not None else self._last
            self._stopped = self._stopped or _stops(row)
            return [*self._let_go(), row]
        falls = self._last is not None and row.step < self._last
        again = self._stopped or row.resumed or self._length < _LONG_RUN
        again = again or (self._first is not None and row.step <= self._first)
        if falls and not again and len(self._held) < _MOST_STRAYS:
            self._held.append(row)
            return []
        if not falls:
            _forget_numbers(self._held)
        self._first = row.step if self._first is None or falls else self._first
        self._length = len(self._held) + 1 if falls else self._length + 1
        self._last, self._stopped = row.step, _stops(row)
        return [*self._let_go(), row]

    def rest(self) -> list[Row]:
        """What is held back, where no further row is waited for."""
        _forget_numbers(self._held)
        return self._let_go()

    def _let_go(self) -> list[Row]:
        held, self._held = self._held, []
        return held


def _forget_numbers(rows: list[Row]) -> None:
    for row in rows:
        row.step = None


def _stops(row: Row) -> bool:
    return row.event is not None and row.event["kind"] in ("failed", "halted", "preempted")


def joined(rows: Iterator[Row]) -> Iterator[Row]:
    """Rows as updates, see `Joiner`."""
    joiner = Joiner()
    for row in rows:
        whole = joiner.add(row)
        if whole is not None:
            yield whole
    last = joiner.rest()
    if last is not None:
        yield last


class Joiner:
    """Makes updates of rows: neighbours with one number become one, resumes raise the attempt.

    A training row and the evaluation row after it carry the same number; they are one update
    unless a reading would be lost. So are the rows of several ranks, of which what is not finite
    counts, and else what the first rank says. A row without a number keeps none. Batches that are
    counted anew in each epoch count on. A number that goes back tells of a resume only if it is
    lower than those of its own kind: an evaluation counts its own batches. So do words of one.
    """

    def __init__(self) -> None:
        self._pending: Row | None = None
        self._before: Row | None = None
        self._attempt = 1
        self._last: dict[tuple[str, int], int] = {}
        self._resumed = self._stopped = False
        self._first = math.inf
        self._clock: float | None = None
        self._epochs = _Epochs()

    def add(self, row: Row) -> Row | None:
        """Take the next row; the update before it, where this row is none of it."""
        self._stopped = self._stopped or _stops(row)
        kind = _kind(tuple(row.readings))
        pending, last = self._pending, self._last.get((row.rank, kind))
        trained = None
        if kind != _LOSS:
            above = (at for (_, other), at in self._last.items() if other > kind)
            trained = max(above, default=None)
        if kind == _EVALUATION and trained is not None:
            last = None
            if row.epoch is not None:
                row.step, row.epoch = trained, None  # It counts the batches of an evaluation.
        elif trained is not None and self._epochs.before(row):
            row.step = row.epoch = None  # Another pass over the data has epochs of its own.
        self._epochs.count_on(row)
        again = pending is not None and _stops(pending) and _shares_names(row, pending)
        if pending is not None and not again and _belongs(row, pending):
            _put_on(pending, row)
            return None
        fell = row.step is not None and last is not None and row.step < last + again
        self._resumed = self._resumed or row.resumed
        resumed = self._resumed and last is not None and trained is None
        if (resumed or (fell and not _epoch_grew(row, self._before))) and not row.attempt:
            # Nothing was resumed where the numbers begin anew, as a cross-validation's folds do.
            begins = min(self._first, (last or 0) / 2)
            if not (resumed or self._stopped) and row.step is not None and row.step <= begins:
                row.event = row.event or {"kind": "started", ANEW: True}
            self._attempt += 1
            self._last.clear()
            self._first, self._stopped = math.inf, False
            self._resumed = False
        elif row.step is not None and trained is not None and row.step < trained:
            row.step = None
        if row.step is not None:
            self._last[row.rank, kind] = row.step
            self._first = min(self._first, row.step)
        row.attempt = self._attempt = row.attempt or self._attempt
        row.time = self._clock = self._clock if row.time is None else row.time
        self._pending = self._before = row
        return pending

    def rest(self) -> Row | None:
        """The last update, where no further row is waited for."""
        pending, self._pending = self._pending, None
        return pending


_EVALUATION, _OTHER, _LOSS = range(3)


@functools.lru_cache(maxsize=1_000)
def _kind(names: tuple[str, ...]) -> int:
    """What a row with these readings is of: training most surely where it has a loss of it."""
    trained = [name for name in names if not _OF_EVALUATION.search(name)]
    if any("loss" in name.lower() for name in trained):
        return _LOSS
    return _OTHER if any(map(TRAINING.search, trained)) or not names else _EVALUATION


class _Epochs:
    """Lets numbers that start anew in each epoch go on; the first epoch seen keeps its own."""

    def __init__(self) -> None:
        self._epoch: int | None = None
        self._ahead = self._farthest = self._stride = 0
        self._length = math.inf

    def before(self, row: Row) -> bool:
        """Whether a row is of an earlier epoch than the last one."""
        return row.epoch is not None and self._epoch is not None and row.epoch < self._epoch

    def count_on(self, row: Row) -> None:
        """Change a row's step to one that counts over the run."""
        if row.epoch is None or row.step is None:
            return
        self._length = row.length or self._length
        if not row.length and row.step > self._length:
            return  # Beyond the length that bars show: it counts over the run already.
        epoch, farthest = self._epoch, self._farthest
        if epoch is not None and row.epoch > epoch and (row.length or row.step <= farthest):
            # Where batches are counted from 0 the last one printed is not the end of its epoch.
            after = 0 if row.step else self._stride
            self._ahead += (row.epoch - epoch) * (row.length or farthest + after)
            farthest = 0
        elif epoch is not None and row.epoch < epoch:
            self._ahead = farthest = 0  # Training was begun again.
        self._epoch = row.epoch
        self._stride = row.step - farthest if row.step > farthest else self._stride
        self._farthest = max(farthest, row.step)
        row.step += self._ahead


def _belongs(row: Row, pending: Row) -> bool:
    if row.seq or (row.event and pending.event) or row.attempt not in (0, pending.attempt):
        return False
    if not row.readings and row.step is None:
        return True  # Nothing but an event, said after the row before it.
    if row.step is None:
        # Printed Hugging Face rows have no step, but an evaluation repeats the epoch.
        evaluates = all(name == "epoch" or name.startswith("eval_") for name in row.readings)
        repeats = pending.step is not None and _shares_names(row, pending)
        if not (repeats or (evaluates and "epoch" in row.readings)):
            return False
    elif row.step != pending.step:
        return False
    readings = pending.readings
    return (row.rank != pending.rank and "" not in (row.rank, pending.rank)) or all(
        name not in readings or agree(readings[name], value) for name, value in row.readings.items()
    )


def _put_on(pending: Row, row: Row) -> None:
    first = "" < row.rank < pending.rank
    pending.rank = row.rank if first else pending.rank
    for name, value in row.readings.items():
        finite = math.isfinite(pending.readings.get(name, 0.0))
        if name not in pending.readings or not math.isfinite(value) or (first and finite):
            pending.readings[name] = value
    pending.event = pending.event or row.event


def _shares_names(row: Row, pending: Row) -> bool:
    return not pending.readings.keys().isdisjoint(row.readings)


def agree(first: float, second: float) -> bool:
    """Whether two loggers print one number, each with its digits, and one in per cent."""
    if math.isnan(first) or math.isnan(second) or first == second:
        return first == second or (math.isnan(first) and math.isnan(second))
    return any(math.isclose(first * by, second, rel_tol=_ROUNDED) for by in (1, 100, 0.01))


def _epoch_grew(row: Row, before: Row | None) -> bool:
    """Whether a step counter fell only because a new epoch began."""
    if before is None:
        return False
    old, new = before.readings.get("epoch"), row.readings.get("epoch")
    return old is not None and new is not None and new > old
