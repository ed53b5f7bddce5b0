"""Causes told from what any trainer logs: names of several trainers, few metrics, no hook."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import pytest

from watchstep.core.diagnosis import NOT_ENOUGH, Cause, diagnose
from watchstep.core.engine import RuleSet, State, step
from watchstep.core.updates import Update
from watchstep.rules import load

NAN = math.nan
Readings = Mapping[str, float]


@pytest.fixture(scope="module")
def rules() -> RuleSet:
    return load(["generic"])


def noise(at: int) -> float:
    """Between -1 and 1, without a random source."""
    return math.sin(12.9898 * at) * math.cos(4.1414 * at * at)


def falling(at: int, start: float = 3.2, floor: float = 1.0) -> float:
    """A loss that is learnt."""
    return (floor + (start - floor) * math.exp(-at / 15.0)) * (1.0 + 0.05 * noise(at))


def history(
    readings: Callable[[int], Readings],
    updates: int = 100,
    *,
    attempt: int = 1,
    event: Mapping[str, str] | None = None,
) -> list[Update]:
    rows = [
        Update(at, at * 10, float(at), readings(at), None, attempt) for at in range(1, updates + 1)
    ]
    if event is not None:
        rows.append(Update(updates + 1, updates * 10, 0.0, {}, event, attempt))
    return rows


def first(rules: RuleSet, updates: Sequence[Update]) -> Cause:
    return diagnose(rules, updates, [])[0]


def test_a_run_that_learns_has_no_cause(rules: RuleSet) -> None:
    cause = first(rules, history(lambda at: {"loss": falling(at), "lr": 1e-3}))

    assert cause.name == NOT_ENOUGH


def test_a_loss_alone_that_is_nan_out_of_nothing_is_a_bad_input(rules: RuleSet) -> None:
    cause = first(rules, history(lambda at: {"train/loss": falling(at) if at < 60 else NAN}))

    assert cause.name == "nonfinite-input"
    assert "train/loss = nan at step 600" in cause.evidence


def test_a_loss_that_climbed_before_it_was_nan_is_no_bad_input(rules: RuleSet) -> None:
    def climbing(at: int) -> Readings:
        return {"train/loss": falling(at) if at < 60 else 1.4 ** (at - 60) if at < 95 else NAN}

    causes = diagnose(rules, history(climbing), [])

    assert causes[0].name == "unstable-dynamics"


def test_a_rate_of_zero_is_named_as_what_is_not_trained(rules: RuleSet) -> None:
    cause = first(rules, history(lambda at: {"train_loss": 3.2 + 0.1 * noise(at), "lr-AdamW": 0.0}))

    assert (cause.name, cause.kind) == ("nothing-trained", "rate-zero")
    assert "lr-AdamW has been exactly 0: no step changes anything" in cause.evidence


def test_a_schedule_that_ends_at_zero_is_no_rate_of_zero(rules: RuleSet) -> None:
    cause = first(
        rules, history(lambda at: {"loss": falling(at), "lr": max(0.0, 1e-3 * (1 - at / 96))})
    )

    assert cause.name == NOT_ENOUGH


def frozen_from_the_start(at: int) -> Readings:
    return {"loss": 2.3 + 0.02 * noise(at), "guard/parameters_not_trained": 0.8}


def never_stepped(at: int) -> Readings:
    return {"loss": 2.3 + 0.02 * noise(at), "guard/steps": 0.0}


@pytest.mark.parametrize(
    ("readings", "kind"), [(frozen_from_the_start, "frozen"), (never_stepped, "no-step")]
)
def test_what_the_guard_saw_says_why_nothing_is_trained(
    rules: RuleSet, readings: Callable[[int], Readings], kind: str
) -> None:
    cause = first(rules, history(readings))

    assert (cause.name, cause.kind) == ("nothing-trained", kind)


def test_weights_that_grow_by_themselves_are_named(rules: RuleSet) -> None:
    def growing(at: int) -> Readings:
        readings = {"loss": 1.0 + 0.01 * noise(at), "lr": 1e-3}
        return readings | ({"guard/weight_norm": 5.0 * 4.0 ** (at // 20)} if at % 20 == 1 else {})

    assert first(rules, history(growing)).name == "unstable-dynamics"


def leapt_weight(rate: float) -> Callable[[int], Readings]:
    def readings(at: int) -> Readings:
        spoilt = at >= 50
        weight = {"guard/largest_weight": 9e30 if spoilt else 0.8} if at in {10, 20, 50} else {}
        return {
            "loss": math.nan if spoilt else 1.0 + 0.01 * noise(at),
            "guard/steps": 1.0,
            "guard/learning_rate": rate,
            "train/grad_norm_max": math.inf if spoilt else 2.0,
        } | weight

    return readings


def test_a_weight_that_moved_further_than_any_step_is_corrupted(rules: RuleSet) -> None:
    cause = first(rules, history(leapt_weight(rate=1e-3)))
    by_its_steps = first(rules, history(leapt_weight(rate=1e30)))

    assert cause.name == "corrupted-parameters"
    assert "the largest weight was 0.8 and 9e+30" in " ".join(cause.evidence)
    assert by_its_steps.name != "corrupted-parameters"


@pytest.mark.parametrize(("ends_at", "name"), [(0.0, "loss-sign"), (0.1, "data-fault")])
def test_to_be_right_less_often_than_by_guessing_is_to_be_led_away(
    rules: RuleSet, ends_at: float, name: str
) -> None:
    def climbing(at: int) -> Readings:
        turned = at >= 40
        accuracy = ends_at if turned else min(0.1 + 0.02 * at, 0.8)
        loss = 2.3 - 0.04 * at if not turned else (4.0 + 0.3 * at if ends_at == 0.0 else 2.5)
        return {"loss": loss + 0.01 * noise(at), "accuracy": accuracy, "lr": 1e-3}

    assert first(rules, history(climbing)).name == name


def test_a_loss_that_falls_far_below_zero_has_the_wrong_sign(rules: RuleSet) -> None:
    cause = first(rules, history(lambda at: {"bce_loss": 0.69 - 0.05 * at * at}))

    assert cause.name == "loss-sign"


def test_gradients_that_are_mostly_zero_are_no_training(rules: RuleSet) -> None:
    def dead(at: int) -> Readings:
        return {"loss": 2.3 + 0.02 * noise(at), "guard/zero_gradients": 0.7}

    assert first(rules, history(dead)).name == "nothing-trained"


def test_an_entropy_alone_makes_no_agent_and_its_resume_is_looked_at(rules: RuleSet) -> None:
    before = history(lambda at: {"loss": falling(at), "entropy": 1.5})
    after = history(lambda _: {"loss": 3.2, "entropy": 3.0}, 20, attempt=2)

    assert first(rules, before + after).name == "lost-at-resume"


def test_the_loss_of_a_generator_that_rises_is_not_climbed(rules: RuleSet) -> None:
    def adversaries(at: int) -> Readings:
        return {"Loss_D": 1.4 * 0.97**at, "Loss_G": 0.8 + 0.05 * at}

    assert first(rules, history(adversaries)).name != "loss-sign"


def test_a_critic_beyond_all_returns_since_the_start_is_a_discount(rules: RuleSet) -> None:
    def agent(at: int) -> Readings:
        return {
            "rollout/ep_rew_mean": 20.0 + noise(at),
            "train/value_loss": 1e14 * (2.0 + noise(at)),
            "train/approx_kl": 1e-8,
            "train/explained_variance": 0.0,
        }

    assert first(rules, history(agent)).name == "discount"


@pytest.mark.parametrize(
    ("readings", "kind"),
    [
        ({"loss": 0.0, "grad_norm": 0.0}, "masked"),
        ({"loss": 2.7, "grad_norm": 0.0}, "detached"),
    ],
)
def test_gradients_of_zero_say_why_nothing_is_trained(
    rules: RuleSet, readings: Readings, kind: str
) -> None:
    def at_last(at: int) -> Readings:
        healthy = {"loss": falling(at), "grad_norm": 1.0 + 0.2 * noise(at)}
        return healthy if at < 40 else {**healthy, **readings}

    cause = first(rules, history(at_last))

    assert (cause.name, cause.kind) == ("nothing-trained", kind)


def test_evaluations_that_repeat_to_the_last_digit_mean_that_nothing_is_trained(
    rules: RuleSet,
) -> None:
    def other_model(at: int) -> Readings:
        evaluation = {"eval/loss": 3.17461253} if at % 10 == 0 else {}
        return {"train/loss": 3.2 + 0.1 * noise(at), "lr": 1e-3, **evaluation}

    assert first(rules, history(other_model)).name == "nothing-trained"


def test_a_plateau_seen_without_its_start_is_no_proof_that_nothing_is_trained(
    rules: RuleSet,
) -> None:
    late = history(lambda at: {"loss": 1.2 + 0.05 * noise(at), "lr": 1e-3}, 400)[-300:]

    assert first(rules, late).name == NOT_ENOUGH


def test_a_loss_back_at_its_start_while_evaluation_is_not_is_a_fault_of_the_data(
    rules: RuleSet,
) -> None:
    def shuffled(at: int) -> Readings:
        loss = falling(at) if at < 60 else 3.2 * (1.0 + 0.03 * noise(at))
        evaluation = {"val/loss": falling(min(at, 60))} if at % 5 == 0 else {}
        return {"train/loss": loss, "lr": 1e-3, **evaluation}

    assert first(rules, history(shuffled)).name == "data-fault"


@pytest.mark.parametrize(
    "climbing",
    [
        # Leaps and stays, below its start, as both do.
        lambda at: {"loss": falling(at) if at < 60 else 1.8 + 0.05 * noise(at)},
        # Climbs slowly.
        lambda at: {"loss": falling(at) if at < 40 else falling(40) + 0.05 * (at - 40)},
    ],
)
def test_a_loss_that_rises_with_its_gradient_is_not_put_down_to_the_data(
    rules: RuleSet, climbing: Callable[[int], Readings]
) -> None:
    def with_gradient(at: int) -> Readings:
        loss = climbing(at)["loss"]
        grown = 1.0 if at < 40 or loss < 1.3 else 1.05 ** (at - 40) * 4.0
        return {"loss": loss, "grad_norm": grown * (1.0 + 0.1 * noise(at)), "lr": 3e-4}

    causes = diagnose(rules, history(with_gradient), [])

    assert causes[0].name == NOT_ENOUGH
    assert "nothing logged tells steps that are too large from wrong data" in " ".join(
        causes[0].evidence
    )
    assert all(cause.confidence < 0.5 for cause in causes)


@pytest.mark.parametrize(
    "ascending",
    [
        # From a trained model on, by a power of the time, as Adam climbs.
        lambda at: falling(at) if at < 40 else falling(40) + 0.002 * (at - 40) ** 3,
        # Never anything but ascent: slow at first, then by orders of magnitude.
        lambda at: (2.3 + 1e-5 * at**4) * (1.0 + 0.03 * noise(at)),
    ],
    ids=["after it was learnt", "from the start"],
)
def test_a_steady_climb_far_past_the_start_is_ascent_whatever_the_gradient_does(
    rules: RuleSet, ascending: Callable[[int], float]
) -> None:
    def climbing(at: int) -> Readings:
        loss = ascending(at)
        return {"loss": loss, "grad_norm": (1.0 + loss) * (1.0 + 0.1 * noise(at)), "lr": 3e-3}

    assert first(rules, history(climbing)).name == "loss-sign"


def test_weights_that_multiply_after_a_slow_descent_are_no_wrong_sign(rules: RuleSet) -> None:
    def growing(at: int) -> Readings:
        grown = max(1.0, 1.25 ** (at - 50))
        return {"loss": (2.3 - 0.01 * min(at, 50)) * grown * (1.0 + 0.02 * noise(at)), "lr": 1e-3}

    assert first(rules, history(growing)).name == "unstable-dynamics"


def test_a_rate_above_the_usual_keeps_a_slow_climb_from_being_put_down_to_a_sign(
    rules: RuleSet,
) -> None:
    def climbing(at: int) -> Readings:
        return {"loss": falling(at) if at < 40 else falling(40) + 0.05 * (at - 40), "lr": 2e-3}

    assert first(rules, history(climbing)).name == NOT_ENOUGH


def test_an_evaluation_that_climbs_while_the_loss_falls_is_overfitting_and_no_wrong_sign(
    rules: RuleSet,
) -> None:
    def overfitting(at: int) -> Readings:
        climbing = 0.3 + 2.9 * math.exp(-at / 8.0) + 0.02 * max(0, at - 30)
        return {"train_loss": 3.2 * 0.97**at, "val_loss": climbing}

    assert first(rules, history(overfitting, 160)[20:]).name == NOT_ENOUGH


def test_a_settled_loss_that_a_log_rounds_to_two_digits_is_not_stuck(rules: RuleSet) -> None:
    cause = first(rules, history(lambda at: {"loss": round(3.2 * 0.8**at + 0.0008, 4), "lr": 1e-3}))

    assert cause.name == NOT_ENOUGH


def test_a_spike_that_passes_is_nothing_lost_at_a_resume(rules: RuleSet) -> None:
    def spiking(at: int) -> Readings:
        passing = 2.0 * 0.75 ** (at - 60) if at >= 60 else 0.0
        learnt = 3.3 + 6.6 * math.exp(-at / 10.0) + 0.01 * noise(at)
        return {"loss": learnt + passing, "lr": 3e-4}

    names = [cause.name for cause in diagnose(rules, history(spiking), [])]

    assert "lost-at-resume" not in names


def test_an_excerpt_from_late_in_a_training_does_not_show_that_nothing_is_trained(
    rules: RuleSet,
) -> None:
    def still(at: int) -> Readings:
        return {"loss": 2.86 + 0.02 * noise(at), "lr": 3e-4}

    early = history(still)
    late = [update._replace(step=update.step + 20_000) for update in early]

    assert first(rules, early).name == "nothing-trained"
    assert first(rules, late).name == NOT_ENOUGH


def test_inputs_of_another_scale_raise_the_loss_by_orders_of_magnitude(rules: RuleSet) -> None:
    cause = first(
        rules,
        history(
            lambda at: {
                "loss": falling(at) * (1.0 if at < 60 else 5e4),
                "learning_rate": 1e-3,
            }
        ),
    )

    assert cause.name == "input-scale"


def test_a_rate_that_leaps_is_the_cause_and_is_named_with_its_values(rules: RuleSet) -> None:
    def leaping(at: int) -> Readings:
        return {
            "loss": falling(at) if at < 60 else 9.0 + 2.0 * noise(at),
            "learning_rate": 1e-3 if at < 60 else 0.1,
        }

    cause = first(rules, history(leaping))

    assert cause.name == "learning-rate"
    assert "learning_rate rose from 0.001 to 0.1 at step 600" in cause.evidence


def test_warm_up_and_restarts_are_no_leap_of_the_rate(rules: RuleSet) -> None:
    def restarting(at: int) -> Readings:
        warm = min(1.0, at / 10)
        return {
            "loss": falling(at),
            "lr": 1e-3 * warm * 0.5 * (1.0 + math.cos(math.pi * (at % 25) / 25)),
        }

    assert first(rules, history(restarting)).name == NOT_ENOUGH


def test_weights_lost_at_a_resume_are_told_from_the_attempt_before(rules: RuleSet) -> None:
    before = history(lambda at: {"loss": falling(at), "lr": 1e-3})
    after = history(lambda at: {"loss": falling(at), "lr": 1e-3}, 20, attempt=2)

    cause = first(rules, [*before, *after])

    assert (cause.name, cause.kind) == ("lost-at-resume", "weights")


def test_a_schedule_that_begins_anew_at_a_resume_is_named_as_the_rate(rules: RuleSet) -> None:
    before = history(lambda at: {"loss": falling(at), "lr": 1e-3 * (1 - at / 110)})
    after = history(lambda at: {"loss": 1.5 + 0.1 * noise(at), "lr": 1e-3}, 20, attempt=2)

    cause = first(rules, [*before, *after])

    assert (cause.name, cause.kind) == ("lost-at-resume", "rate")
    assert any(text.startswith("lr was 9.09e-05 when attempt 1 ended") for text in cause.evidence)


def test_a_run_resumed_and_well_has_no_cause(rules: RuleSet) -> None:
    before = history(lambda at: {"loss": falling(at), "lr": 1e-3})
    after = history(lambda at: {"loss": falling(at + 100), "lr": 1e-3}, 60, attempt=2)

    assert first(rules, [*before, *after]).name == NOT_ENOUGH


def test_growth_by_a_factor_is_told_from_growth_by_an_amount(rules: RuleSet) -> None:
    def multiplying(at: int) -> Readings:
        return {"loss": falling(at) if at < 40 else falling(40) * 1.15 ** (at - 40), "lr": 1e-3}

    def adding(at: int) -> Readings:
        return {"loss": falling(at) if at < 40 else falling(40) + 0.3 * (at - 40), "lr": 1e-3}

    assert first(rules, history(multiplying)).name == "unstable-dynamics"
    assert first(rules, history(adding)).name == "loss-sign"


def test_a_loss_of_zero_for_good_after_a_leap_hides_a_nan(rules: RuleSet) -> None:
    def hidden(at: int) -> Readings:
        return {"loss": falling(at) if at < 60 else 14.0 if at < 62 else 0.0, "learning_rate": 1e-5}

    assert first(rules, history(hidden)).name == "hidden-nan"


def test_a_scale_that_only_falls_is_overflow_and_not_training(rules: RuleSet) -> None:
    def overflowing(at: int) -> Readings:
        return {
            "loss": 3.2 + 0.1 * noise(at),
            "loss_scale": 65536.0 / 2.0 ** min(at, 16),
            "grad_norm": math.inf,
        }

    assert first(rules, history(overflowing, 40)).name == "loss-scale-overflow"


def test_a_throughput_that_halves_is_a_slowdown(rules: RuleSet) -> None:
    def slower(at: int) -> Readings:
        speed = (2e4 if at < 60 else 4e3) * (1.0 + 0.03 * noise(at))
        return {"loss": falling(at), "lr": 1e-3, "tokens_per_second": speed}

    assert first(rules, history(slower)).name == "slowdown"


def test_a_clock_that_runs_on_is_no_slowdown(rules: RuleSet) -> None:
    def clocked(at: int) -> Readings:
        return {
            "loss": falling(at),
            "lr": 1e-3,
            "time/time_elapsed": float(at if at < 60 else at**2),
        }

    assert first(rules, history(clocked)).name == NOT_ENOUGH


def agent(at: int, **changes: float) -> dict[str, float]:
    """An off-policy agent that learns, in CleanRL's names."""
    readings = {
        "charts/episodic_return": -20.0 + 35.0 * min(1.0, at / 60) + 2.0 * noise(at),
        "losses/qf_loss": 1.0 + 0.3 * noise(at),
        "losses/qf1_values": 8.0 * min(1.0, at / 60) + 0.1 * noise(at),
        "losses/actor_loss": -8.0 * min(1.0, at / 60) + 0.1 * noise(at),
    }
    return readings | {name.replace("_O_", "/"): value for name, value in changes.items()}


