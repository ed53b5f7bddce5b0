"""What a trainer's last words mean: the one place where an error's text is read."""

from __future__ import annotations

import re
from collections.abc import Mapping

SAYS_NONFINITE = re.compile(
    r"\bnans?\b|\binf(?:s|inity|inite)?\b|non-?finite|satisfy the constraint|found invalid values|"
    r"overflowerror: .{0,40}(?:range|to convert to float)|"
    r"expected parameter \w+ \(tensor|invalid multinomial distribution|"
    r"normal expects all elements of std|loss (?:is )?(?:probably )?(?:explod|diverg)|"
    r"loss scale (?:reached|already at) (?:the )?minimum|minimum loss scale",
    re.IGNORECASE,
)
"""An error that only numbers cause which are lost. Words of Python's mathematics (`exp` of a loss
that has grown), NumPy, PyTorch's distributions and samplers, fairseq, DeepSpeed and Apex."""

SAYS_LOSS_LOST = re.compile(
    r"\bloss(?:es)?\b[^.;]{0,30}?\b(?:is|are|was|became|becomes|turned|went|goes|=|to|with)\s{0,3}"
    r"(?:now |a )?(?:nan|inf(?:inite|inity)?|non-?finite)\b|"
    r"\b(?:nan|inf(?:inite)?|non-?finite) (?:in (?:the )?)?loss(?:es)?\b|invalid loss, terminating",
    re.IGNORECASE,
)
"""Words beside the readings that say that the loss itself is lost, not one step's gradient."""

DEVICE_MEMORY, HOST_MEMORY = "A GPU ran out of memory", "The machine ran out of memory"
CHECK_FAILED = "A check on the GPU failed, most often for an index or a target out of its range"
KILLED = "The process was killed, most often for want of memory"
GUESSES = frozenset({CHECK_FAILED, KILLED})
"""Titles that say themselves how likely they are."""

FAILURES: Mapping[str, re.Pattern[str]] = {
    DEVICE_MEMORY: re.compile(
        r"(?:cuda|hip|xpu|mps)\b.{0,40}out of memory|\boutofmemoryerror|resource_?\s?exhausted|"
        r"cublas_status_alloc_failed",
        re.IGNORECASE,
    ),
    HOST_MEMORY: re.compile(
        r"out of memory|exceeded (?:job |step )?memory limit|"
        r"oom[-_ ]?kill|can(?:no|')t allocate memory|std::bad_alloc|\bmemoryerror\b|"
        r"not enough memory: you tried to allocate|killed by signal: killed",
        re.IGNORECASE,
    ),
    "The disk is full": re.compile(
        r"no space left on device|disk quota exceeded|errno 28\b", re.IGNORECASE
    ),
    "A data loader's worker died for want of shared memory": re.compile(
        r"dataloader worker.{0,200}(?:bus error|shared memory)", re.IGNORECASE
    ),
    "A data loader's worker died": re.compile(r"dataloader worker.{0,200}exited", re.IGNORECASE),
    "A machine failed": re.compile(r"\bnode fail(?:ure|ed)?\b", re.IGNORECASE),
    "A GPU failed": re.compile(
        r"uncorrectable ecc|fallen off the bus|illegal memory access|unspecified launch failure",
        re.IGNORECASE,
    ),
    CHECK_FAILED: re.compile(r"device-side assert|assertion `.{1,200}` failed", re.IGNORECASE),
    "A collective operation timed out or lost a rank": re.compile(
        r"watchdog.{0,200}(?:timeout|timed out|terminated|got stuck)|"
        r"\bnccl\b.{0,200}(?:error|timeout|timed out|abort)|"
        r"collective operation.{0,40}time|connection closed by peer",
        re.IGNORECASE,
    ),
    KILLED: re.compile(
        r"^\s*killed\b|\bkilled process\b|\bsigkill\b|\bsignal 9\b|line \d+: +\d+ killed",
        re.IGNORECASE,
    ),
}
"""Failures of a known kind by their title, the more special before the more general, and what
follows of another rank's failure last."""

SAYS_TIME_LIMIT = re.compile(
    r"time limit|wall ?(?:clock )?time|run limit|runlimit|deadline", re.IGNORECASE
)
"""A scheduler that ends a job because its time is over: Slurm, PBS, LSF, SGE, Kubernetes."""

SAYS_SCALE_EXHAUSTED = re.compile(
    r"loss scale (?:reached|already at) (?:the )?minimum|minimum loss scale", re.IGNORECASE
)
"""A loss scaler that has halved its scale to the end gave up: fairseq, DeepSpeed."""


def failure_title(text: str) -> str:
    """What kind of failure an error's text tells of, in a few words; "" where it is none known."""
    return next((title for title, words in FAILURES.items() if words.search(text)), "")


def memory_of(text: str) -> str:
    """Whose memory ran out by an error's text, "device" or "host"; "" for neither."""
    return {DEVICE_MEMORY: "device", HOST_MEMORY: "host"}.get(failure_title(text), "")


def failure_rank(text: str) -> int:
    """How much an error's text tells of the reason: 0 most, most for a kind that is not known."""
    title = failure_title(text)
    return list(FAILURES).index(title) if title else len(FAILURES)
