"""The words that printed lines are made of: counters, units, statistics, evaluations."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.resources import files

from watchstep.core.roles import role_of


def word_lists(file: str) -> Mapping[str, frozenset[str]]:
    """The entries of a file of words under each of its headings."""
    text = files("watchstep.postmortem.readers").joinpath(file).read_text(encoding="utf-8")
    lists: dict[str, set[str]] = {}
    heading = ""
    for line in text.splitlines():
        if line.startswith("  ") and not line.startswith("  #"):
            lists[heading].add(line[2:])
        elif line and not line.lstrip().startswith("#"):
            heading = line
            lists[heading] = set()
    return {heading: frozenset(entries) for heading, entries in lists.items()}


_WORDS = word_lists("vocabulary.txt")
GLOBAL = _WORDS["global counters"]
"""Counters over a whole run, which win over any other beside them."""

ITERATIONS, STEPS, EPOCHS = _WORDS["iterations"], _WORDS["steps"], _WORDS["epochs"]
COUNTED_AFTER = _WORDS["counted after"]
COUNTERS = GLOBAL | ITERATIONS | STEPS | EPOCHS
NOT_IN_DICTIONARIES = _WORDS["readings in dictionaries"]
"""Counters that, printed in a dictionary, are a reading among others."""

PREPOSITIONS, STATISTICS = _WORDS["before no reading"], _WORDS["statistics"]
_UNIT = re.compile(
    r"(?:[numµ]?s|secs?|seconds?|mins?|minutes?|h|hrs?|hours?|d|days?|%|x|[kKMGTP]?i?[bB](?:ytes)?"
    r"|[kKMGT]|its?|steps?|samples?|tok|tokens?|frames?|examples?|imgs?|images?|fps|nats?|bits?|dB"
    r"|[TGMP]?FLOPS?|Hz|[WCm])(?:/[A-Za-z]{1,10})?"
)
TRAINING = re.compile(
    r"loss|reward|return|kl|entropy|grad|norm|lr|learning_rate|advantage|perplexity|ppl|nll|acc|"
    r"explained_variance|clip|rms(?:e|$)|g_gan|(?:^|[/_])(?:l[12]|m[as]e|b?ce|[bw]?[cw]er|auc)(?:$|[/_@])|epret|score|^cost$|^train$|^kimg$|(?:^|[/_])obj(?:ective|f?(?:$|_))|(?:^|[/_])err(?:or)?$",
    re.IGNORECASE,
)
"""Names of which training logs one at least, beside whatever else."""

_QUANTITIES = frozenset(
    ("loss", "signed_loss", "eval_loss", "eval_score", "grad_norm", "reward", "kl", "entropy")
)


def says_quantity(name: str) -> bool:
    """Whether a name, which may be in no table, is of something that training measures."""
    return role_of(name) in _QUANTITIES or TRAINING.search(name) is not None


EVALUATED = re.compile(r"^(?:val(?!ue)|eval|test|best)", re.IGNORECASE)
"""Names that say by themselves that they are of an evaluation."""

SUMS_UP = re.compile(
    r"\W{0,20}(?:the )?(?:(?:best|final|overall|loaded)\b|"
    r"(?:average|mean|avg)\b.{0,40}\bover (?:the|all)\b)",
    re.IGNORECASE,
)
"""How a line begins that sums up: what it tells of was reported when it happened."""

_SOURCES = (".py", ".ipynb", ".c", ".cc", ".cpp", ".cu", ".h", ".hpp", ".rs", ".go", ".java", ".jl")
_SETTINGS = ("config", "args", "arguments", "namespace", "hparams", "settings", "params")


def counter_of(words: Sequence[str]) -> str:
    """The counter that a name ends in, "" where it is another name."""
    small = [word.lower() for word in words[-4:]]
    if small[-1] == "number" and len(small) > 1:
        small.pop()
    last, before = small[-1], small[:-1]
    whole_name = " ".join(small)
    if whole_name in COUNTERS:
        return whole_name
    if not before and last.rpartition("/")[2] in _WORDS["counters under a path"]:
        return last.rpartition("/")[2]
    ordinary = _WORDS["before counters"] | _WORDS["evaluations"]
    if last in COUNTERS and ("at" in before or ordinary.issuperset(before)):
        return "global step" if small[-2:] == ["global", "step"] else last
    return ""


def counts_at(words: Sequence[str]) -> bool:
    """Whether the last of the words counts, in the middle of a name: `Loss after epoch 5: 0.3`."""
    counts = len(words) > 2 and words[-1].lower() in COUNTERS
    return counts and words[-2].lower() in ("after", "at", "for", "in", "of", "on")


def is_unit(word: str) -> bool:
    """Whether a word after a number is its unit."""
    return _UNIT.fullmatch(word) is not None


def is_source(word: str) -> bool:
    """Whether a word is a file of code, of which the number behind a colon is the line."""
    return word.lower().endswith(_SOURCES)


def is_evaluation(words: Sequence[str]) -> bool:
    """Whether any of the words says that an evaluation is spoken of."""
    return any(word.lower() in _WORDS["evaluations"] for word in words)


def is_settings(word: str) -> bool:
    """Whether a printed call holds settings: `Namespace(lr=0.1)`, `PPOConfig(...)`."""
    return word.lower().endswith(_SETTINGS)