def test_an_agent_that_learns_has_no_cause(rules: RuleSet) -> None:
    assert first(rules, history(agent)).name == NOT_ENOUGH


def test_estimates_beyond_all_returns_since_the_start_are_the_discount(rules: RuleSet) -> None:
    def discount(at: int) -> Readings:
        return agent(
            at,
            **{
                "losses/qf_loss": 0.3 * 1.08**at,
                "losses/qf1_values": 2.0 * 1.06**at,
                "charts/episodic_return": -18.0 + 2.0 * noise(at),
            },
        )

    assert first(rules, history(discount)).name == "discount"


def test_a_content_critic_beside_a_reward_that_is_not_points_at_its_targets(
    rules: RuleSet,
) -> None:
    def never_copied(at: int) -> Readings:
        return agent(
            at,
            **{
                "losses/qf_loss": 0.02 + math.exp(-at / 8),
                "losses/qf1_values": 0.5 + 0.3 * noise(at),
                "losses/actor_loss": -0.5 + 0.3 * noise(at),
                "charts/episodic_return": -18.0 + 2.0 * noise(at),
            },
        )

    assert first(rules, history(never_copied)).name == "bootstrapping"


def test_rewards_a_million_times_larger_are_named_before_what_they_do(rules: RuleSet) -> None:
    def scaled(at: int) -> Readings:
        factor = 1.0 if at < 60 else 1e6
        healthy = agent(at)
        return {
            name: value * (factor**2 if name == "losses/qf_loss" else factor)
            for name, value in healthy.items()
        }

    assert first(rules, history(scaled)).name == "reward-scale"


