"""The shapes that trainers print their readings in, one function for each.

A shape takes a line and answers a `Printed`, or None when the line is not in that shape.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from watchstep.postmortem.readers.logs import Unit
from watchstep.postmortem.readers.naming import NUMBER, metric_name, number, whole
from watchstep.postmortem.readers.pairs import pairs
from watchstep.postmortem.readers.positions import position


@dataclass(frozen=True, slots=True)
class Printed:
    """What a line in one of the shapes says.

    Attributes:
        number: The printed iteration or step, None where the line prints none.
        cut: Whether the line ends in something that would be a reading had it gone on.
        epoch, length: As in `Position`.
        by_epoch: As in `Position`.
        finished: Whether it is the row that sums up a run that has ended.
    """

    number: int | None
    readings: dict[str, float]
    unit: Unit = "step"
    cut: bool = False
    epoch: int | None = None
    length: int | None = None
    by_epoch: bool = False
    finished: bool = False


_MEGATRON = re.compile(r"(?<!, )\biteration\s+(\d+)\s*(?:/\s*\d+)?\s*\|")
_PRINTED_DICT = re.compile(r"\{\s*['\"][^{}]*(\}|$)")
_DICT_PAIR = re.compile(
    rf"['\"]([^'\"]+)['\"]\s*:\s*(?:tensor\(|np\.float\d+\()?['\"]?({NUMBER})['\"]?\)?\s*(?=[,}}])"
)
_DICT_COUNT = re.compile(r"['\"]global_step/max_steps['\"]\s*:\s*['\"](\d+)/\d+['\"]")
_DICT_COUNTERS = ("step", "global_step", "num_updates", "current_steps", "iter", "iteration")
_LLMC = re.compile(rf"^s:(\d+)\s+((?:[a-z]+:{NUMBER}\s*)+)$")
_LLMC_PAIR = re.compile(rf"([a-z]+):({NUMBER})")
_LLMC_NAMES = {"trl": "loss", "tel": "val_loss", "eval": "eval_acc"}
_BUILD_NANOGPT = re.compile(rf"^(\d+) (train|val) ({NUMBER})$")
_BUILD_NANOGPT_NAMES = {"train": "loss", "val": "val_loss"}
_DARKNET = re.compile(rf"^\s*(\d+):\s*({NUMBER}), ({NUMBER}) avg(?: loss)?, ({NUMBER}) rate")
_COUNTERS = frozenset(
    {
        *("iteration", "iter", "iters", "it", "update", "step", "steps", "global_step"),
        *("train_step", "num_updates", "epoch", "batch"),
    }
)
_TRAINING_WORDS = re.compile(
    r"loss|reward|return|kl|entropy|grad|norm|lr|learning_rate|advantage|perplexity|ppl|"
    r"explained_variance|clip|accuracy|rmse|logloss|g_gan|cross-?entropy|epret",
    re.IGNORECASE,
)
_MEASURED = re.compile(
    r"(?:loss|entropy|(?:^|[/_])kl|reward)(?!_?(?:scale|weight|coef|fn|func|type|lambda|ratio|target))|"
    r"(?:^|[/_])return|grad_?norm(?!_?(?:clip|max))|perplexity|ppl|explained_variance|"
    r"(?:^|[/_])acc(?:uracy)?$|rmse|epret|g_gan",
    re.IGNORECASE,
)
_EVALUATION = re.compile(
    r"\bvalid(?:ation)?\b(?!\s*[:=]?\s*loss)|\b(?:test|eval(?:uation)?) (?:set|on|results?)\b|"
    r"\bEpoch\(val\)|\bTest:",
    re.IGNORECASE,
)
_EVALUATION_WORDS = ("alid", "ALID", "est", "EST", "val", "Val", "EVAL")
_EVALUATED = re.compile(r"^(?:val|valid|eval|test|best)", re.IGNORECASE)
_RSL_ITERATION = re.compile(r"^\s*(?:#+\s*)?Learning iteration\s+(\d+)\s*/\s*\d+")
_RSL_READING = re.compile(rf"^\s*([A-Za-z][\w ./()-]*?):\s*({NUMBER})\s*(?:s|steps/s)?\s*(?:\(|$)")
_RSL_LOSS = re.compile(r"(?:Mean )?(\S+(?: function)?) loss$")
_RSL_NAMES = {
    "Mean reward": "Train/mean_reward",
    "Mean total reward": "Train/mean_reward",
    "Mean episode length": "Train/mean_episode_length",
    "Mean action noise std": "Policy/mean_noise_std",
}
_CELL = re.compile(r"^\|( *)(.*?)\s*\|\s*(.*?)\s*\|\s*$")
_BORDER = re.compile(r"^[-=+#*]{10,}(?:\s+[-=]{5,})*\s*$")
_KERAS_BAR = re.compile(r"^\s*(\d+)/(\d+|Unknown|None) (?=\[[=>.]+\]|[━ ]*━|- )(?:\[[=>.]+\]|━+)?")


def megatron(text: str) -> Printed | None:
    """`iteration  8738/ 159576 | lm loss: 3.3E+00 | grad norm: 0.7 |`.

    Megatron leaves `lm loss` out when it is not finite: the reading then is absent here too.
    """
    found = _MEGATRON.search(text) if "iteration" in text else None
    if found is None:
        return None
    readings: dict[str, float] = {}
    *pieces, rest = text[found.end() :].split("|")
    for piece in pieces:
        key, _, value = piece.rpartition(":")
        reading = number(value)
        if key.strip() and reading is not None:
            readings[metric_name(key)] = reading
    if not readings:
        return None
    return Printed(int(found.group(1)), readings, "iteration", cut=bool(rest.strip()))


def hugging_face(text: str) -> Printed | None:
    """`{'loss': 0.15, 'grad_norm': nan, 'epoch': 0.5}`, as the Trainer prints its logs."""
    braces = _PRINTED_DICT.search(text) if "{" in text else None
    if braces is None:
        return None
    found = _DICT_PAIR.findall(braces.group(0))
    readings = {metric_name(key): float(value.replace("_", "")) for key, value in found}
    if "train_runtime" in readings:
        return Printed(None, {}, finished=True)
    if not any(_TRAINING_WORDS.search(name) for name in readings):
        return None
    counted = _DICT_COUNT.search(braces.group(0))
    step = int(counted.group(1)) if counted else None
    for counter in _DICT_COUNTERS:
        if counter in readings and step is None:
            step = whole(readings.pop(counter))
    if step is None and (ahead := position(text[: braces.start()])) and ahead.unit == "step":
        # A bar is as far as the trainer, not as far as this row; the parser decides on it.
        step = None if "%|" in text[: braces.start()] else ahead.number
    return Printed(step, readings, cut=braces.group(1) != "}")


def llmc(text: str) -> Printed | None:
    """`s:123 trl:3.29`, as llm.c writes its main.log: `trl` and `tel` are the two losses."""
    found = _LLMC.match(text.strip())
    if found is None:
        return None
    readings = {
        _LLMC_NAMES.get(key, key): float(value) for key, value in _LLMC_PAIR.findall(found.group(2))
    }
    return Printed(int(found.group(1)), readings)


def build_nanogpt(text: str) -> Printed | None:
    """`250 train 6.43`, as build-nanogpt writes its log.txt."""
    found = _BUILD_NANOGPT.match(text.strip())
    if found is None:
        return None
    return Printed(int(found.group(1)), {_BUILD_NANOGPT_NAMES[found.group(2)]: float(found[3])})


def darknet(text: str) -> Printed | None:
    """`100: 5.1, 5.4 avg loss, 0.001 rate, 3.2 seconds, 6400 images`."""
    found = _DARKNET.match(text)
    if found is None:
        return None
    loss, average, rate = (float(found.group(at)) for at in (2, 3, 4))
    readings = {"loss": loss, "avg_loss": average, "learning_rate": rate}
    return Printed(int(found.group(1)), readings, "iteration")


def named(text: str) -> Printed | None:
    """`step=10 loss=0.5`, `Epoch [1][50/900] loss: 2`, `iter 10: loss 4.2, time 3ms`.

    Pairs in any order and with anything between them, one of them a training word; without a
    position at least two, and one that can only be measured.
    """
    at = position(text)
    readings = pairs(text if at is None else at.rest)
    if at is None:
        if len(readings) < 2 or not any(_MEASURED.search(name) for name in readings):
            return None
    elif not any(_TRAINING_WORDS.search(name) for name in readings):
        return None
    if any(word in text for word in _EVALUATION_WORDS) and _EVALUATION.search(text):
        readings = {
            name if _EVALUATED.match(name) else f"val_{name}": value
            for name, value in readings.items()
        }
    if at is None:
        return Printed(None, readings, "row")
    for counter in _COUNTERS.intersection(readings):
        if at.unit == "step" or counter != "epoch":
            del readings[counter]
    return Printed(
        at.number, readings, at.unit, epoch=at.epoch, length=at.length, by_epoch=at.by_epoch
    )


SHAPES: tuple[tuple[str, Callable[[str], Printed | None]], ...] = (
    ("megatron", megatron),
    ("hf_print", hugging_face),
    ("llmc_text", llmc),
    ("llmc_text", build_nanogpt),
    ("darknet", darknet),
    ("key_value", named),
)


def printed(text: str) -> tuple[str, Printed] | None:
    """The first shape that a line is in, and what it says."""
    for name, shape in SHAPES:
        found = shape(text)
        if found is not None:
            return name, found
    return None


def keras_bar(text: str) -> tuple[str, bool] | None:
    """A line of Keras without its progress bar, and whether the epoch is over."""
    found = _KERAS_BAR.match(text)
    if found is None:
        return None
    return text[found.end() :], found.group(1) == found.group(2)


def measured(name: str) -> bool:
    """Whether a name is of something that only training measures, and no setting."""
    return _MEASURED.search(name) is not None


def is_counter(name: str) -> bool:
    """Whether a block's line is its number: `Iteration`, `Diagnostics/Iteration`, `Epoch`."""
    return name.rsplit("/", 1)[-1].lower() in ("iteration", "itr", "epoch", "step")


