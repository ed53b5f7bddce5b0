"""Diagnosis of readings as faults leave them; each series is of the shape that real runs gave."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from watchstep.core.diagnosis import NOT_ENOUGH, Cause, diagnose, signs
from watchstep.core.diagnosis.table import CAUSES, KINDS
from watchstep.core.engine import RuleSet
from watchstep.core.updates import Transition, Update

NAN = math.nan
PAGES = Path(__file__).parents[2] / "docs"
Readings = Mapping[str, float]


def healthy(at: int) -> dict[str, float]:
    """An update of an ordinary PPO run; `at` counts from 1. Varies without a random source."""
    wave = math.sin(at)
    return {
        "train/learning_rate": 3e-4,
        "train/policy_gradient_loss": -0.004 + 0.002 * wave,
        "train/value_loss": 20.0 + 5.0 * wave,
        "train/loss": 10.0 + 2.0 * wave,
        "train/entropy_loss": -0.65 + 0.002 * at,
        "train/approx_kl": 0.004 + 0.002 * wave,
        "train/clip_fraction": 0.05,
        "train/clip_range": 0.2,
        "train/explained_variance": 0.4 + 0.1 * wave,
        "train/grad_norm": 2.0 + wave,
        "train/advantages_mean_raw": 3.0 + wave,
        "train/advantages_std_raw": 4.0 + wave,
        "train/advantages_norm_max_abs": 2.9 + 0.3 * wave,
        "train/advantages_count": 64.0,
        "train/advantages_norm_mean": 1e-8 * wave,
        "train/advantages_norm_std": 0.992,
        "train/advantages_divisor": (4.1 + wave) / 0.992,
        "rollout/ep_rew_mean": 50.0 + 8.0 * math.sin(0.3 * at),
    }


def diagnosed(
    rules: RuleSet,
    change: Callable[[int], Readings],
    *,
    updates: int = 40,
    event: Mapping[str, str] | None = None,
    fired: tuple[str, ...] = (),
) -> tuple[Cause, ...]:
    """Diagnosis of a healthy run whose readings are overlaid with a fault's."""
    history = [
        Update(at, at * 256, float(at), {**healthy(at), **change(at)})
        for at in range(1, updates + 1)
    ]
    if event is not None:
        history.append(Update(updates + 1, updates * 256, 0.0, {}, event))
    return diagnose(rules, history, [alert(rule, updates) for rule in fired])


def alert(rule: str, seq: int, attempt: int = 1) -> Transition:
    return Transition(rule, "firing", attempt, seq, seq, 0.0, "", NAN, "", "critical")


def from_update(first: int, change: Callable[[int], Readings]) -> Callable[[int], Readings]:
    return lambda at: change(at) if at >= first else {}


def test_a_healthy_run_has_not_enough_evidence_for_anything(rules: RuleSet) -> None:
    causes = diagnosed(rules, lambda _: {})

    assert causes[0].name == NOT_ENOUGH
    assert causes[0].confidence == 0.0


def test_no_history_at_all_is_not_enough_evidence(rules: RuleSet) -> None:
    causes = diagnose(rules, [], [])

    assert [cause.name for cause in causes] == [NOT_ENOUGH]


def test_what_is_about_the_disk_alone_has_no_cause_in_the_readings(rules: RuleSet) -> None:
    def change(_: int) -> Readings:
        return {"train/learning_rate": 0.5}

    of_a_disk = diagnosed(rules, change, fired=("CheckpointNotSaved",))
    of_both = diagnosed(rules, change, fired=("CheckpointNotSaved", "RateExtreme"))

    assert [cause.name for cause in of_a_disk] == [NOT_ENOUGH]
    assert "CheckpointNotSaved" in of_a_disk[0].evidence[0]
    assert "learning-rate" in [cause.name for cause in of_both]


def test_a_value_beyond_its_bound_names_another_samples_statistics(rules: RuleSet) -> None:
    def stale(at: int) -> Readings:
        previous = healthy(at - 1)["train/advantages_std_raw"]
        mine = 4.0 + math.sin(at) if at < 30 else 400.0
        return {
            "train/advantages_std_raw": mine,
            "train/advantages_divisor": previous,
            "train/advantages_norm_std": mine / previous,
            "train/advantages_norm_max_abs": 3.0 * mine / previous,
            "train/advantages_norm_mean": 0.4 * math.sin(at),
        }

    causes = diagnosed(rules, stale, updates=31)

    assert causes[0].name == "wrong-sample-normalisation"
    assert causes[0].confidence > 0.9
    assert causes[0].kind == "stale-or-running"
    assert "cannot exceed 7.937" in " ".join(causes[0].evidence)


def test_a_mean_that_was_kept_is_told_from_a_deviation_that_is_foreign(rules: RuleSet) -> None:
    def uncentred(at: int) -> Readings:
        mean, std = (
            healthy(at)["train/advantages_mean_raw"],
            healthy(at)["train/advantages_divisor"],
        )
        return {"train/advantages_norm_mean": mean / std}

    causes = diagnosed(rules, uncentred)

    assert causes[0].name == "wrong-sample-normalisation"
    assert causes[0].kind == "not-centred"