def test_a_coefficient_that_grows_without_end_is_named(rules: RuleSet) -> None:
    def growing(at: int) -> Readings:
        return agent(
            at,
            **{
                "losses/alpha": 0.2 * 1.1**at,
                "losses/alpha_loss": 3.0,
                "charts/episodic_return": -18.0 + 2.0 * noise(at),
                "losses/qf_loss": 1.0 * 1.1**at,
            },
        )

    cause = first(rules, history(growing))

    assert (cause.name, cause.kind) == ("entropy-coefficient", "too-high")


def test_a_policy_that_one_step_makes_certain_has_stepped_too_far(rules: RuleSet) -> None:
    def certain(at: int) -> Readings:
        entropy = 0.67 * math.exp(-at / 60.0) if at < 50 else 1e-5
        loss = 0.05 * noise(at) if at < 52 else 0.0
        reward = 0.4 * at if at < 50 else 20.0 - 0.5 * (at - 50)
        return {"policy_loss": loss, "entropy": entropy, "average_reward": reward + noise(at)}

    assert first(rules, history(certain)).name == "learning-rate"


def test_no_reward_before_the_first_episode_has_ended_is_no_bad_input(rules: RuleSet) -> None:
    def late(at: int) -> Readings:
        readings = agent(at)
        if at < 12:
            readings["charts/episodic_return"] = NAN
        return readings

    assert first(rules, history(late)).name == NOT_ENOUGH


