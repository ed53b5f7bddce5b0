"""What one printed line says: its readings, and where in training it says that it stands."""

from __future__ import annotations

from dataclasses import dataclass, field

from watchstep.postmortem.readers.logs import Unit
from watchstep.postmortem.readers.vocabulary import EPOCHS, ITERATIONS


@dataclass(slots=True)
class Counted:
    """A counter that a line names, such as `step 10/200`.

    Attributes:
        word: Its name, written small.
        slot: The number's place among the line's numbers.
        length: The place of the number that it goes up to, -1 for none.
    """

    word: str
    slot: int
    length: int = -1


@dataclass(slots=True)
class Pair:
    """A reading that a line names.

    Attributes:
        strong: Whether a separator stands between name and number, and not mere blanks.
    """

    name: str
    slot: int
    strong: bool


@dataclass(slots=True)
class Sentence:
    """What all lines that differ only in their numbers say.

    Attributes:
        position: The counter that tells where in training the line stands.
        epoch: The counter of the epoch within which `position` counts.
        bar: A progress bar's place and length.
        described: Whether words stand before the bar, as in an evaluation's.
        lone: Whether the line holds one reading and nothing else.
        bare: Whether the line holds a position and nothing else, as a heading does.
        heads: Whether a bare line can only be a heading, and no line of a block.
        quoted: Whether the readings stand in a printed dictionary.
        evaluates: Whether the line says that it is about an evaluation.
        settings: Whether the numbers are the arguments of a printed call.
        clock: The place of the line's own clock, -1 for none.
        torn: Whether the line ends where a number is due.
        depth: Braces that are still open at its end.
        keras: Whether it begins with Keras' bar, which then is `bar`.
        stated: Whether it is a sentence in words, such as "loss is nan".
        learning: Whether the position is rsl_rl's `Learning iteration`.
        by_epoch: Whether the position is that of an epoch, for want of any other.
        unit: What the position counts.
    """

    pairs: list[Pair] = field(default_factory=list)
    position: Counted | None = None
    epoch: Counted | None = None
    bar: Counted | None = None
    described: bool = False
    lone: bool = False
    bare: bool = False
    heads: bool = False
    quoted: bool = False
    evaluates: bool = False
    settings: bool = False
    clock: int = -1
    torn: bool = False
    depth: int = 0
    keras: bool = False
    stated: bool = False
    learning: bool = False

    by_epoch: bool = False
    unit: Unit = "row"

    def placed(self) -> None:
        """Note what the position counts, once it is settled."""
        if self.position is not None:
            word = self.position.word
            self.by_epoch = word in EPOCHS
            self.unit = "iteration" if word in ITERATIONS | EPOCHS else "step"
