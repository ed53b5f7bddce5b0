"""The rules inside the trainer: one fold over updates, one over each guard's steps."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Mapping, Sequence, Set
from itertools import pairwise

from watchstep.core.engine import RuleSet, State, judge, step
from watchstep.core.stages import ONSET_UPDATES, story
from watchstep.core.updates import Action, Transition, Update, Verdict

_FIRED = 64
_REPORTS = 10
"""Reports of a loss that tell what is usual."""
_NEWEST = 5
"""The newest of them, which tell its level now."""
_CHANGES = 5.0
"""Times the median change between reports, of which a still loss of any noise exceeds few."""
_LEAST_RISE = 0.1
"""Of the level: less is no rise, however still it stood."""


class Judgement:
    """Judges one run inside the trainer.

    Attributes:
        most: Strongest action that is obeyed: PIN or SKIP where the user only wants alerts.
        attempt: Of the updates that come; what was usual in the one before is remembered.
    """

    def __init__(self, rules: RuleSet, *, most: Action) -> None:
        self.rules = rules
        self.most = most
        self.attempt = 1
        self._updates = State(rules)
        self._steps: dict[str, State] = {}
        self._pending: set[tuple[str, str]] = set()
        self._recent: deque[Update] = deque(maxlen=ONSET_UPDATES)
        self._fired: deque[Transition] = deque(maxlen=_FIRED)
        self._explodes = False

    def update(self, update: Update) -> tuple[Verdict, Sequence[Transition]]:
        if update.attempt < self.attempt:
            update = update._replace(attempt=self.attempt)
        self._updates, transitions = step(self.rules, self._updates, update)
        self._recent.append(update)
        for transition in transitions:
            if transition.change == "firing":
                self._fired.append(transition)
                self._explodes |= transition.severity == "critical"
            alert = (transition.rule, transition.subject)
            if transition.change == "pending" and transition.severity != "info":
                self._pending.add(alert)
            else:
                self._pending.discard(alert)
        return judge(self.rules, self._updates, most=self.most), transitions

    def optimizer_step(self, guard: str, readings: Mapping[str, float], time: float) -> Verdict:
        """Judge one optimizer step by the same rules.

        Each guard's steps are a stream of their own, so windows and "in a row" count steps
        there. Rules about metrics that only the whole update has cannot tell, and hold.
        """
        state = self._steps.get(guard) or State(self.rules)
        seq = state.seq + 1
        self._steps[guard], _ = step(self.rules, state, Update(seq, seq, time, readings))
        return judge(self.rules, self._steps[guard], most=self.most)

    def adopt(self, rules: RuleSet) -> None:
        """Judge by other rules from now on; what both sets have goes on where it stands."""
        self.rules = rules
        self._pending.clear()
        self._updates = State.restore(rules, self._updates.snapshot())
        self._steps = {
            guard: State.restore(rules, state.snapshot()) for guard, state in self._steps.items()
        }

    def looks_at(self, name: str) -> bool:
        return self.rules.looks_at(name)

    def firing(self) -> tuple[str, ...]:
        return self._updates.firing()

    def held_lately(self) -> Set[str]:
        """Rules whose condition held in the last `ONSET_UPDATES`: an alert may outlast it."""
        return set(self._updates.held(self._recent[0].seq)) if self._recent else set()

    def open_alerts(self) -> bool:
        return any(
            self.rules.rules[self.rules.index[name]].severity != "info" for name in self.firing()
        )

    def is_settled(self) -> bool:
        return not self._pending

    def take_first_bad(self) -> int | None:
        """After a critical alert has begun, once: the update from which on it is bad."""
        explodes, self._explodes = self._explodes, False
        if not explodes:
            return None
        return story(self.rules, self._fired, self._recent).first_bad_update

    def loss_level(self) -> tuple[str, float, float] | None:
        """The run's loss: its name, its level now, and up to where its last reports usually go.

        None without a loss, or before there are enough reports of it.
        """
        reported = (name for update in reversed(self._recent) for name in update.readings)
        name = next((name for name in reported if self.rules.role(name) == "loss"), None)
        if name is None:
            return None
        values = [update.readings[name] for update in self._recent if name in update.readings]
        finite = [value for value in values[-_REPORTS:] if math.isfinite(value)]
        if len(finite) < _REPORTS // 2:
            return None
        level = statistics.median(finite[-_NEWEST:])
        # From one report to the next, since a loss that falls or rises is no less settled.
        change = statistics.median(abs(after - before) for before, after in pairwise(finite))
        return name, level, level + max(_CHANGES * change, _LEAST_RISE * abs(level))

    def forget_steps(self) -> None:
        """After a rollback: what the steps before it looked like is no baseline any more."""
        self._steps.clear()
