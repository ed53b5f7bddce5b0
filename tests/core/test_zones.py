"""Zones cover the whole line: every edge, one ulp either side, NaN and the infinities."""

import math

import pytest

from watchstep.core.rules import ZONE_NAMES, Bands
from watchstep.rules import load

RULES = load([])
PLAIN = sorted(m for m, band in RULES.bands.items() if band.of in {"value", "magnitude"})


@pytest.mark.parametrize("metric", PLAIN)
def test_every_edge_belongs_to_the_band_above_it_and_one_ulp_below_does_not(metric: str) -> None:
    band = RULES.bands[metric]

    for at, edge in enumerate(band.edges):
        assert band.zone(edge, math.nan) == band.names[at + 1]
        assert band.zone(math.nextafter(edge, math.inf), math.nan) == band.names[at + 1]
        assert band.zone(math.nextafter(edge, -math.inf), math.nan) == band.names[at]


@pytest.mark.parametrize("metric", sorted(RULES.bands))
@pytest.mark.parametrize("beside", [math.nan, 0.0, 1.0, 2048.0, 1e-8, 1e-4, math.inf])
def test_every_number_has_a_zone_whatever_stands_beside_it(metric: str, beside: float) -> None:
    band = RULES.bands[metric]
    ends = [0.0, -0.0, 5e-324, 1.7e308, -1.7e308, *band.edges]

    assert {band.zone(value, beside) for value in ends} <= set(ZONE_NAMES)
    for value in (math.nan, math.inf, -math.inf):
        assert band.zone(value, beside) == "explosion"


@pytest.mark.parametrize(
    ("count", "largest", "zone"),
    [
        (64.0, 7.9, "ok"),
        (64.0, 8.1, "explosion"),
        (2048.0, 4.9, "ok"),
        (2048.0, 19.9, "watch"),
        (2048.0, 45.0, "danger"),
        (2048.0, 46.0, "explosion"),
        (1e6, 385.0, "danger"),
        (1e6, 1011.0, "explosion"),
        (math.nan, 99.0, "danger"),
        (math.nan, 101.0, "explosion"),
    ],
)
def test_advantages_explode_where_they_pass_the_bound_for_their_count(
    count: float, largest: float, zone: str
) -> None:
    name = "train/advantages_norm_max_abs"

    assert RULES.zone(name, {name: largest, "train/advantages_count": count}) == zone


@pytest.mark.parametrize(
    ("epsilon", "std", "zone"),
    [
        (1e-8, 9e-9, "watch"),
        (1e-8, 1e-8, "danger"),
        (1e-9, 5e-10, "watch"),
        (1e-9, 5e-9, "danger"),
        (1e-4, 5e-5, "watch"),
        (1e-4, 1e-4, "warning"),
        (1e-6, 5e-7, "watch"),
        (1e-6, 1e-6, "danger"),
        (1e-8, 1e-3, "ok"),
    ],
)
def test_the_danger_window_begins_where_the_trainers_epsilon_ends(epsilon, std, zone) -> None:
    readings = {"train/advantages_std_raw": std, "train/advantages_epsilon": epsilon}

    assert RULES.zone("train/advantages_std_raw", readings) == zone


def test_a_zone_is_found_under_any_trainers_name_and_none_for_the_unknown() -> None:
    assert RULES.zone("losses/clipfrac", {"losses/clipfrac": 0.9}) == "danger"
    assert RULES.zone("losses/entropy", {"losses/entropy": 2.0}) == "ok"
    assert RULES.zone("my/metric", {"my/metric": 1.0}) is None
    assert RULES.zone("train/grad_norm", {}) is None


def test_bands_of_a_value_are_not_mirrored() -> None:
    band = Bands("x", (0.0, 1.0), ("danger", "ok", "watch"))

    assert [band.zone(x, math.nan) for x in (-0.1, 0.0, 1.0)] == ["danger", "ok", "watch"]


def test_what_only_history_shows_is_zoned_by_the_rules_that_fire() -> None:
    rules = load(["ppo", "generic"])
    readings = {"rollout/ep_rew_mean": 3.0, "time/fps": 100.0}

    assert rules.zone("rollout/ep_rew_mean", readings) == "ok"
    assert rules.zone("rollout/ep_rew_mean", readings, {"RewardFlat"}) == "warning"
    both = {"RewardFlat", "RewardCollapse"}
    assert rules.zone("rollout/ep_rew_mean", readings, both) == "danger"
    assert rules.zone("time/fps", readings, {"ThroughputCollapse", "ThroughputDrop"}) == "danger"
    assert rules.zone("time/fps", {"time/fps": float("nan")}) == "explosion"
