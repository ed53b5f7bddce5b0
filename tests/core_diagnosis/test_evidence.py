"""Evidence says what the log shows, and what came of the damage is not taken for its cause."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pytest

from watchstep.core.diagnosis import NOT_ENOUGH, Cause, diagnose
from watchstep.core.diagnosis import signs as signs_of
from watchstep.core.updates import Update
from watchstep.rules import load

NAN = math.nan
Columns = Mapping[str, Sequence[float | None]]


def wobble(at: int) -> float:
    """Between -1 and 1, without a random source."""
    return math.sin(12.9898 * at) * math.cos(4.1414 * at * at)


def run_of(
    columns: Columns, *, attempt: int = 1, first_step: int = 0, words: Sequence[str] = ()
) -> list[Update]:
    """One update a row, ten steps apart; None is a metric that was not reported."""
    updates = [
        Update(
            (attempt - 1) * 1000 + at + 1,
            first_step + 10 * at,
            float(at),
            {name: value for name, value in zip(columns, row, strict=True) if value is not None},
            None,
            attempt,
        )
        for at, row in enumerate(zip(*columns.values(), strict=True))
    ]
    last = updates[-1]
    return updates + [
        Update(last.seq + at, last.step, 0.0, {}, {"kind": "failed", "error": text}, attempt)
        for at, text in enumerate(words, 1)
    ]


def signs(updates: Sequence[Update], packs: Sequence[str] = ("generic",)) -> Mapping[str, str]:
    return signs_of(load(packs), updates, [])


def causes(updates: Sequence[Update], packs: Sequence[str] = ("generic",)) -> Sequence[Cause]:
    return diagnose(load(packs), updates, [])


def test_an_entropy_that_rose_has_not_stayed_where_it_was() -> None:
    entropy = [0.6 + 0.02 * wobble(at) for at in range(40)] + [6.0 + wobble(at) for at in range(40)]
    seen = signs(
        run_of({"reward": [0.5 + 0.1 * wobble(at) for at in range(80)], "entropy": entropy})
    )

    assert "entropy_at_top" not in seen
    assert "entropy_ran_away" in seen


def test_an_evaluation_is_told_with_the_steps_at_which_it_was_made() -> None:
    loss = [3.0 - 0.05 * at for at in range(30)] + [11.0] * 20
    evaluation: list[float | None] = [None] * 50
    evaluation[2], evaluation[22], evaluation[44] = 2.9, 2.1, 11.2

    text = signs(run_of({"train/loss": loss, "val_loss": evaluation}))["eval_leapt"]

    assert text == "val_loss was 2.1 at step 220, before it, and 11.2 at step 440, the next time"


def test_how_far_a_loss_went_is_not_said_of_its_first_report_alone() -> None:
    loss = [0.2 + 0.01 * wobble(at) for at in range(30)] + [1.5, 90.0, 4e3, 7e3, 9e3, 9e3]

    text = signs(run_of({"train/loss": loss}))["loss_leapt_far"]

    assert text.endswith("rose to 4000, 2e+04 times its level of 0.1998, from step 300 on")


def test_a_reward_that_falls_at_the_end_has_not_kept_its_size() -> None:
    paid = [210.0 + wobble(at) for at in range(14)] + [120.0, -60.0]
    kept = [210.0 + wobble(at) for at in range(16)]

    falls = signs(run_of({"rollout/ep_rew_mean": paid, "train/value_loss": [1.0] * 16}))
    stays = signs(run_of({"rollout/ep_rew_mean": kept, "train/value_loss": [1.0] * 16}))

    assert "reward_steady" not in falls
    assert "reward_steady" in stays


def test_a_loss_that_went_on_after_a_resume_and_then_leapt_was_not_lost_at_it() -> None:
    before = run_of({"loss": [6.0 - 0.08 * at for at in range(50)]})
    leaps = run_of({"loss": [2.0, 900.0, 800.0, *[700.0] * 20]}, attempt=2, first_step=500)
    lost = run_of({"loss": [5.9, 5.8, 5.8, *[5.7] * 20]}, attempt=2, first_step=500)

    kept, gone = signs([*before, *leaps]), signs([*before, *lost])

    assert "loss_lost_at_resume" not in kept
    assert "loss_rose_from_start" in kept
    assert "when attempt 2 began" in gone["loss_lost_at_resume"]


def test_what_rewards_do_after_the_numbers_were_lost_is_no_cause() -> None:
    loss = [0.3 + 0.02 * wobble(at) for at in range(60)] + [NAN] * 30
    paid = [80.0 + 9.0 * wobble(at) for at in range(60)] + [3.5] * 30

    seen = signs(run_of({"train/value_loss": loss, "rollout/ep_rew_mean": paid}))

    assert not seen.keys() & {"reward_still", "reward_fell"}


@pytest.mark.parametrize(
    ("words", "title"),
    [
        (["torch.OutOfMemoryError: CUDA out of memory.", "exitcode: 1"], "A GPU ran out of memory"),
        (["Signal 9 (SIGKILL) received by PID 77"], "The process was killed"),
        (
            ["[Rank 1] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=9)"],
            "A collective operation timed out",
        ),
    ],
)
def test_what_ended_a_run_from_outside_comes_first_whatever_the_rate_did(
    words: Sequence[str], title: str
) -> None:
    loss = [5.0 - 0.05 * at + 0.05 * wobble(at) for at in range(40)]
    rate = [1e-3] * 20 + [4e-3] * 20

    first = causes(run_of({"train/loss": loss, "train/learning_rate": rate}, words=words))[0]

    assert (first.name, first.title.startswith(title)) == ("silent-death", True)


def test_a_warm_up_that_steps_once_an_epoch_is_no_leap() -> None:
    steps = [1e-6] * 8 + [8e-5] * 8 + [1.6e-4] * 8 + [2.4e-4] * 8
    leap = [1e-4] * 16 + [2e-3] * 16
    loss = [5.0 - 0.05 * at for at in range(32)]

    warmed = signs(run_of({"train/loss": loss, "train/learning_rate": steps}))
    leapt = signs(run_of({"train/loss": loss, "train/learning_rate": leap}))

    assert "rate_leapt" not in warmed
    assert "rate_leapt" in leapt


def test_a_leap_back_to_chance_alone_does_not_accuse_the_data() -> None:
    loss = [5.3 * math.exp(-at / 30) + 1.2 for at in range(90)] + [7.5] + [6.5] * 60
    sound = [2.0 - 0.001 * at for at in range(len(loss))]

    alone = causes(run_of({"train/loss": loss}))
    beside = causes(run_of({"train/loss": loss, "val_loss": sound}))

    assert alone[0].name == NOT_ENOUGH
    assert beside[0].name == "data-fault"


def test_a_loss_that_repeats_to_the_last_digit_after_a_leap_is_not_of_its_data() -> None:
    def after(height: float, noise: float) -> Mapping[str, str]:
        loss = [4.6 - 0.01 * at for at in range(60)] + [
            height + noise * wobble(at) for at in range(60)
        ]
        return signs(run_of({"train/loss": loss}))

    assert "leap_stays" not in after(69.25, 0.0)
    assert "loss_stuck" not in after(69.25, 0.0)
    assert "leap_stays" in after(69.25, 3.0)


def test_actions_that_became_random_once_the_critic_was_hit_are_not_of_a_coefficient() -> None:
    calm, after = 20, 6
    columns = {
        "train/value_loss": [0.6 + 0.02 * wobble(at) for at in range(calm)] + [5e3] * after,
        "train/std": [0.5] * calm + [0.5, 2.0, 4.0, 8.0, 9.0, 9.0],
        "train/approx_kl": [0.01] * (calm + after),
    }

    hit = signs(run_of(columns), ("ppo", "generic"))
    unhit = signs(run_of({**columns, "train/value_loss": [0.6] * 26}), ("ppo", "generic"))

    assert "action_spread_grew" not in hit
    assert "action_spread_grew" in unhit


def test_a_policy_that_leaves_its_reference_at_once_has_left_it() -> None:
    kl = [0.05 + 0.001 * at for at in range(60)] + [0.1 * 2.0**at for at in range(12)]
    loss = [0.002 + 0.04 * value for value in kl]
    seen = signs(run_of({"loss": loss, "kl": kl, "reward": [1.0] * 72}), ("grpo", "generic"))

    assert "reference_kl_ran_away" in seen
    assert "policy_loss_leapt" not in seen


def test_an_accuracy_that_began_far_above_its_guess_is_not_held_against_it() -> None:
    # The loss of a thousand classes begins at 6.9, where one in a thousand is guessed.
    loss = [6.5 - 0.1 * at for at in range(40)] + [6.9] * 20
    accuracy = [4.0 + at for at in range(40)] + [0.1] * 20

    assert "worse_than_chance" not in signs(run_of({"train/loss": loss, "acc1": accuracy}))


def test_a_loss_that_ran_away_over_three_reports_leapt_before_it_was_lost() -> None:
    loss = [1.5 - 0.005 * at for at in range(40)] + [2.9, 8.0, 44.0]

    seen = signs(run_of({"train/loss": loss}, words=["FloatingPointError: the loss is NaN"]))

    assert "to 44 at step 420" in seen["leapt_before_lost"]


def test_a_warm_up_that_ended_did_not_grow_on() -> None:
    warmed = [2e-4 * at for at in range(1, 41)] + [8e-3] * 12
    grows = [2e-4 * at for at in range(1, 53)]
    loss = [5.0 - 0.05 * at for at in range(52)]

    ended = signs(run_of({"train/loss": loss, "train/learning_rate": warmed}))
    on = signs(run_of({"train/loss": loss, "train/learning_rate": grows}))

    assert "rate_grew" not in ended
    assert "rate_grew" in on


def test_how_far_reports_lie_apart_takes_from_what_came_suddenly() -> None:
    rules = load(["generic", "pretrain"])
    losses = [3.0 - 0.05 * at + 0.01 * wobble(at) for at in range(40)] + [NAN] * 10
    near = [update._replace(step=update.seq) for update in run_of({"train/loss": losses})]
    far = [update._replace(step=50 * update.seq) for update in near]

    sure, less_sure = (diagnose(rules, updates, [])[0] for updates in (near, far))

    assert sure.name == "nonfinite-input"
    assert less_sure.confidence < sure.confidence - 0.1


FALLS_FAST = [0.69 + 0.24 * 0.9**at + 0.002 * wobble(at) for at in range(250)]
BY_HEART = [2.3 * 0.98**at + 0.01 * wobble(at) for at in range(250)]


def sparse(values: Sequence[float]) -> list[float | None]:
    return [value if at % 20 == 0 else None for at, value in enumerate(values)]


@pytest.mark.parametrize(
    ("columns", "sign", "cause"),
    [
        pytest.param({"train/loss": FALLS_FAST}, "loss_fell", NOT_ENOUGH, id="fell at first"),
        pytest.param(
            {
                "train/loss": BY_HEART,
                "val/loss": sparse([2.3 + 0.01 * at for at in range(250)]),
                "val/accuracy": sparse([0.1 + 0.01 * wobble(at) for at in range(250)]),
            },
            "eval_never_gained",
            NOT_ENOUGH,
            id="learnt by heart alone",
        ),
        pytest.param(
            {
                "train/loss": BY_HEART,
                "val/loss": sparse([2.3 + 0.01 * at for at in range(250)]),
                "val/accuracy": sparse([0.1 + 0.001 * at for at in range(250)]),
            },
            "loss_fell",
            NOT_ENOUGH,
            id="few data learnt by heart",
        ),
        pytest.param(
            {
                "train/loss": [2.3 + 0.12 * wobble(at) for at in range(250)],
                "val/loss": sparse([2.32 + 0.05 * wobble(at) for at in range(250)]),
            },
            "eval_moves",
            NOT_ENOUGH,
            id="moves and learns nothing",
        ),
        pytest.param(
            {"train/loss": [5e5 * 0.5**at + 1.0 + 0.01 * wobble(at) for at in range(250)]},
            "loss_began_huge",
            "input-scale",
            id="began far off",
        ),
    ],
)
def test_what_a_loss_did_since_its_start_tells_wrong_data_from_nothing_trained(
    columns: Columns, sign: str, cause: str
) -> None:
    updates = run_of(columns)

    seen = signs(updates, ("generic", "pretrain"))

    assert sign in seen
    assert "loss_never_fell" not in seen or sign == "eval_moves"
    ranked = [each.name for each in causes(updates, ("generic", "pretrain"))]
    assert ranked[0] == cause
    assert ("data-fault" in ranked) == sign.startswith("eval")


def test_a_loss_in_an_excerpt_is_not_said_to_have_begun_there() -> None:
    fell = run_of({"train/loss": [-10.0 - 3.0 * at for at in range(120)]}, first_step=90_000)

    assert signs(fell)["loss_far_below_zero"].startswith("train/loss was -10 and fell on")


@pytest.mark.parametrize(
    ("error", "reward", "named"),
    [(1e14, 0.5, True), (1e14, 2e6, True), (1e14, 1e4, False), (1e6, 500.0, False)],
)
def test_a_critic_that_errs_by_millions_from_its_first_report_tells_of_the_rewards_scale(
    error: float, reward: float, named: bool
) -> None:
    columns = {
        "train/policy_loss": [0.01 * wobble(at) for at in range(60)],
        "train/value_loss": [error * (1.0 + 0.1 * wobble(at)) for at in range(60)],
        "rollout/ep_rew_mean": [reward * (1.0 + 0.1 * wobble(at + 7)) for at in range(60)],
    }

    ranked = causes(run_of(columns), ("generic", "ppo"))

    assert (ranked[0].name == "reward-scale") == named