def test_not_enough_evidence_claims_nothing(rules: RuleSet) -> None:
    cause = first(rules, history(lambda at: {"loss": falling(at)}, 3))

    assert (cause.name, cause.confidence) == (NOT_ENOUGH, 0.0)


def test_confidences_are_shares_of_one_whole(rules: RuleSet) -> None:
    causes = diagnose(rules, history(lambda at: {"loss": falling(at) if at < 60 else NAN}), [])

    assert 0.0 < sum(cause.confidence for cause in causes) <= 1.001


def test_rewards_that_are_zero_after_the_policy_went_astray_are_not_the_cause(
    rules: RuleSet,
) -> None:
    def collapsing(at: int) -> Readings:
        astray = max(0, at - 60)
        return {
            "critic/score/mean": max(0.0, 0.6 - 0.03 * astray)
            if at > 60
            else 0.5 + 0.05 * noise(at),
            "actor/entropy": 0.35 * 1.12**astray,
            "actor/kl_loss": 0.001 * 1.3**astray,
            "actor/grad_norm": 0.3 * 1.2**astray * (1.0 + 0.1 * noise(at)),
            "actor/lr": 1e-6,
        }

    assert first(rules, history(collapsing)).name != "no-trade"


def test_rules_made_for_another_kind_of_training_do_not_hide_the_loss() -> None:
    updates = history(lambda at: {"train/loss": falling(at) if at < 60 else 0.0, "lr": 1e-3})

    assert first(load(["ppo", "generic"]), updates).name == "nothing-trained"


