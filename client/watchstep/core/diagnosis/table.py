"""What each sign says for or against each cause: the whole judgement, as one table.

A weight is in logits before calibration: 2 is strong, 4 nearly settles it, 0.5 leans. Each
cause starts at its prior, and the calibrated confidence is
`logistic(SLOPE * (prior + sum of weights) + OFFSET)`.
"""

from __future__ import annotations

from dataclasses import dataclass

SLOPE, OFFSET = 1.25, -0.6
"""Fitted to labelled runs by `benchmarks/diagnosis_calibration.py`, even seeds, and rounded."""


@dataclass(frozen=True, slots=True)
class Weight:
    """One sign's say about one cause.

    Attributes:
        logits: Positive speaks for the cause, negative against it.
        why: The reason, in a few words.
    """

    sign: str
    logits: float
    why: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One cause and everything that is weighed for it.

    Attributes:
        needs: At least one of these signs must be there; without, the cause is not named.
    """

    name: str
    title: str
    prior: float
    needs: tuple[str, ...]
    weights: tuple[Weight, ...]


def _entry(
    name: str, title: str, prior: float, needs: str, *weights: tuple[str, float, str]
) -> Entry:
    return Entry(name, title, prior, tuple(needs.split()), tuple(Weight(*each) for each in weights))


CAUSES: tuple[Entry, ...] = (
    _entry(
        "wrong-sample-normalisation",
        "Advantages are standardised with another sample's statistics",
        -3.0,
        "beyond_bound extreme_norm off_centre divisor_foreign divisor_one divisor_running"
        " divisor_previous divisor_just_below loss_below_clip loss_without_change",
        ("beyond_bound", 6.0, "no correct code can do this, for any data"),
        ("extreme_norm", 5.0, "needs more than 10,001 values otherwise"),
        ("loss_below_clip", 4.0, "impossible for advantages of zero mean and unit deviation"),
        ("loss_without_change", 2.5, "only a mean that was kept gives a loss without a change"),
        ("below_resolution", -2.5, "rounding gives a mean as well"),
        ("off_centre", 5.0, "a batch's own mean leaves zero, up to rounding"),
        ("mean_kept", 1.5, "the very mean is still in there"),
        ("divisor_foreign", 2.5, "a batch's own deviation leaves a scale of 1"),
        ("divisor_just_below", 2.0, "so does its own, but for an epsilon, which raises it"),
        ("divisor_previous", 3.0, "the deviation of other data, recognised"),
        ("divisor_running", 3.0, "the deviation of other data, recognised"),
        ("divisor_one", 2.5, "no deviation was divided by at all"),
        ("divisor_whole_rollout", -7.0, "more data than the batch, on purpose"),
        ("within_bound", -1.0, "the proof is absent, the fault may still be there"),
        ("centred", -1.0, "the mean is the batch's own"),
        ("divisor_own", -2.0, "the deviation is the batch's own"),
        ("divisor_near", -0.5, "the deviation may be the batch's own"),
    ),
    _entry(
        "noise-below-resolution",
        "The advantages are rounding noise, amplified to unit scale",
        -3.0,
        "below_resolution",
        ("below_resolution", 3.0, "the deviation is within rounding of the mean"),
        ("below_resolution_often", 3.0, "and not by chance once"),
        ("loss_without_change", 0.5, "all actions are pushed one way"),
        ("noise_amplified", 3.0, "it came out at unit scale"),
        ("beyond_bound", -1.0, "another fault explains large values better"),
        ("reward_varies", -1.5, "rewards that vary give advantages a signal"),
    ),
    _entry(
        "deterministic-environment",
        "The reward does not vary: nothing to learn from",
        -3.0,
        "reward_still",
        ("reward_still", 3.5, "every episode pays the same"),
        ("critic_knows_all", 1.5, "constant returns are learned completely"),
        ("spread_in_window", 1.0, "no differences are left between actions"),
        ("spread_faded", 0.5, "the differences fade as the critic learns"),
        ("reward_at_best", -2.0, "the reward got there by learning"),
        ("entropy_gone", -0.5, "it may be the policy that is constant"),
    ),
    _entry(
        "no-trade",
        "All rewards are zero",
        -3.0,
        "reward_zero reward_slides_to_zero",
        ("reward_zero", 4.5, "exactly zero is no coincidence"),
        ("reward_turned_zero", 0.5, "it is not the game's nature"),
        ("nonfinite", -3.0, "numbers that are lost earn nothing either"),
        ("reward_slides_to_zero", 1.5, "newer episodes pay less than older ones, or nothing"),
        ("loss_faded", 2.0, "returns without any size are soon predicted"),
        ("spike", -1.5, "zero rewards explode nothing"),
        ("critic_knows_all", 0.5, "zero returns are learned completely"),
    ),
    _entry(
        "near-optimal-low-entropy",
        "The policy is near its optimum and has stopped exploring",
        -4.0,
        "entropy_gone entropy_low",
        ("entropy_gone", 2.0, "actions have become predictable"),
        ("entropy_low", 1.0, "actions become predictable"),
        ("reward_at_best", 2.0, "and that is because they are good"),
        ("reward_still", 1.5, "a plateau"),
        ("spread_faded", 1.5, "no action matters any more"),
        ("spread_in_window", 1.0, "no action matters any more"),
        ("critic_explains", 0.5, "the critic is in order"),
        ("reward_fell", -3.0, "then it is a collapse"),
        ("spike", -1.0, "then it is damage"),
        ("kl_high", -1.5, "then it is damage"),
        ("nonfinite", -1.0, "then it is damage"),
    ),
    _entry(
        "regime-change",
        "The environment has changed its regime",
        -3.0,
        "spread_shifted jump_stays",
        ("spread_shifted", 2.0, "the advantages changed size within one update"),
        ("loss_jumped_along", 1.5, "the critic was surprised as well"),
        ("jump_stays", 1.0, "and it stayed so"),
        ("jump_was_brief", -0.5, "over soon"),
        ("spread_leapt", -1.0, "a leap this large is more often a broken scale"),
        ("reward_fell", 0.5, "the policy fits the new regime less"),
        ("kl_often_high", -2.0, "the policy itself moved too far"),
        ("rate_high", -2.0, "the learning rate explains it"),
        ("rate_leapt", -2.0, "the learning rate explains it"),
        ("nonfinite", -1.5, "regimes yield no NaN"),
        ("beyond_bound", -1.0, "a fault in standardising explains it"),
    ),
    _entry(
        "learning-rate",
        "The learning rate is too high",
        -3.0,
        "rate_high rate_leapt kl_often_high clipped deviation_ran_away",
        ("rate_high", 3.0, "far above the usual"),
        ("rate_leapt", 3.0, "it was raised during the run"),
        ("kl_high", 1.0, "the policy moves too far an update"),
        ("kl_often_high", 1.5, "again and again"),
        ("kl_high_from_start", 0.5, "from the first steps on"),
        ("clipped", 0.5, "most samples are clipped"),
        ("deviation_ran_away", 1.5, "log_std ran away"),
        ("kl_low", -3.0, "the policy hardly moves"),
        ("rate_ordinary", -1.5, "the rate itself is ordinary"),
        ("beyond_bound", -1.5, "standardising explains the large steps"),
        ("spread_leapt", -1.0, "the rewards explain the large steps"),
        ("calm", -2.0, "nothing was out of the ordinary"),
    ),
    _entry(
        "reward-scale",
        "Rewards or values are out of scale",
        -3.0,
        "value_loss_jump spread_leapt reward_leapt",
        ("spread_leapt", 3.0, "advantages became 30 times larger at once"),
        ("value_loss_jump", 1.5, "the value loss became 10 times larger at once"),
        ("reward_leapt", 1.5, "the rewards themselves are larger"),
        ("reward_steady", -1.5, "the rewards themselves are as before"),
        ("loss_jumped_along", 1.0, "with the square of the scale"),
        ("rate_high", -2.0, "the learning rate explains it"),
        ("rate_leapt", -2.0, "the learning rate explains it"),
        ("kl_often_high", -1.0, "the policy explains it"),
        ("beyond_bound", -0.5, "standardising explains it"),
    ),
    _entry(
        "nonfinite-input",
        "An observation or a reward was not finite",
        -3.0,
        "reward_nonfinite rollout_nonfinite died_of_nan nonfinite",
        ("reward_nonfinite", 4.5, "the reward itself says so"),
        ("rollout_nonfinite", 4.0, "it came with the rollout"),
        ("some_rows_nan", 3.5, "only some environments are affected"),
        ("all_rows_nan", -2.0, "every environment at once: rather the parameters"),
        ("calm", 0.5, "it came out of nothing"),
        ("died_of_nan", 1.5, "the model met NaN"),
        ("parameters_nonfinite", -1.0, "the parameters may be the source"),
        ("rollout_finite", -2.0, "the rollout was in order"),
        ("spike", -1.0, "an explosion explains it"),
        ("kl_high", -1.5, "an explosion explains it"),
        ("rate_high", -2.0, "the learning rate explains it"),
        ("beyond_bound", -1.5, "standardising explains it"),
    ),
    _entry(
        "corrupted-parameters",
        "Parameters or optimizer state are corrupted",
        -3.0,
        "parameters_nonfinite said_corrupted died_of_nan nonfinite all_rows_nan",
        ("parameters_nonfinite", 3.0, "they were seen to be non-finite"),
        ("said_corrupted", 3.5, "the trainer says so"),
        ("all_rows_nan", 2.0, "every environment at once"),
        ("some_rows_nan", -3.5, "sound parameters: other rows are finite"),
        ("died_of_nan", 1.0, "the model met NaN"),
        ("calm", 0.5, "it came out of nothing"),
        ("gradient_nonfinite", -0.5, "the gradient may have brought it"),
        ("rollout_nonfinite", -0.5, "the rollout may have brought it"),
        ("reward_nonfinite", -2.0, "the reward explains it"),
        ("spike", -1.5, "an explosion explains it"),
        ("kl_high", -1.5, "an explosion explains it"),
        ("rate_high", -1.5, "the learning rate explains it"),
        ("beyond_bound", -1.5, "standardising explains it"),
    ),
    _entry(
        "value-collapse",
        "The value function has collapsed",
        -3.0,
        "critic_misleads critic_blind critic_dull loss_stays_high gradient_stays_high",
        ("critic_misleads", 2.0, "its predictions are worse than the mean"),
        ("critic_blind", 3.0, "it explains nothing, and does not learn"),
        ("value_loss_jump", 0.5, "its loss exploded"),
        ("loss_stays_high", 1.5, "its loss does not come down again"),
        ("gradient_stays_high", 2.5, "its gradient does not come down again"),
        ("critic_dull", 2.5, "it explains next to nothing"),
        ("reward_steady", 1.0, "while the rewards are as before"),
        ("reward_leapt", -1.5, "the rewards explain it"),
        ("jump_stays", -1.0, "the advantages have grown as well"),
        ("reward_zero", -2.0, "there is nothing to predict"),
        ("reward_still", -2.0, "constant returns leave nothing to explain"),
        ("critic_knows_all", -2.0, "constant returns leave nothing to explain"),
        ("spread_in_window", -1.0, "constant returns leave nothing to explain"),
        ("beyond_bound", -1.0, "a fault in standardising came first"),
        ("kl_often_high", -0.5, "the policy moved too far first"),
    ),
    _entry(
        "frozen-after-spike",
        "The optimizer is frozen: its second moment holds a spike",
        -3.0,
        "frozen",
        ("frozen", 4.0, "a policy that moved has stopped dead"),
        ("spike", 1.5, "after a spike"),
        ("gradient_stays_high", -3.0, "clipping, not Adam, leaves the policy nothing"),
        ("loss_stays_high", -1.5, "clipping, not Adam, leaves the policy nothing"),
        ("reward_zero", -1.5, "zero rewards still the policy, too"),
        ("critic_knows_all", -1.5, "there may be nothing left to learn"),
        ("entropy_gone", -1.0, "a deterministic policy moves no more"),
    ),
    _entry(
        "hidden-nan",
        "The log hides NaN",
        -3.0,
        "loss_hidden loss_vanished",
        ("loss_hidden", 5.0, "no loss is exactly 0 beside a gradient of NaN"),
        ("loss_vanished", 4.0, "Megatron drops the loss of a NaN iteration"),
    ),
    _entry(
        "silent-death",
        "The trainer died or hung without a sign in its readings",
        -3.0,
        "went_silent failed",
        ("went_silent", 3.5, "killed, hung, or cut off"),
        ("failed", 0.5, "an exception ended it"),
        ("died_of_else", 3.0, "an exception that is not about numbers"),
        ("calm", 1.0, "nothing announced it"),
        ("all_finite", 0.5, "nothing was non-finite"),
        ("died_of_nan", -3.0, "then it was the numbers"),
        ("died_of_scale", -4.0, "then it was the numbers"),
        ("nonfinite", -3.0, "then it was the numbers"),
        ("parameters_nonfinite", -3.0, "then it was the numbers"),
        ("spike", -1.0, "an explosion announced it"),
    ),
    _entry(
        "policy-collapse",
        "The policy has collapsed to a bad habit",
        -3.0,
        "entropy_gone entropy_low reward_fell",
        ("entropy_gone", 1.5, "only one action is left"),
        ("entropy_low", 0.5, "few actions are left"),
        ("reward_fell", 2.5, "and the reward fell"),
        ("reward_at_best", -3.0, "a good habit then"),
        ("entropy_left", -1.0, "the policy still explores"),
        ("reward_zero", -1.0, "zero rewards explain the fall"),
    ),
    _entry(
        "loss-scale-overflow",
        "Gradients overflowed under an fp16 loss scale",
        -3.0,
        "scale_fell gradient_isolated gradient_only died_of_scale",
        ("died_of_scale", 5.0, "the scaler gave up, as it does after overflow upon overflow"),
        ("scale_fell", 3.5, "the scaler has seen the overflow"),
        ("gradient_isolated", 3.5, "single steps, then all is well again"),
        ("gradient_only", 3.0, "the backward pass alone overflowed"),
        ("loss_scaled", 2.0, "a scaler tries scales until they overflow"),
        ("nonfinite", -2.0, "the losses themselves are non-finite"),
        ("rollout_nonfinite", -2.0, "the batch brought it"),
    ),
)
"""Every cause that can be named, in the order that breaks ties."""

KINDS: tuple[Entry, ...] = (
    _entry(
        "stale-or-running",
        "a stale or running deviation",
        -1.0,
        "divisor_previous divisor_running",
        ("divisor_previous", 3.5, "the last rollout's"),
        ("divisor_running", 3.0, "a running estimate"),
    ),
    _entry(
        "not-centred",
        "the mean was not subtracted",
        -1.0,
        "mean_kept",
        ("mean_kept", 2.5, "it is still there"),
        ("divisor_own", 2.0, "while the deviation is right"),
        ("divisor_foreign", -2.0, "the deviation is wrong, too"),
        ("divisor_one", -2.0, "nor was anything divided"),
    ),
    _entry(
        "not-divided",
        "nothing was divided, as with missing brackets",
        -1.0,
        "divisor_one",
        ("divisor_one", 5.0, "the divisor is 1"),
    ),
    _entry(
        "subset",
        "another worker's or only some steps' statistics",
        -1.5,
        "divisor_low off_centre divisor_foreign",
        ("divisor_low", 1.5, "a quieter sample's"),
        ("off_centre", 3.0, "and another mean"),
        ("divisor_foreign", 0.5, "far off"),
        ("mean_kept", -0.5, "no centring may explain it"),
        ("divisor_own", -3.0, "the deviation is right"),
        ("divisor_one", -3.0, "nothing was divided"),
        ("divisor_previous", -3.0, "the last rollout's"),
        ("divisor_running", -3.0, "a running estimate"),
        ("divisor_just_below", -1.0, "not far off"),
    ),
    _entry(
        "leave-one-out",
        "each value was left out of its own statistics",
        -1.5,
        "divisor_just_below",
        ("divisor_just_below", 3.5, "leaving a value out makes the others' deviation smaller"),
        ("beyond_bound", 0.5, "one value beyond the bound"),
        ("divisor_low", -2.0, "most of the time instead"),
        ("off_centre", -3.0, "leaving one out hardly moves the mean"),
        ("divisor_previous", -3.0, "the last rollout's"),
        ("divisor_running", -3.0, "a running estimate"),
    ),
)
"""Kinds of wrong-sample normalisation."""
