"""A log that begins late in a training does not hold its start."""

import random

import pytest

from watchstep.core.engine import State, step
from watchstep.core.updates import Update
from watchstep.rules import load


@pytest.mark.parametrize(("first_step", "is_told"), [(10, True), (20_000, False)])
def test_a_loss_that_stands_in_its_noise_is_told_only_of_a_log_from_the_start(
    first_step: int, is_told: bool
) -> None:
    rules, noise = load(["generic", "pretrain"]), random.Random(3)
    state, firing = State(rules), set()

    for seq in range(1, 161):
        readings = {"loss": noise.gauss(2.86, 0.02), "lr": 3e-4}
        update = Update(seq, first_step + 10 * (seq - 1), float(seq), readings)
        state, _ = step(rules, state, update)
        firing |= set(state.firing())

    assert ("LossNeverMoved" in firing) == is_told


def test_a_loss_that_fell_within_its_first_reports_has_moved() -> None:
    """A small character model on text of few words, which has learnt them after five reports."""
    rules, noise = load(["generic", "pretrain"]), random.Random(3)
    state, firing = State(rules), set()

    for seq in range(1, 161):
        level = {1: 2.89, 2: 1.92, 3: 1.51, 4: 1.27, 5: 1.14}.get(seq, 0.766)
        update = Update(seq, 10 * (seq - 1), float(seq), {"loss": noise.gauss(level, 0.006)})
        state, _ = step(rules, state, update)
        firing |= set(state.firing())

    assert "LossNeverMoved" not in firing