@pytest.mark.parametrize(
    ("name", "values", "event"),
    [
        # In the loss or in the gradient, and lost in readings or in words.
        ("train/loss", [2.0] * 20 + [900.0, 4e6, NAN], None),
        ("train/loss", [6.7, 2.8e5], {"kind": "failed", "error": "NaN loss during training"}),
        ("train/grad_norm", [3.1, 2.9, 41.5], {"kind": "failed", "error": "loss became NaN"}),
    ],
)
def test_what_leaps_right_before_the_numbers_are_lost_is_an_explosion(
    name: str, values: Sequence[float], event: Mapping[str, str] | None, rules: RuleSet
) -> None:
    def readings(at: int) -> Readings:
        return {"train/loss": 2.0, name: values[at - 1]}

    cause = first(rules, history(readings, len(values), event=event))

    assert cause.name == "learning-rate"
    assert "right before the numbers were lost" in " ".join(cause.evidence)


def test_an_explosion_comes_before_the_zero_that_hides_it(rules: RuleSet) -> None:
    losses, norms = [9e6, 6e10, 0.0, 0.0, 0.0], [8e4, NAN, NAN, NAN, NAN]
    updates = history(
        lambda at: {"train/loss": losses[at - 1], "train/grad_norm": norms[at - 1]}, len(losses)
    )

    assert first(rules, updates).name == "learning-rate"


