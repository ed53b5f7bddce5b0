"""What must wait for later lines: rows along a progress bar, a dictionary over several lines."""

from __future__ import annotations

import re
from collections.abc import Callable, Container

from watchstep.postmortem.readers.logs import Row
from watchstep.postmortem.readers.naming import metric_name
from watchstep.postmortem.readers.plans import Plan, place
from watchstep.postmortem.readers.vocabulary import EVALUATED, is_evaluation

_MOST_COVERED = 1_000
"""Rows that an evaluation may print; after more, training was begun again."""

LONGEST_ROW = 20_000
"""Characters of a line that can be a row; a dumped tensor is longer."""

BAR = re.compile(r"(?:\d{1,3}%| )\|[^|]{0,400}\|\s{0,9}\d{1,12}/(?:\d{1,12}|\?) \[[^\]]{0,400}\]")


BEFORE_LOST = 3
"""Bars of an epoch that tell how it came to a NaN; those of one that went well say nothing new."""

Place = tuple[int | None, int | None, int | None]
"""The step, epoch and length of a row."""


class Bars:
    """Numbers rows along a progress bar, as long as the bar moves from row to row.

    Written to a file, bars and rows come through two buffers: all bars first, or both in bursts.
    A bar that stands still while rows go by says nothing about them.

    Attributes:
        at: Where it stands.
        cleared: Whether the bar was just wiped out with blanks, as tqdm does to write a row.
    """

    def __init__(self) -> None:
        self.at = 0
        self._length: int | None = None
        self._trusted: bool | None = None
        self._held: list[Row] = []
        self.cleared = False
        self._drawn_after = False

    def moved(self, place: tuple[int, int | None], release: Callable[[Row], None]) -> None:
        """Take note of a bar; rows that were waiting to see it move are numbered and released."""
        at, length = place
        if length and (self._length is None or self._gives_way(length)):
            self._length, self.at = length, at
        if length != self._length:
            return  # An evaluation's bar.
        if self._drawn_after and self._held:
            # tqdm takes the bar away, writes the row, and draws the bar as it stands by then.
            self._trusted, self.at = True, at
            for row in self.rest():
                release(row)
        elif at > self.at and self._held:
            self._trusted = True
            for row in self.rest():
                release(row)
        self.at = at

    def _gives_way(self, length: int) -> bool:
        """Whether the bar was that of a preparation: it is done, numbered no row, and was shorter.

        tqdm may not draw the last step.
        """
        unused = self._trusted is None and not self._held
        return unused and self._length is not None and self.at + 1 >= self._length < length

    def held(self, row: Row) -> list[Row]:
        """The rows that can be sent off now that another one came."""
        if self._trusted is False or not (self.at or self.cleared):
            return [row]
        if self._held and not self._goes_with(row):
            waiting, self._held = [*self._held, row], []
            self._trusted = bool(self._trusted)
            return waiting
        self._held.append(row)
        self._drawn_after = self.cleared
        return []

    def rest(self) -> list[Row]:
        """The rows that were waiting, numbered by where the bar stood."""
        rows, self._held = self._held, []
        self._drawn_after = False
        for row in rows:
            row.step = self.at if self._trusted is not False else None
        return rows

    def _goes_with(self, row: Row) -> bool:
        """Whether a row is of the same step as those that wait: an evaluation, say."""
        first = self._held[0].readings
        if "epoch" in first:
            return first["epoch"] == row.readings.get("epoch")
        return all(EVALUATED.match(name) for name in row.readings)


class Progress:
    """Whether a counter that is printed with its end has come there.

    Attributes:
        is_done: Whether its next report would be the end or lie beyond it.
    """

    def __init__(self) -> None:
        self.is_done = False
        self._at = 0

    def passed(self, at: int, length: int | None) -> None:
        """Take note of a place on the way."""
        if length:
            self.is_done = at + max(at - self._at, 0) >= length
            self._at = at


class Sections:
    """Names a table's cells by the heading that they are indented under, as SB3's are."""

    def __init__(self) -> None:
        self._section = ""

    def name(self, key: str, table: Container[str], *, heads: bool) -> str:
        """A cell's name; "" where it has none, or is a heading.

        Args:
            key: As printed: blanks before it indent it.
            table: The names of the table so far; one that comes again begins another table.
            heads: Whether no reading stands beside it.
        """
        indented, key = key.startswith("  ") and bool(self._section), key.strip()
        if heads and key.endswith("/"):
            self._section = key
        if heads or not key:
            return ""
        # Spinning Up sets keys to the right, so that all of them seem indented.
        name = metric_name(f"{self._section if indented else ''}{key}")
        if name in table and not indented:
            self._section = ""
        return name


