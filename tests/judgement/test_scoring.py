"""The arithmetic of the bench of judgement, on answers written by hand."""

from __future__ import annotations

import dataclasses
import math

import pytest

from benchmarks.judgement import calibration, scoring
from benchmarks.judgement.answer import Alert, Answer
from benchmarks.judgement.runs import Run, Truth
from benchmarks.judgement.scoring import Score, Share

HEALTHY = Truth("cnn", "CNN", "supervised", 0, "plain", "measure")
BROKEN = dataclasses.replace(
    HEALTHY,
    fault="rate_100x",
    fault_from_update=40,
    harm=True,
    lost=True,
    chain=("train_loss", "lr"),
    cause="learning-rate",
    evidence_update=42,
    grown_update=90,
)


def score(truth: Truth, *alerts: Alert, causes: tuple[tuple[str, float], ...] = ()) -> Score:
    updates = [{"step": 1, "attempt": 1, "metrics": {}}] * 100
    return scoring.scored(Run("cnn/x", truth, updates), Answer(alerts, causes=causes))


def test_a_warning_about_the_chain_tells_the_fault() -> None:
    result = score(BROKEN, Alert("LossGrows", "train_loss", "warning", 45))

    assert (result.told, result.critical, result.lag, result.in_time) == (45, None, 3, True)


@pytest.mark.parametrize(
    "alert",
    [
        Alert("LossGrows", "train_loss", "info", 45),
        Alert("LossGrows", "train_loss", "critical", 39),
        Alert("SlowTraining", "fps", "critical", 45),
    ],
    ids=["info", "before the fault", "another metric"],
)
def test_what_is_mild_or_early_or_of_something_else_tells_nothing(alert: Alert) -> None:
    assert score(BROKEN, alert).told is None


def test_a_late_word_is_in_time_only_before_the_quantity_grew_a_thousandfold() -> None:
    before = score(BROKEN, Alert("LossGrows", "train_loss", "warning", 89))
    after = score(BROKEN, Alert("LossGrows", "train_loss", "warning", 90))
    never = score(
        dataclasses.replace(BROKEN, grown_update=None),
        Alert("LossGrows", "train_loss", "warning", 90),
    )

    assert (before.in_time, before.soon) == (True, False)
    assert (after.in_time, after.soon) == (False, False)
    assert (never.in_time, never.soon) == (True, False)


def test_the_death_of_a_trainer_is_told_by_any_alert_at_its_end() -> None:
    updates = [{"step": 1, "attempt": 1, "metrics": {}}] * 50
    run = Run("cnn/x", BROKEN, updates, failure="ValueError: nan")

    result = scoring.scored(run, Answer((Alert("TrainerFailed", "", "critical", 51),)))

    assert result.critical == 51


def test_to_abstain_is_not_right_and_costs_no_brier() -> None:
    scores = [score(BROKEN), score(BROKEN, causes=(("learning-rate", 0.8), ("reward-scale", 0.3)))]

    figures = scoring.summary(scores)

    assert figures.cause_right == Share(1, 2)
    assert figures.abstained == Share(1, 2)
    assert figures.brier == pytest.approx(0.04)


def test_healthy_runs_count_for_false_alarms_alone() -> None:
    scores = [
        score(HEALTHY),
        score(HEALTHY, Alert("LossGrows", "train_loss", "warning", 5)),
        score(BROKEN, Alert("LossGrows", "train_loss", "critical", 45)),
    ]

    assert scoring.false_alarms(scores)["warning"] == Share(1, 2)
    assert scoring.false_alarms(scores)["critical"] == Share(0, 2)
    assert scoring.summary(scores).told == Share(1, 1)


def test_the_interval_of_no_hit_says_what_the_number_of_runs_allows() -> None:
    low, high = Share(0, 400).interval()

    assert (low, high) == pytest.approx((0.0, 1.0 - 0.025 ** (1 / 400)), abs=1e-9)


def test_at_the_ends_of_an_interval_so_many_hits_are_just_unlikely() -> None:
    low, high = Share(8, 95).interval()

    at_most = sum(math.comb(95, k) * high**k * (1 - high) ** (95 - k) for k in range(9))
    at_least = sum(math.comb(95, k) * low**k * (1 - low) ** (95 - k) for k in range(8, 96))
    assert (at_most, at_least) == pytest.approx((0.025, 0.025), abs=1e-9)


def test_confidences_that_say_too_much_are_fitted_with_a_slope_below_one() -> None:
    # Said with 0.95 each, and right in seven of ten; said with 0.05, and right in three of ten.
    pairs = [(2.94, place < 70) for place in range(100)]
    pairs += [(-2.94, place < 30) for place in range(100)]

    slope, offset = calibration.fitted(pairs)

    assert slope == pytest.approx(0.29, abs=0.02)
    assert offset == pytest.approx(0.0, abs=0.02)