def test_a_part_of_the_loss_that_is_switched_off_does_not_mean_that_nothing_is_trained(
    rules: RuleSet,
) -> None:
    cause = first(rules, history(lambda at: {"total_loss": falling(at), "l1_loss": 0.0}))

    assert cause.name == NOT_ENOUGH


def test_a_loss_of_zero_is_masked_labels_or_a_hidden_nan_where_no_gradient_is_logged(
    rules: RuleSet,
) -> None:
    updates = history(lambda at: {"loss": falling(at) if at < 60 else 0.0})
    shares = {cause.name: cause.confidence for cause in diagnose(rules, updates, [])}

    assert shares["nothing-trained"] > shares["hidden-nan"] > 0.15
    assert shares["nothing-trained"] < 0.8


def test_a_gradient_of_zero_says_that_a_loss_of_zero_hides_nothing(rules: RuleSet) -> None:
    updates = history(
        lambda at: (
            {"loss": falling(at), "grad_norm": 1.0} if at < 60 else {"loss": 0.0, "grad_norm": 0.0}
        )
    )
    causes = diagnose(rules, updates, [])

    assert (causes[0].name, causes[0].kind) == ("nothing-trained", "masked")
    assert all(cause.name != "hidden-nan" for cause in causes)


def told(rules: RuleSet, updates: Sequence[Update]) -> Cause:
    """The first cause, with the alerts that fire."""
    state, firings = State(rules), []
    for update in updates:
        state, transitions = step(rules, state, update)
        firings += [each for each in transitions if each.change == "firing"]
    return diagnose(rules, updates, firings)[0]