class Braces:
    """Joins the lines of a dictionary that is printed over several.

    Attributes:
        lines: Of the dictionary that is open.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._cut = False
        self._depth = 0
        self._size = 0

    def cut(self) -> None:
        """A bar came: what follows it goes on where the dictionary stopped, within a word even."""
        self._cut = bool(self.lines)

    def joined(self, text: str) -> str | None:
        """The line, or all lines of a dictionary that it closes; None while one is open."""
        if not self.lines and "{" not in text:
            return text
        depth = self._depth + text.count("{") - text.count("}")
        if self._cut:
            self._cut = False
            text = self.lines.pop() + text
            depth = (
                text.count("{")
                - text.count("}")
                + sum(line.count("{") - line.count("}") for line in self.lines)
            )
        elif self.lines and (not _goes_on(text) or self._size + len(text) > LONGEST_ROW):
            return self._given_up(text)
        if depth <= 0:
            whole_text = " ".join([*self.lines, text])
            self._clear()
            return whole_text
        self.lines.append(text)
        self._depth, self._size = depth, self._size + len(text)
        return None

    def rest(self) -> list[str]:
        """The lines of a dictionary that was never closed."""
        lines = self.lines
        self._clear()
        return [" ".join(lines)] if lines else []

    def _given_up(self, text: str) -> str:
        lines = " ".join(self.lines)
        self._clear()
        return f"{lines} | {text}"

    def _clear(self) -> None:
        self.lines, self._depth, self._size, self._cut = [], 0, 0, False


def _goes_on(text: str) -> bool:
    return text.lstrip()[:1] in tuple("'\"{}[])")


class Titles:
    """Tells apart what one name means under two titles of a block: a generator's loss, a critic's.

    Attributes:
        title: Over the lines that come.
        of_names: Under which title each name of the block stands.
        evaluates: Whether the last title spoke of an evaluation, and no row of training came.
    """

    def __init__(self) -> None:
        self.title = ""
        self.of_names: dict[str, str] = {}
        self._ambiguous: set[str] = set()
        self.evaluates = False
        self._covered = 0

    def passed(self, title: str, *, indented: bool) -> None:
        """Take note of a title, or of a line of readings, over which a bare word is none."""
        if title:
            self.evaluates = is_evaluation(re.findall(r"[A-Za-z]+", title))
            self._covered = 0
        if title or not (indented or self.title.endswith((":", "]"))):
            self.title = title

    def cover(self, row: Row, trained: Place | None) -> bool:
        """Whether a row is of the evaluation that the title spoke of, for it counts anew.

        Its readings are then named so.
        """
        if self.evaluates and trained is not None:
            step, epoch, _ = trained
            anew = row.step is not None and step is not None and row.step < step
            self.evaluates = anew and row.epoch == epoch and self._covered < _MOST_COVERED
            self._covered += 1
        else:
            self.evaluates = False
        if self.evaluates:
            row.readings = evaluated(row.readings)
        return self.evaluates

    def told_apart(self, readings: dict[str, float], block: dict[str, float]) -> dict[str, float]:
        """The readings; names that came under another title before get theirs, there as well."""
        for name in block.keys() & readings:
            if "" != self.of_names.get(name, "") != self.title != "":
                self._ambiguous.add(name)
                block[self._under(self.of_names[name], name)] = block.pop(name)
        self.of_names.update(dict.fromkeys(readings, self.title))
        return {self._under(self.title, name): value for name, value in readings.items()}

    def _under(self, title: str, name: str) -> str:
        if not title or name not in self._ambiguous:
            return name
        return metric_name(f"{title.strip(' :=-*#[]').lower()}/{name}")


class SlashedBatches:
    """Tells `Batch 3/1200` of WeNet, the epoch and its batch, from batch 3 of 1200.

    A batch does not stand still while the number of all grows, nor lie beyond it.
    """

    def __init__(self) -> None:
        self._before = (-1, 0)
        self._is_epoch = False

    def read(self, row: Row) -> None:
        """Give a row whose number stands before the slash the epoch and batch that it is of."""
        if row.step is None or row.length is None:
            return
        number, length = row.step, row.length
        grows = number == self._before[0] and length > self._before[1]
        self._is_epoch = self._is_epoch or grows or length < max(number, 1)
        self._before = number, length
        if self._is_epoch:
            row.epoch, row.step, row.length = number, length, None


class Summaries:
    """Passes over lines that sum up a numbered series: what they tell was reported before."""

    def __init__(self) -> None:
        self._is_open = False

    def covers(self, plan: Plan, numbers: list[str], last: Row | None) -> bool:
        """Whether a line is of a summary, or indented under one.

        Args:
            last: The last row with readings, of which a summary goes back behind the number.
        """
        self._is_open = plan.sums_up or (self._is_open and plan.indented)
        if not self._is_open or last is None or last.step is None:
            return False
        position = plan.sentence.position
        if position is None or last.epoch is not None:
            return True
        return place(position, numbers)[0] <= last.step


def count_over_epochs(row: Row, *, from_zero: bool) -> None:
    """Number a row within an epoch over the run, where its own line tells how."""
    if not row.length:
        return
    if (row.step or 0) > row.length:
        row.epoch = row.length = None  # `Epoch[12] Iteration[520/44]` counts on already.
    elif from_zero and row.epoch is not None:
        row.step, row.epoch = (row.step or 0) + row.epoch * row.length, None


def evaluated(readings: dict[str, float]) -> dict[str, float]:
    """The readings by names that say that they are of an evaluation."""
    return {
        name if EVALUATED.match(name) else f"val_{name}": value for name, value in readings.items()
    }