def test_one_batch_proves_the_fault_but_not_its_kind(rules: RuleSet) -> None:
    mean_of_others = {"train/advantages_norm_mean": 0.9, "train/advantages_norm_max_abs": 12.0}

    causes = diagnosed(rules, lambda _: mean_of_others, updates=1)

    assert causes[0].name == "wrong-sample-normalisation"
    assert causes[0].kind == ""


def test_missing_brackets_are_recognised_by_a_divisor_of_one(rules: RuleSet) -> None:
    def brackets(at: int) -> Readings:
        own = 4.1 + math.sin(at)
        return {
            "train/advantages_divisor": 1.0,
            "train/advantages_norm_std": own,
            "train/advantages_norm_mean": 2.3,
        }

    causes = diagnosed(rules, brackets)

    assert causes[0].name == "wrong-sample-normalisation"
    assert causes[0].kind == "not-divided"


def test_statistics_of_the_whole_rollout_are_no_fault(rules: RuleSet) -> None:
    def whole(at: int) -> Readings:
        spread = healthy(at)["train/advantages_std_raw"]
        return {
            "train/advantages_divisor": spread,
            "train/advantages_norm_std": 1.0 + 0.15 * math.sin(3 * at),
            "train/advantages_norm_mean": 0.12 * math.cos(at),
        }

    causes = diagnosed(rules, whole)

    assert causes[0].name == NOT_ENOUGH


def test_advantages_within_rounding_of_their_mean_are_noise(rules: RuleSet) -> None:
    def still(at: int) -> Readings:
        return {
            "train/advantages_mean_raw": 1000.0,
            "train/advantages_std_raw": 2e-5,
            "train/advantages_norm_max_abs": 1.0,
            "train/advantages_norm_mean": 0.99 * (-1) ** at,
            "rollout/ep_rew_mean": 1000.0,
        }

    names = [cause.name for cause in diagnosed(rules, still)]

    assert names[0] == "noise-below-resolution"
    assert "wrong-sample-normalisation" not in names[:2]


def stops_dead_after_a_spike(at: int) -> Readings:
    if at == 30:
        return {"train/grad_norm": 1e9, "train/value_loss": 1e12}
    return {"train/approx_kl": 1e-9, "train/clip_fraction": 0.0} if at > 30 else {}


def infinite_now_and_then(at: int) -> Readings:
    scale = 65536.0 / 2 ** ((at > 20) + (at > 30))
    norm = {"train/grad_norm": math.inf} if at in {20, 30} else {}
    return {"train/loss_scale": scale, **norm}