def rsl_rl_iteration(text: str) -> int | None:
    """The iteration of rsl_rl's heading, `Learning iteration 17/50000`."""
    found = _RSL_ITERATION.match(text)
    return int(found.group(1)) if found else None


def rsl_rl_reading(text: str, block: dict[str, float]) -> bool:
    """Whether a line is a reading of an rsl_rl block, which then is put into `block`.

    Names are those that rsl_rl writes to TensorBoard for the same number.
    """
    found = _RSL_READING.match(text)
    if found is None:
        return False
    key = found.group(1)
    loss = _RSL_LOSS.match(key)
    name = f"Loss/{loss.group(1).lower()}" if loss else _RSL_NAMES.get(key, key)
    block[metric_name(name)] = float(found.group(2).replace("_", ""))
    return True


def is_border(text: str) -> bool:
    """Whether a line is nothing but a table's border."""
    return _BORDER.match(text) is not None


def table_cell(text: str) -> tuple[str, float | None, bool] | None:
    """Key, value (None for a heading or text) and whether the key is indented."""
    found = _CELL.match(text)
    if found is None or not found.group(2):
        return None
    return found.group(2), number(found.group(3)), len(found.group(1)) > 1


def table_name(section: str, key: str) -> str:
    """The metric's full name, as the logger knew it before it split it for printing."""
    return metric_name(f"{section}{key}")


def table_number(table: dict[str, float]) -> tuple[int | None, Unit]:
    """What a table says about where it stands: the iteration, else the time steps."""
    for name in ("time/iterations", "iterations", "nupdates", "misc/nupdates", "iteration"):
        if name in table:
            return whole(table[name]), "iteration"
    for name in ("Epoch", "Iteration", "Itr", "training_iteration"):
        if name in table:
            return whole(table[name]), "iteration"
    for name in ("time/total_timesteps", "total_timesteps", "total_steps", "step", "steps"):
        if name in table:
            return whole(table[name]), "step"
    return None, "row"
