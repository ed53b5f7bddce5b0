"""What is left out at calm updates changes no transition, no verdict and nothing remembered."""

import json
import math
import random

import pytest

from benchmarks.engine_cost import HEALTHY
from watchstep.core.engine import RuleSet, State, judge, step
from watchstep.core.evaluator import Schedule
from watchstep.core.rules import Alias, Rule
from watchstep.core.ruleset import Plan
from watchstep.core.updates import Update
from watchstep.rules import load

METRICS = {**HEALTHY, "my/own": 1.0}
ODD = (math.nan, math.inf, -math.inf, 0.0, 1e308)
FACTORS = (0.0, -1.0, 3.0, 40.0, 1e-9, 1e6)


def stream(seed: int, count: int) -> list[Update]:
    """Long calm stretches, growth, leaps, gaps, numbers that are none, events and a resume."""
    chance = random.Random(seed)
    levels = dict(METRICS)
    updates = []
    for number in range(1, count + 1):
        if chance.random() < 0.04:
            levels[chance.choice(list(levels))] *= chance.choice(FACTORS)
        readings = {name: level * (1 + 0.1 * chance.random()) for name, level in levels.items()}
        if chance.random() < 0.1:
            readings = dict(chance.sample(sorted(readings.items()), chance.randint(0, 9)))
        if readings and chance.random() < 0.05:
            readings[chance.choice(list(readings))] = chance.choice(ODD)
        kind = chance.choice(["guard", "log", "checkpoint"]) if chance.random() < 0.03 else None
        event = {"kind": kind, "text": "non-finite loss"} if kind else None
        updates.append(
            Update(number, number, 2.0 * number, readings, event, 1 + (number > 0.8 * count))
        )
    return updates


def judged(rules: RuleSet, updates: list[Update]) -> list[str]:
    state, record = State(rules), []
    for number, update in enumerate(updates):
        if number == len(updates) // 2:
            written = json.dumps(state.snapshot(), allow_nan=False)
            state = State.restore(rules, json.loads(written))
        state, transitions = step(rules, state, update)
        record.append(repr((transitions, judge(rules, state), state.firing(), state.held())))
    record.append(json.dumps(state.snapshot(), allow_nan=False))
    return record


@pytest.mark.parametrize("packs", [("ppo", "generic"), ("pretrain", "generic"), ("ppo-seed",)])
@pytest.mark.parametrize("seed", range(4))
def test_packs_judge_calm_updates_as_they_judge_all_others(packs, seed, monkeypatch) -> None:
    rules, updates = load(packs), stream(seed, 400)
    calm = judged(rules, updates)

    monkeypatch.setattr(Plan, "schedule", lambda *_: None)

    assert calm == judged(rules, updates)
    assert sum("'firing'" in line for line in calm) > 3


EXPRS = (
    "a > 5", "a >= 5", "a < 0.1", "a <= 0.1", "a == 0", "a != 0.5", "5 < a", "0.1 > a",
    "abs(a) > 5", "abs(a) >= 5", "abs(a) < 0.1", "not a < 5", "a > 5 and b > 5", "a > 5 or b > 5",
    "a > 5 or gone > 5", "a > 5 and gone > 5", "gone > 5 or not (gone > 5)", "known(gone, a) > 5",
    "known(a, 1) > 5", "known(gone, 3) > 2", "greatest(a, b) > 5", "a > b", "a > 5 * 2 - 5",
    "nonfinite(a)", "nonfinite(*)", "not nonfinite(a)", "count(nonfinite(a), 5) >= 2",
    "count(not nonfinite(a), 5) >= 3", "count(a > 5, 6) >= 2", "count(gone > 5, 6) < 2",
    "count(nonfinite(a), 5) < 2 and a > 5", "present(a) and b > 5", "not present(a)",
    "missing(a, 2)", "spike(a, 10) > 4", "median(gone, 10) > 1 or a > 5", 'event("log")',
    "level(a, 3) > 4.5", "level(a, 4) >= 5", "level(a, 2) < 0.1", "level(scaled, 2) > 5",
    "level(a, 3) > 2 * greatest(1, known(level(gone, 2), 1.5))", "level(a, 2) - level(b, 2) > 1",
    "abs(a) > 2 * greatest(level(b, 2), 1)", "level(a, 3) > 4 and spike(a, 10) > 4",
    "nonfinite_reports(a, 4) >= 2", "a - gone < 3", "scaled > 5", "nonfinite(scaled) or a > 5",
)  # fmt: skip


ALL_VALUES = (0.0, -0.0, 0.05, 0.1, 0.5, 1.0, 4.9, 5.0, 5.1, -5.0, -7.0, 60.0)
ALIASES = [Alias("percent", "scaled", 1e307)]


@pytest.mark.parametrize("seed", range(6))
def test_every_way_to_write_a_condition_holds_where_it_holds_with_nothing_left_out(
    seed, monkeypatch
) -> None:
    chance = random.Random(seed)
    rules = RuleSet([Rule(f"R{at}", expr) for at, expr in enumerate(EXPRS)], aliases=ALIASES)
    updates = []
    for number in range(1, 300):
        values = ALL_VALUES if number % 50 < 25 else (0.05, 0.5, 1.0, 4.4)
        names = ("a", "b") if chance.random() < 0.9 else ("a",)
        readings = {name: chance.choice(values) for name in (*names, "percent")}
        if chance.random() < 0.1:
            readings["a"] = chance.choice(ODD)
        updates.append(Update(number, number, float(number), readings))
    calm = judged(rules, updates)

    monkeypatch.setattr(Plan, "schedule", lambda *_: None)

    assert calm == judged(rules, updates)


def test_a_rule_about_a_metric_that_is_not_reported_costs_nothing_at_calm_updates() -> None:
    rules = RuleSet([Rule("Absent", "gone > 5"), Rule("Far", "a > 5"), Rule("Near", "a > 2 * b")])
    state = State(rules)

    for number in range(1, 6):
        state, _ = step(rules, state, Update(number, number, 0.0, {"a": 1.0, "b": 1.0}))

    schedule = state.schedule
    assert isinstance(schedule, Schedule)
    assert schedule.to_judge(state) == [2]
    state, _ = step(rules, state, Update(6, 6, 0.0, {"a": 6.0, "b": 9.0}))
    assert schedule.to_judge(state) == [1, 2]
    assert state.firing() == ("Far",)


def test_a_rule_about_a_level_sleeps_once_no_reading_beyond_its_limit_is_in_it() -> None:
    state = State(rules := RuleSet([Rule("High", "level(a, 3) > 2 * greatest(5, level(b, 3))")]))

    left, fired = [], []
    for number, reading in enumerate([1.0] * 6 + [90.0, 90.0] + [1.0] * 4, start=1):
        update = Update(number, number, 0.0, {"a": reading, "b": 1.0})
        state, _ = step(rules, state, update)
        left.append(list(state.wary))
        fired.append(state.firing() == ("High",))

    assert left[4:] == [[0], [0], [2], [2], [1], [0], [0], [0]]
    assert fired[4:] == [False, False, False, True, True, False, False, False]
