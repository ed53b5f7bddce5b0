"""The seed's four trigger conditions: told apart, and only while a run is otherwise well."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from watchstep.core.diagnosis import conditions
from watchstep.core.engine import RuleSet
from watchstep.core.updates import Update

PAGES = Path(__file__).parents[2] / "docs"
Readings = Mapping[str, float]


def healthy(at: int) -> dict[str, float]:
    wave = math.sin(at)
    return {
        "train/learning_rate": 3e-4,
        "train/value_loss": 20.0 + 5.0 * wave,
        "train/entropy_loss": -0.65 + 0.001 * wave,
        "train/approx_kl": 0.004 + 0.002 * wave,
        "train/advantages_std_raw": 4.0 + wave,
        "rollout/ep_rew_mean": 20.0 + 8.0 * math.sin(0.9 * at),
    }


def names(rules: RuleSet, change: Callable[[int], Readings], updates: int = 60) -> list[str]:
    history = [
        Update(at, at * 256, float(at), {**healthy(at), **change(at)})
        for at in range(1, updates + 1)
    ]
    return [condition.name for condition in conditions(rules, history)]


def still(at: int) -> Readings:
    return {"rollout/ep_rew_mean": 21.0} if at > 30 else {}


def zero(at: int) -> Readings:
    return {"rollout/ep_rew_mean": 0.0} if at > 30 else {}


def solved(at: int) -> Readings:
    return {
        "rollout/ep_rew_mean": min(8.0 + at, 40.0) + 0.01 * math.sin(at),
        "train/entropy_loss": -0.69 * 0.9**at,
    }


def volatile(at: int) -> Readings:
    if at <= 40:
        return {}
    return {
        "train/advantages_std_raw": 40.0 + 5.0 * math.sin(at),
        "train/value_loss": 1500.0 + 300.0 * math.sin(at),
    }


def quiet(at: int) -> Readings:
    return {"train/advantages_std_raw": 0.2 + 0.05 * math.sin(at)} if at > 40 else {}


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (still, "deterministic-environment"),
        (zero, "no-trade"),
        (solved, "near-optimal-low-entropy"),
        (volatile, "regime-change"),
        (quiet, "regime-change"),
    ],
)
def test_each_condition_is_told_from_the_others(
    rules: RuleSet, change: Callable[[int], Readings], name: str
) -> None:
    assert names(rules, change) == [name]


def test_a_run_that_learns_is_in_none(rules: RuleSet) -> None:
    assert names(rules, lambda _: {}) == []


@pytest.mark.parametrize(
    "fault",
    [
        {"train/value_loss": math.nan},
        {"train/learning_rate": 0.3},
        {"train/approx_kl": 0.0},
        {"train/advantages_norm_max_abs": 90.0, "train/advantages_count": 64.0},
    ],
)
def test_no_condition_is_named_beside_a_fault_that_explains_it(
    rules: RuleSet, fault: Readings
) -> None:
    assert names(rules, lambda at: {**still(at), **fault} if at > 30 else {}) == []


def test_supervised_training_has_none(rules: RuleSet) -> None:
    history = [Update(at, at, 0.0, {"train/loss": 1.0, "lr": 1e-3}) for at in range(1, 60)]

    assert conditions(rules, history) == ()


def test_a_condition_says_where_it_shows_and_what_to_watch(rules: RuleSet) -> None:
    history = [
        Update(at, at * 256, float(at), {**healthy(at), **volatile(at)}) for at in range(1, 61)
    ]

    (condition,) = conditions(rules, history)

    assert "at step 10496 and stayed there" in condition.evidence[0]
    assert "train/advantages_norm_max_abs against its bound" in condition.watch
    assert (PAGES / f"{condition.page}.md").exists()


def test_a_reward_that_was_far_better_and_stands_is_a_policy_s_and_no_constant_task(
    rules: RuleSet,
) -> None:
    def fell(at: int) -> Readings:
        return {"rollout/ep_rew_mean": 40.0 + math.sin(at) if at <= 30 else -1.0}

    assert "deterministic-environment" not in names(rules, fell)
