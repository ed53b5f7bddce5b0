"""A step is one update: what the guard tells of it rides on the update that `log` makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

TWICE = """
groups:
  - name: t
    rules:
      - alert: Twice
        expr: guard/nonfinite_gradients > 0
        for: 2 updates
        labels: {severity: critical}
        action: halt
      - alert: Skip
        expr: guard/nonfinite_gradients > 0
        labels: {severity: warning}
        action: skip
"""


class Loop:
    """A training whose gradients are bad at certain steps; remembers what is sent."""

    def __init__(self, watch: Any) -> None:
        torch.manual_seed(0)
        self.model = torch.nn.Linear(4, 1)
        self.optimizer = torch.optim.Adam(self.model.parameters(), 1e-2)
        self.watch = watch
        self.updates: list[Any] = []
        watch._stream.outbound.put = self.updates.append
        watch.guard(self.optimizer)

    def run(self, steps: int, bad: set[int], steps_per_update: int = 1) -> None:
        for step in range(steps):
            self.optimizer.zero_grad()
            loss = self.model(torch.randn(8, 4)).pow(2).mean()
            loss.backward()
            if step in bad:
                self.model.weight.grad[0, 0] = float("nan")
            self.optimizer.step()
            if step % steps_per_update == steps_per_update - 1:
                self.watch.log({"train/loss": loss}, step=step)


def test_a_skipped_step_is_told_by_the_update_of_that_step_and_no_other(make: Any) -> None:
    loop = Loop(make(mode="offline", on_critical="halt", rules="pretrain"))

    loop.run(40, bad={30})

    assert len(loop.updates) == 40
    skipped = loop.updates[30]
    assert skipped.readings["guard/skipped"] == 1.0
    assert "train/loss" in skipped.readings
    assert (skipped.event["kind"], skipped.event["verdict"]) == ("guard", "skip")
    assert [t.rule for t in loop.watch.transitions if t.severity == "critical"] == []


def test_two_bad_steps_are_two_for_rules_that_count_updates(make: Any, tmp_path: Path) -> None:
    rules = tmp_path / "twice.yaml"
    rules.write_text(TWICE)

    Loop(make(mode="offline", on_critical="halt", rules=rules)).run(12, bad={5})
    twice = Loop(make(mode="offline", on_critical="halt", rules=rules))
    with pytest.raises(BaseException, match="Twice"):
        twice.run(12, bad={5, 6})


@pytest.mark.parametrize("pack", ["pretrain", "ppo", "grpo"])
def test_two_bad_steps_of_many_halt_nobody(pack: str, make: Any) -> None:
    loop = Loop(make(mode="offline", on_critical="halt", rules=pack))

    loop.run(60, bad={30, 31})

    assert len(loop.updates) == 60


def test_steps_that_one_update_speaks_of_are_one_event_with_their_number(make: Any) -> None:
    loop = Loop(make(mode="offline", on_critical="halt", rules="pretrain"))

    loop.run(40, bad={20, 22}, steps_per_update=4)

    assert len(loop.updates) == 10
    assert loop.updates[5].event["steps"] == 2
    assert loop.updates[5].readings["guard/skipped"] == 2.0