SHAPES: dict[str, tuple[str, Callable[[int], Readings]]] = {
    "rewards of exactly zero": (
        "no-trade",
        from_update(25, lambda _: {"rollout/ep_rew_mean": 0.0}),
    ),
    "a reward that never varies": (
        "deterministic-environment",
        lambda at: {
            "rollout/ep_rew_mean": 100.0,
            "train/advantages_std_raw": 2.0 * 0.8**at,
            "train/value_loss": 40.0 * 0.5**at,
            "train/explained_variance": NAN,
        },
    ),
    "low entropy at the best reward": (
        "near-optimal-low-entropy",
        lambda at: {
            "train/entropy_loss": -0.69 * 0.8**at,
            "rollout/ep_rew_mean": min(8.0 + at, 32.0),
            "train/advantages_std_raw": 2.0 * 0.85**at,
        },
    ),
    "low entropy after a fall of the reward": (
        "policy-collapse",
        lambda at: {
            # Over some updates: what one step does to a policy is the step's fault.
            "train/entropy_loss": -0.69 * 0.6 ** max(0, at - 20),
            "rollout/ep_rew_mean": float(at) if at < 20 else 19.0 - 0.8 * (at - 19),
        },
    ),
    "rewards a thousand times larger": (
        "reward-scale",
        from_update(
            30,
            lambda at: {
                "train/value_loss": 2e7,
                "train/grad_norm": 5e3,
                "train/advantages_std_raw": 4e3,
                "rollout/ep_rew_mean": 5e4 + at,
            },
        ),
    ),
    "advantages a few times larger": (
        "regime-change",
        from_update(
            30, lambda at: {"train/value_loss": 900.0, "train/advantages_std_raw": 28.0 + at % 3}
        ),
    ),
    "a rollout that holds NaN": (
        "nonfinite-input",
        from_update(
            40,
            lambda _: {
                "train/advantages_std_raw": NAN,
                "train/advantages_mean_raw": NAN,
                "train/value_loss": NAN,
                "rollout/ep_rew_mean": NAN,
            },
        ),
    ),
    "a refused checkpoint": (
        "corrupted-parameters",
        from_update(40, lambda _: {"checkpoint/nonfinite_tensors": 3.0}),
    ),
    "a critic that explains nothing": (
        "value-collapse",
        from_update(10, lambda _: {"train/explained_variance": 0.0}),
    ),
    "a policy that stops dead after a spike": ("frozen-after-spike", stops_dead_after_a_spike),
    "a loss of zero beside a gradient of NaN": (
        "hidden-nan",
        from_update(30, lambda _: {"train/loss": 0.0, "train/grad_norm": NAN}),
    ),
    "single infinite gradients under a scaler": ("loss-scale-overflow", infinite_now_and_then),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_each_shape_of_a_fault_has_its_cause(rules: RuleSet, shape: str) -> None:
    cause, change = SHAPES[shape]

    assert diagnosed(rules, change)[0].name == cause


def test_a_learning_rate_that_leaps_is_named_with_both_values(rules: RuleSet) -> None:
    causes = diagnosed(
        rules,
        from_update(
            30,
            lambda _: {
                "train/learning_rate": 0.3,
                "train/approx_kl": 4.0,
                "train/clip_fraction": 0.9,
            },
        ),
    )

    assert causes[0].name == "learning-rate"
    assert any("0.0003 to 0.3 at step 7680" in text for text in causes[0].evidence)


def test_the_rows_of_the_last_words_tell_input_from_parameters(rules: RuleSet) -> None:
    words = (
        "ValueError: Expected parameter logits, found invalid values: tensor([[{}], [nan, nan]])"
    )

    some = diagnosed(
        rules, lambda _: {}, event={"kind": "failed", "error": words.format("0.1, 0.2")}
    )
    every = diagnosed(
        rules, lambda _: {}, event={"kind": "failed", "error": words.format("nan, nan")}
    )

    assert some[0].name == "nonfinite-input"
    assert every[0].name == "corrupted-parameters"


def test_a_run_that_goes_silent_without_a_sign_died_silently(rules: RuleSet) -> None:
    causes = diagnosed(rules, lambda _: {}, fired=("RunStalled",))

    assert causes[0].name == "silent-death"


def test_an_exception_about_something_else_is_a_silent_death(rules: RuleSet) -> None:
    causes = diagnosed(rules, lambda _: {}, event={"kind": "failed", "error": "OSError: disk full"})

    assert causes[0].name == "silent-death"
    assert causes[0].title == "The trainer died: OSError: disk full"


def test_other_trainers_names_are_understood(rules: RuleSet) -> None:
    history = [
        Update(
            at,
            at,
            0.0,
            {
                "losses/value_loss": 3.0,
                "charts/learning_rate": 3e-4 if at < 20 else 0.5,
                "losses/approx_kl": 0.01 if at < 20 else 9.0,
                "losses/clipfrac": 0.9,
            },
        )
        for at in range(1, 31)
    ]

    assert diagnose(rules, history, [])[0].name == "learning-rate"


def test_only_the_attempt_of_the_newest_alert_is_looked_at(rules: RuleSet) -> None:
    broken = [
        Update(
            at,
            at,
            0.0,
            {
                **healthy(at),
                "train/learning_rate": 3e-4 if at < 20 else 1.0,
                "train/approx_kl": 0.01 if at < 20 else 20.0,
            },
        )
        for at in range(1, 31)
    ]
    resumed = [Update(at, at, 0.0, healthy(at), attempt=2) for at in range(1, 31)]

    first = diagnose(rules, [*broken, *resumed], [alert("KLHigh", 20, attempt=1)])
    second = diagnose(rules, [*broken, *resumed], [])

    assert first[0].name == "learning-rate"
    assert second[0].name == NOT_ENOUGH


@pytest.mark.parametrize("value", [NAN, math.inf, -math.inf, 0.0, -0.0, 5e-324, 1.7e308, -1.7e308])
def test_no_value_of_any_reading_breaks_it(rules: RuleSet, value: float) -> None:
    for name in healthy(1):
        broken = {name: value}
        causes = diagnosed(rules, lambda at: broken if at >= 15 else {}, updates=30)  # noqa: B023

        assert all(0.0 <= cause.confidence <= 1.0 for cause in causes)
    everything = diagnosed(rules, lambda at: dict.fromkeys(healthy(at), value))

    assert everything


def test_the_same_history_gives_the_same_answer(rules: RuleSet) -> None:
    once = diagnosed(rules, from_update(20, lambda _: {"train/learning_rate": 0.3}))

    assert diagnosed(rules, from_update(20, lambda _: {"train/learning_rate": 0.3})) == once


def test_every_cause_has_its_page() -> None:
    for name in [*(entry.name for entry in CAUSES), NOT_ENOUGH]:
        page = (PAGES / "causes" / f"{name}.md").read_text(encoding="utf-8")

        assert all(
            part in page for part in ("## What it looks like", "## How to confirm", "## How to fix")
        )


def test_every_sign_of_the_table_is_one_that_is_looked_for() -> None:
    folder = Path(signs.__code__.co_filename).parent
    source = "".join(path.read_text(encoding="utf-8") for path in folder.glob("*s.py"))
    named = {
        sign
        for entry in (*CAUSES, *(kind for kinds in KINDS.values() for kind in kinds))
        for sign in (*entry.needs, *(weight.sign for weight in entry.weights))
    }

    assert [sign for sign in sorted(named) if f'"{sign}"' not in source] == []
