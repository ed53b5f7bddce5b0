"""What happens in a run, as values: updates, ticks, transitions and verdicts."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

EVENT_KINDS = (
    "started",
    "finished",
    "failed",
    "halted",
    "preempted",
    "hung",
    "checkpoint",
    "guard",
    "log",
    "command",
)
"""Every kind of event that an update may carry."""

ANEW = "anew"
"""Set in the event of an attempt's first update where the attempt resumes none before it."""

TRAINING = "training"
"""The source whose updates are the run's progress: the hook, or who reads its logs."""

Severity = Literal["info", "warning", "critical"]
SEVERITIES: tuple[Severity, ...] = ("info", "warning", "critical")
Change = Literal["pending", "cancelled", "firing", "resolved"]


class Action(enum.IntEnum):
    """What a rule asks of the trainer, weakest first: the strongest firing one wins."""

    NONE = 0
    PIN = 1
    SKIP = 2
    HALT = 3
    ROLLBACK = 4

    @property
    def word(self) -> str:
        """The name used in rule files and JSON, such as "halt"."""
        return self.name.lower()


class Update(NamedTuple):
    """One training update's readings, plus what the hook measured.

    A named tuple, because a frozen dataclass takes three times as long to make and every
    `watch.log` makes one.

    Attributes:
        seq: Position in the attempt, from 1 without gaps.
        step: The trainer's own step counter (SB3: environment steps).
        time: Wall clock of the trainer, seconds since the epoch. Data only; order is `seq`.
        readings: Metric name to number. NaN and infinities are legal. Empty for an update that
            only carries an event: such a one advances no rule's count of updates.
        event: None, or a mapping whose "kind" is one of `EVENT_KINDS`.
        attempt: 1 for the first start of the run, one more after every resume.
        source: Who speaks; each source of an attempt counts its own `seq`.
    """

    seq: int
    step: int
    time: float
    readings: Mapping[str, float]
    event: Mapping[str, Any] | None = None
    attempt: int = 1
    source: str = TRAINING


@dataclass(frozen=True, slots=True)
class Tick:
    """The service's clock, for rules about silence.

    Attributes:
        now: Seconds since the epoch, on the clock that `last_heard` was read from.
        last_heard: When the service last heard from the run, same clock.
        timeout_s: Silence from which `stalled()` holds.
    """

    now: float
    last_heard: float
    timeout_s: float = 300.0


@dataclass(frozen=True, slots=True)
class Transition:
    """A rule starting or ceasing to hold for a run, with its reason.

    Attributes:
        change: "pending" (holds, not yet long enough), "cancelled" (ceased while pending),
            "firing" or "resolved".
        attempt, seq, step, time: The update that caused it. For a tick these are the last
            update's, with the tick's time.
        metric: The reading that best shows the reason; "" when no single one does.
        subject: The metric that an `each` rule holds for; "" for other rules.
        reading: Its value; NaN when it is missing or not a number.
        reason: One sentence with the values that were compared.
        source: Whose updates the rule was folded over; `step` itself leaves the default.
    """

    rule: str
    change: Change
    attempt: int
    seq: int
    step: int
    time: float
    metric: str
    reading: float
    reason: str
    severity: Severity = "warning"
    action: Action = Action.NONE
    subject: str = ""
    source: str = TRAINING


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the hook decided about an update or an optimizer step.

    Attributes:
        action: The strongest action among the rules that hold now and fire.
        rules: Names of the rules that asked for it, empty when `action` is NONE.
        reason: The first rule's reason, or "".
        firing: Every rule that fires after this update, whatever its action.
        subjects: The metrics that the `each` rules among `rules` hold for.
    """

    action: Action = Action.NONE
    rules: tuple[str, ...] = ()
    reason: str = ""
    firing: tuple[str, ...] = field(default=())
    subjects: tuple[str, ...] = field(default=())

    @property
    def healthy(self) -> bool:
        """Whether no rule fires at all."""
        return not self.firing
