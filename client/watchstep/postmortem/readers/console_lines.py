"""The shapes that trainers print their readings in, one function for each.

A shape takes a line and answers `(number, readings, cut)`, or None when the line is not in
that shape. `number` is the printed iteration or step; `cut` says that the line ends in
something which would be a reading had it gone on.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from watchstep.postmortem.readers.logs import Unit
from watchstep.postmortem.readers.naming import NUMBER, metric_name, number, whole

Found = tuple[int | None, dict[str, float], bool]

TRACEBACK = "Traceback (most recent call last)"

_MEGATRON = re.compile(r"\biteration\s+(\d+)\s*(?:/\s*\d+)?\s*\|")
_PRINTED_DICT = re.compile(r"\{\s*['\"][^{}]*(\}|$)")
_DICT_PAIR = re.compile(rf"['\"]([^'\"]+)['\"]\s*:\s*['\"]?({NUMBER})['\"]?\s*(?=[,}}])")
_LLMC = re.compile(rf"^s:(\d+)\s+((?:[a-z]+:{NUMBER}\s*)+)$")
_LLMC_PAIR = re.compile(rf"([a-z]+):({NUMBER})")
_LLMC_NAMES = {"trl": "loss", "tel": "val_loss", "eval": "eval_acc"}
_NANOGPT = re.compile(r"^(?:.*?\b)?(?:step|iter)\s*:?\s*(\d+)(?:/\d+)?\s*[:|,]\s*(.*\S)\s*$")
_UNIT = r"(?:ms|s|%)?(?!\w|\.\d)"
_SPACED_PAIR = re.compile(
    rf"(?<![\w./-])([A-Za-z][A-Za-z_./-]*(?: [A-Za-z_./-]+){{0,2}}?)\s*[=: ]\s*({NUMBER}){_UNIT}"
)
_PAIR = re.compile(rf"(?<![\w./'\"-])([A-Za-z_][\w./@-]*)\s*[=:]\s*(?:tensor\()?({NUMBER}){_UNIT}")
_COUNTERS = ("iteration", "iter", "update", "step", "global_step", "it", "steps", "train_step")
_TRAINING_WORDS = re.compile(
    r"loss|reward|return|kl|entropy|grad|norm|lr|learning_rate|advantage|perplexity|ppl|"
    r"explained_variance|clip|accuracy",
    re.IGNORECASE,
)
_RSL_ITERATION = re.compile(r"^\s*(?:#+\s*)?Learning iteration\s+(\d+)\s*/\s*\d+")
_RSL_READING = re.compile(rf"^\s*([A-Za-z][\w ./()-]*?):\s*({NUMBER})\s*(?:s|steps/s)?\s*(?:\(|$)")
_RSL_LOSS = re.compile(r"Mean (\S+) loss$")
_RSL_NAMES = {
    "Mean reward": "Train/mean_reward",
    "Mean episode length": "Train/mean_episode_length",
    "Mean action noise std": "Policy/mean_noise_std",
}
_CELL = re.compile(r"^\|( *)(.*?)\s*\|\s*(.*?)\s*\|\s*$")
_BORDER = re.compile(r"^[-=+]{10,}\s*$")
_BARE_ERROR = re.compile(
    r"((?:ValueError|RuntimeError|FloatingPointError|AssertionError|ZeroDivisionError|"
    r"OverflowError|torch\.\w*OutOfMemoryError|torch\.cuda\.\w+Error|KeyboardInterrupt)\b"
    r"(?::.*)?)$"
)
_WARNING = re.compile(
    r"non-?finite|\bnan\b.*\b(?:detected|encountered|found|values?|loss(?:es)?|grad\w*)\b|"
    r"\bloss (?:is|became|was) (?:nan|inf)|"
    r"(?:detected|found|encountered|contains?)\b.*\b(?:nan|infs?)\b|"
    r"gradient overflow|overflow detected|skipping (?:this )?(?:step|update|batch)|diverged",
    re.IGNORECASE,
)


def megatron(text: str) -> Found | None:
    """`iteration  8738/ 159576 | lm loss: 3.3E+00 | grad norm: 0.7 |`.

    Megatron leaves `lm loss` out when it is not finite: the reading then is absent here too.
    """
    found = _MEGATRON.search(text)
    if found is None:
        return None
    readings: dict[str, float] = {}
    *pieces, rest = text[found.end() :].split("|")
    for piece in pieces:
        key, _, value = piece.rpartition(":")
        reading = number(value)
        if key.strip() and reading is not None:
            readings[metric_name(key)] = reading
    return int(found.group(1)), readings, bool(rest.strip())


def hugging_face(text: str) -> Found | None:
    """`{'loss': 0.15, 'grad_norm': nan, 'epoch': 0.5}`, as the Trainer prints its logs."""
    braces = _PRINTED_DICT.search(text)
    if braces is None:
        return None
    pairs = _DICT_PAIR.findall(braces.group(0))
    readings = {metric_name(key): float(value.replace("_", "")) for key, value in pairs}
    if not readings or not any(_TRAINING_WORDS.search(name) for name in readings):
        return None
    step = None
    for counter in ("step", "global_step"):
        if counter in readings and step is None:
            step = whole(readings.pop(counter))
    return step, readings, braces.group(1) != "}"


def llmc(text: str) -> Found | None:
    """`s:123 trl:3.29`, as llm.c writes its main.log: `trl` and `tel` are the two losses."""
    found = _LLMC.match(text.strip())
    if found is None:
        return None
    pairs = _LLMC_PAIR.findall(found.group(2))
    readings = {_LLMC_NAMES.get(key, key): float(value) for key, value in pairs}
    return int(found.group(1)), readings, False


def nanogpt(text: str) -> Found | None:
    """`step 10: train loss 4.2, val loss 4.3` and `iter 10: loss 4.2, time 3ms`."""
    found = _NANOGPT.match(text)
    if found is None:
        return None
    readings = {}
    for key, value in _SPACED_PAIR.findall(found.group(2)):
        readings[metric_name(key)] = float(value.replace("_", ""))
    if not any(_TRAINING_WORDS.search(name) for name in readings):
        return None
    return int(found.group(1)), readings, False


def key_value(text: str) -> Found | None:
    """`step=10 loss=0.5 grad_norm: 1.2`: pairs in any order, one of them a training word."""
    readings: dict[str, float] = {}
    counter: int | None = None
    for key, value in _PAIR.findall(text):
        reading = float(value.replace("_", ""))
        if key.lower() in _COUNTERS and counter is None:
            counter = whole(reading)
        else:
            readings[metric_name(key)] = reading
    if counter is None:
        loose = _LOOSE_COUNTER.search(text)
        counter = int(loose.group(1)) if loose else None
    words = sum(bool(_TRAINING_WORDS.search(name)) for name in readings)
    if not words or (counter is None and len(readings) < 2):
        return None
    return counter, readings, False


_LOOSE_COUNTER = re.compile(r"\b(?:step|iter|iteration|update)\s+#?(\d+)", re.IGNORECASE)

SHAPES: tuple[tuple[str, Unit, Callable[[str], Found | None]], ...] = (
    ("megatron", "iteration", megatron),
    ("hf_print", "step", hugging_face),
    ("llmc_text", "step", llmc),
    ("nanogpt_text", "step", nanogpt),
    ("key_value", "step", key_value),
)


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
    name = f"Loss/{loss.group(1)}" if loss else _RSL_NAMES.get(key, key)
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
    for name in ("time/iterations", "iterations", "nupdates", "iteration"):
        if name in table:
            return whole(table[name]), "iteration"
    for name in ("time/total_timesteps", "total_timesteps", "total_steps", "step"):
        if name in table:
            return whole(table[name]), "step"
    return None, "row"


def bare_error(text: str) -> str | None:
    """An exception that was printed without its traceback."""
    found = _BARE_ERROR.search(text.strip())
    return found.group(1) if found else None


def is_warning(text: str) -> bool:
    """Whether a line of prose says that something was not finite, or was skipped for it."""
    return _WARNING.search(text[:2_000]) is not None and not _has_reading(text)


def _has_reading(text: str) -> bool:
    return any(shape(text) is not None for _, _, shape in SHAPES)