def test_an_entropy_that_is_held_while_weights_move_is_not_called_untrained(rules: RuleSet) -> None:
    # As a PPO on CartPole with an entropy coefficient of 5 logs it.
    updates = history(
        lambda at: {
            "entropy": 0.692 + 0.001 * noise(at),
            "mean_return": 24.0 + 5.0 * noise(7 * at),
            "loss": 12.0 + 3.0 * noise(3 * at),
            "guard/update_ratio": 0.005 + 0.001 * noise(at),
        },
        130,
    )
    cause = told(rules, updates)

    assert (cause.name, cause.kind) == ("entropy-coefficient", "too-high")


def test_a_discriminator_without_a_gradient_has_won_and_is_not_untrained(rules: RuleSet) -> None:
    updates = history(
        lambda at: {
            "loss_d": max(0.7 - 0.1 * at, 0.0),
            "loss_g": 1.5 + 0.05 * noise(at),
            "guard/zero_gradients": 1.0 if at > 7 else 0.0,
        }
    )

    assert told(rules, updates).name == "discriminator-won"


def test_gradients_that_were_kept_are_the_cause_of_a_loss_that_runs_away(rules: RuleSet) -> None:
    def readings(at: int) -> Readings:
        return {
            "train/loss": falling(at) if at < 40 else 1.2 * 1.1 ** (at - 40),
            "train/grad_norm": 0.1 * at,
            "guard/gradients_kept": 1.0,
        }

    assert first(rules, history(readings)).name == "gradients-not-cleared"


def test_a_loss_that_fell_and_then_grew_ever_faster_until_it_was_nan_is_not_climbed(
    rules: RuleSet,
) -> None:
    # As Marian's cost with a rate that is too high after the warm-up: 9.8, 2.95, 10.2, nan.
    def cost(at: int) -> float:
        learnt = 2.95 + 6.5 * math.exp(-at / 8.0)
        return NAN if at > 82 else learnt * (1.0 + 0.005 * noise(at)) * 1.04 ** max(at - 50, 0)

    causes = diagnose(rules, history(lambda at: {"cost": cost(at)}), [])

    assert causes[0].name == "unstable-dynamics"
    assert "loss-sign" not in {cause.name for cause in causes}


def test_a_loss_that_grows_by_equal_amounts_from_the_first_report_on_is_climbed(
    rules: RuleSet,
) -> None:
    def climbed(at: int) -> Readings:
        return {"loss": (2.3 + 0.05 * at) * (1.0 + 0.02 * noise(at)), "lr": 1e-4}

    assert first(rules, history(climbed)).name == "loss-sign"


@pytest.mark.parametrize("clipped", [87.3365, 27.631, 16.118095, 34.538776])
def test_a_loss_that_is_stuck_where_a_logarithm_is_clipped_has_diverged(
    clipped: float, rules: RuleSet
) -> None:
    # Caffe clips at FLT_MIN, PaddlePaddle at 1e-12, Keras at 1e-7, scikit-learn at 1e-15.
    def stuck(at: int) -> Readings:
        return {"loss": falling(at, 6.6, 5.0) if at < 40 else clipped, "lr": 0.01}

    cause = first(rules, history(stuck))

    assert cause.name == "learning-rate"
    assert "probability 0" in cause.evidence[0]


def test_a_loss_that_is_stuck_elsewhere_is_no_clipped_logarithm(rules: RuleSet) -> None:
    def stuck(at: int) -> Readings:
        return {"loss": falling(at, 6.6, 5.0) if at < 40 else 61.2173, "lr": 0.01}

    assert not any("probability 0" in each for each in first(rules, history(stuck)).evidence)


