"""What one printed line says: its readings, and where in training it says that it stands."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from watchstep.core.adversaries import short_losses
from watchstep.postmortem.readers.logs import Unit
from watchstep.postmortem.readers.vocabulary import EPOCHS, GLOBAL, ITERATIONS


@dataclass(slots=True)
class Counted:
    """A counter that a line names, such as `step 10/200`.

    Attributes:
        word: Its name, written small.
        slot: The number's place among the line's numbers, -1 where it is rounded and tells none.
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
        count: How many numbers from there on are a list; their mean is the reading.
    """

    name: str
    slot: int
    strong: bool
    count: int = 1


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
        from_zero: Whether it is a bar of Lightning's, which counts epochs from 0.
        by_epoch: Whether the position is that of an epoch, for want of any other.
        unit: What the position counts.
        has_end: Whether the position counts over the run, up to an end.
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
    from_zero: bool = False
    by_epoch: bool = False
    unit: Unit = "row"
    has_end: bool = False

    def shift(self, by: int) -> None:
        """Count the line's numbers from so many earlier."""
        for pair in self.pairs:
            pair.slot += by
        for counted in (self.position, self.epoch, self.bar):
            if counted is not None:
                counted.slot += by
                counted.length += by if counted.length >= 0 else 0

    def placed(self) -> None:
        """Note what the position counts, once it is settled."""
        if self.position is not None:
            word = self.position.word
            self.by_epoch = word in EPOCHS
            self.has_end = self.position.length >= 0 and self.epoch is None and not self.evaluates
            self.unit = "iteration" if word in ITERATIONS | EPOCHS else "step"


_RSL_LOSS = re.compile(r"(?:mean_)?(\w+?(?:_function)?)_loss$")
_RSL_NAMES = {
    "mean_reward": "Train/mean_reward",
    "mean_total_reward": "Train/mean_reward",
    "mean_episode_length": "Train/mean_episode_length",
    "mean_action_noise_std": "Policy/mean_noise_std",
    # Its descendants print the losses by shorter names.
    "value": "Loss/value_function",
    "surrogate": "Loss/surrogate",
}

_LLMC = {"trl": "loss", "tel": "val_loss", "eval": "eval_acc"}
_YOLACT = {"b": "box_loss", "c": "class_loss", "m": "mask_loss", "s": "semantic_loss", "t": "loss"}
_BOOSTING = {"learn": "train_loss", "test": "test_loss", "best": "best_test_loss"}
_BARE_SETS = {"train": "loss", "val": "val_loss", "test": "test_loss"}


def name_as_known(sentence: Sentence) -> None:
    """Names of trainers whose print says less than a name: llm.c and nanoGPT's kin."""
    names = {pair.name for pair in sentence.pairs}
    first = sentence.pairs[0] if sentence.pairs else None
    if first is not None and first.name == "s" and names <= {"s", *_LLMC} and len(names) > 1:
        sentence.position = Counted("step", first.slot)
        del sentence.pairs[0]
        table = _LLMC
    elif losses := short_losses(names):
        table = losses
    elif {"b", "c", "t"} <= names:
        table = _YOLACT
    elif "learn" in names and sentence.position is not None:
        table = _BOOSTING
    elif first is not None and sentence.position is not None and len(names) == 1:
        table = {} if first.strong else _BARE_SETS
    else:
        return
    for pair in sentence.pairs:
        pair.name = table.get(pair.name, pair.name)


def choose_position(
    sentence: Sentence, counters: Sequence[Counted], leading: Counted | None
) -> None:
    """Choose what a line counts: over the whole run, else in an epoch, else any other.

    Args:
        sentence: Gets the position.
        counters: That the line names.
        leading: A number at its beginning.
    """
    epochs = EPOCHS
    if any(counter.slot < 0 for counter in counters):
        # Which update it is was rounded away: `step:12K smpl:97K ep:403`.
        counters = [counter for counter in counters if counter.word in epochs]
    if any(counter.word in ITERATIONS for counter in counters):
        epochs |= {"ep"}  # Beside iterations it is no episode.
    epoch = next((counter for counter in counters if counter.word in epochs), None)
    overall = next((counter for counter in counters if counter.word in GLOBAL), None)
    # The batches of an evaluation are its own: `valid step 1000, batch: 10`.
    own = {"batch", "minibatch"} if sentence.evaluates else set()
    plain = [counter for counter in counters if counter.word not in GLOBAL | epochs | own]
    # `[4/20] batch 100/500`: of two with an end the first is the epoch.
    both_end = leading and plain and min(leading.length, plain[0].length) >= 0
    epoch = leading if epoch is None and both_end else epoch
    if overall is not None:
        sentence.position = overall
    elif plain and sentence.bar and plain[0].word == "episode" and plain[0].length >= 0:
        sentence.position = sentence.bar  # OpenRLHF: `Episode [1/1]:  8%|#  | 41/500 [kl=0.02]`.
    elif plain:
        position = plain[0]
        if position.length >= 0 and position.word in ITERATIONS | {"batch", "minibatch"}:
            # `iter 14/15 | step 89`: a step without an end counts over the whole run.
            open_ended = (c for c in plain if c.word in {"step", "steps"} and c.length < 0)
            position = next(open_ended, position)
        sentence.position, sentence.epoch = position, epoch
        # What another counter counts is a reading: the steps of an episode.
        others = (other for other in plain if other is not position)
        sentence.pairs += [Pair(other.word, other.slot, strong=True) for other in others]
    elif leading is not None:
        sentence.position = leading
    elif sentence.pairs and not (sentence.quoted or sentence.keras or sentence.evaluates):
        sentence.position = sentence.bar or epoch
    elif epoch is not None:
        sentence.position = epoch


@functools.lru_cache(maxsize=1_000)
def rsl_name(name: str) -> str:
    """The name that rsl_rl writes to TensorBoard for what it prints under its heading."""
    loss = _RSL_LOSS.match(name)
    return f"Loss/{loss.group(1)}" if loss else _RSL_NAMES.get(name, name)
