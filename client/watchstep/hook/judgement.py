"""The rules inside the trainer: one fold over updates, one over each guard's steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from watchstep.core.engine import RuleSet, State, judge, step
from watchstep.core.updates import Action, Transition, Update, Verdict


class Judgement:
    """Judges one run inside the trainer.

    Attributes:
        most: Strongest action that is obeyed: PIN or SKIP where the user only wants alerts.
    """

    def __init__(self, rules: RuleSet, *, most: Action) -> None:
        self.rules = rules
        self.most = most
        self._updates = State(rules)
        self._steps: dict[str, State] = {}
        self._pending: set[tuple[str, str]] = set()

    def update(self, update: Update) -> tuple[Verdict, Sequence[Transition]]:
        self._updates, transitions = step(self.rules, self._updates, update)
        for transition in transitions:
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

    def open_alerts(self) -> bool:
        return any(
            self.rules.rules[self.rules.index[name]].severity != "info" for name in self.firing()
        )

    def is_settled(self) -> bool:
        return not self._pending

    def forget_steps(self) -> None:
        """After a rollback: what the steps before it looked like is no baseline any more."""
        self._steps.clear()