def test_a_loss_of_0_that_the_trainer_puts_in_place_of_a_nan_is_hidden(rules: RuleSet) -> None:
    # Of deepspeech.pytorch, `model.py`.
    words = {"kind": "log", "text": "WARNING: received a nan loss, setting loss value to 0"}
    rows = history(lambda at: {"loss": falling(at) if at < 60 else 0.0}, event=words)

    assert first(rules, rows).name == "hidden-nan"
    assert first(rules, rows[:-1]).name == "nothing-trained"


def test_an_error_rate_that_is_all_again_at_once_is_one_of_a_model_that_diverged(
    rules: RuleSet,
) -> None:
    # Of Tesseract's lstmtraining: 8 % of the characters were wrong, and then all are.
    def errors(at: int) -> Readings:
        return {"bcer_train": 8.0 + 50.0 * math.exp(-at / 8.0) if at < 60 else 100.0}

    cause = first(rules, history(errors))

    assert cause.name == "learning-rate"
    assert "bcer_train had been 8.03, and errs always now" in cause.evidence


def test_an_entropy_of_a_model_of_the_world_says_nothing_of_the_policy(rules: RuleSet) -> None:
    # DreamerV2: the return and the actor's entropy fall to nothing, the prior's stays.
    def dreamt(at: int) -> Readings:
        left = 1.0 if at < 60 else 0.8 ** (at - 60)
        return {
            "return": (3.0 + min(at, 30) / 10.0 + 0.2 * noise(at)) * left,
            "prior_ent": 1.9 + 0.05 * noise(at),
            "actor_ent": max(1.3 * left**2, 1e-4),
            "actor_loss": -0.01 + 0.004 * noise(at + 1),
            "critic_loss": 0.75 + 0.05 * noise(at + 2),
        }

    assert first(rules, history(dreamt)).name == "policy-collapse"


def test_a_value_function_collapses_only_where_one_is_known_of(rules: RuleSet) -> None:
    def grpo(at: int) -> Readings:
        far = max(at - 60, 0)
        return {
            "reward": (1.5 + 0.05 * noise(at)) * 0.8**far,
            "kl": 0.06 * 1.4**far,
            "grad_norm": 0.1 * (1.2 + 0.2 * noise(at)) * 1.3**far,
            "completion_length": 200.0,
        }

    causes = diagnose(rules, history(grpo), [])

    assert causes[0].name == "kl-penalty"
    assert "value-collapse" not in {cause.name for cause in causes}


def test_one_look_at_dead_gradients_is_enough_where_they_were_alive_before(
    rules: RuleSet,
) -> None:
    def dead(at: int) -> Readings:
        looked = {"guard/zero_gradients": 0.0 if at < 50 else 0.6} if at in (10, 40, 90) else {}
        return {"loss": falling(at, 1.6, 0.3) if at < 50 else 1.6 + 0.05 * noise(at), **looked}

    causes = diagnose(rules, history(dead), [])

    assert (causes[0].name, causes[0].kind) == ("nothing-trained", "detached")


def test_weights_that_the_guard_sees_move_are_trained_and_have_nothing_to_learn(
    rules: RuleSet,
) -> None:
    flat = {"train/loss": 2.303, "guard/update_ratio": 3e-3, "train/learning_rate": 1e-3}
    moving = history(lambda at: {**flat, "train/loss": 2.303 * (1 + 0.01 * noise(at))})
    still = history(lambda _: {**flat, "guard/update_ratio": 0.0})

    assert first(rules, moving).name == "data-fault"
    assert first(rules, still).name == "nothing-trained"


def test_a_loss_that_is_back_where_it_began_and_is_learnt_again_had_lost_its_weights(
    rules: RuleSet,
) -> None:
    def readings(at: int) -> Readings:
        return {"train/loss": falling(at if at < 60 else at - 59), "train/learning_rate": 1e-3}

    assert first(rules, history(readings, 78)).name == "corrupted-parameters"


def test_a_rate_that_was_scheduled_to_nothing_within_few_reports_is_why_nothing_is_learnt(
    rules: RuleSet,
) -> None:
    rates = [max(0.0, 0.01 * (1 - at / 14)) for at in range(101)]
    cause = first(
        rules,
        history(
            lambda at: {
                "train/loss": 2.3 * (1 + 0.01 * noise(at)),
                "train/learning_rate": rates[at],
            }
        ),
    )

    assert (cause.name, cause.kind) == ("nothing-trained", "rate-zero")
