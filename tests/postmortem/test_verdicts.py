"""What is said of a run, from its log alone."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest

from postmortem.kit_postmortem import HEALTHY, LOGS, died_of, examined, healthy_rows, run_of

VERDICTS = {
    "made_ok_regime_s0/progress.csv": ("healthy", None),
    "made_bad_norm_stale_opens_s0/progress.csv": ("healthy", None),
    "made_bad_rew1e20_pendulum/progress.csv": ("diverged", 41),
    "made_bad_lr03_jump_pendulum/progress.csv": ("exploded", 41),
    "made_prev_regime_noclip/updates.jsonl": ("exploded", 24),
    "bloom104b_exp12/log.txt": ("diverged", 8741),
    "bloom176b_spike/log.txt": ("suspicious", 31219),
    "iss_megatron_missing_loss/log.txt": ("diverged", 3385),
    "iss_openr1_239/log.jsonl": ("unjudged", None),
    "iss_rslrl96/log.txt": ("diverged", 17),
    "iss_sb3_1593/log.txt": ("diverged", 200),
    "iss_timemoe31/log.txt": ("diverged", 1),
    "iss_timemoe71/log.txt": ("suspicious", 1),
    "noeps_constreward/progress.csv": ("healthy", None),
}


@pytest.mark.parametrize("name", VERDICTS)
def test_a_real_log_gets_the_verdict_that_its_evidence_allows(name: str) -> None:
    verdict, first_bad = VERDICTS[name]

    examination = examined(LOGS / name)

    assert (examination.verdict, examination.first_bad_update) == (verdict, first_bad)


@pytest.mark.parametrize(
    "name",
    [name for name, (verdict, _) in VERDICTS.items() if verdict in {"healthy", "suspicious"}],
)
def test_nothing_halts_a_run_that_was_well_or_recovered(name: str) -> None:
    examination = examined(LOGS / name)

    assert examination.halt_update is None
    assert all(alert.severity != "critical" for alert in examination.alerts)


def test_a_log_that_breaks_off_is_healthy_only_as_far_as_it_goes() -> None:
    examination = examined(LOGS / "noeps_constreward" / "progress.csv")

    assert examination.verdict == "healthy"
    assert any("without saying that the run finished" in note for note in examination.not_checked)


def test_what_was_not_logged_is_said() -> None:
    examination = examined(LOGS / "made_bad_rew1e20_pendulum" / "progress.csv")

    assert "train/advantages_count was not logged" in examination.not_checked


def test_a_traceback_after_healthy_updates_is_a_death(tmp_path: Path) -> None:
    log = died_of("KeyError: 'reward'", tmp_path)

    examination = examined(log)

    assert examination.verdict == "died"
    assert examination.failure is not None
    assert "KeyError" in examination.failure


def test_a_traceback_that_names_nan_is_a_divergence(tmp_path: Path) -> None:
    log = died_of("ValueError: found nan in logits", tmp_path)

    assert examined(log).verdict == "diverged"


def test_a_nan_that_lasts_is_divergence_one_that_passes_is_suspicious_and_a_leap_an_explosion(
    tmp_path: Path,
) -> None:
    bad = {**HEALTHY, "train/value_loss": "NaN"}
    lost = [*healthy_rows(30), bad, *healthy_rows(20), *[bad] * 3]
    passing = [*healthy_rows(30), bad, *healthy_rows(20)]
    huge = [*healthy_rows(30), {**HEALTHY, "train/value_loss": 1e9}, *healthy_rows(20)]

    assert examined(run_of(tmp_path / "a" / "lost.jsonl", lost)).verdict == "diverged"
    once = examined(run_of(tmp_path / "c" / "passing.jsonl", passing))
    assert once.verdict == "suspicious"
    assert "value_loss = nan) and is finite again" in once.verdict_because
    assert examined(run_of(tmp_path / "b" / "huge.jsonl", huge)).verdict == "exploded"


def test_a_run_that_never_learnt_has_not_exploded_and_was_never_good(tmp_path: Path) -> None:
    rows = [{"loss": 2.3 + 0.01 * (at % 3), "learning_rate": 0.0} for at in range(60)]

    examination = examined(run_of(tmp_path / "idle.jsonl", rows))

    assert examination.verdict == "suspicious"
    assert "Nothing has been learnt since the start" in examination.verdict_because
    assert {span.severity for span in examination.alerts} >= {"warning", "critical"}
    assert (examination.first_bad_update, examination.last_good_update) == (1, None)


def test_an_early_warning_long_before_is_not_the_first_bad_update(tmp_path: Path) -> None:
    rows = healthy_rows(400)
    rows[39] = {**HEALTHY, "train/approx_kl": 0.4}
    rows[379] = {**HEALTHY, "train/approx_kl": 0.4}
    rows[389] = {**HEALTHY, "train/value_loss": "Infinity"}

    examination = examined(run_of(tmp_path / "run.jsonl", rows))

    assert (examination.first_bad_update, examination.last_good_update) == (380, 379)


def test_the_lead_of_a_rule_counts_the_updates_that_it_was_ahead(tmp_path: Path) -> None:
    rows = healthy_rows(60)
    rows[39] = {**HEALTHY, "train/approx_kl": 0.4}
    rows[44] = {**HEALTHY, "train/value_loss": "NaN"}

    examination = examined(run_of(tmp_path / "run.jsonl", rows))

    leads = {alert.rule: alert.lead_updates for alert in examination.alerts}
    assert leads["KLHigh"] == 5
    assert leads["LossNonFinite"] == 0


def test_a_halt_says_how_many_updates_it_would_have_spared(tmp_path: Path) -> None:
    rows = [*healthy_rows(30), *[{**HEALTHY, "train/value_loss": "NaN"}] * 10]

    examination = examined(run_of(tmp_path / "run.jsonl", rows))

    assert (examination.halt_update, examination.saved_updates, examination.wasted_updates) == (
        31,
        9,
        10,
    )


def test_stages_cover_the_log_from_the_first_bad_update_to_its_end() -> None:
    examination = examined(LOGS / "made_bad_rew1e20_pendulum" / "progress.csv")

    assert examination.stages[0].first_update == examination.first_bad_update
    assert examination.stages[-1].last_update == examination.last_update


def test_numbers_in_the_json_are_finite_or_words() -> None:
    def walk(value: object) -> None:
        if isinstance(value, dict):
            for item in value.values():
                walk(item)
        elif isinstance(value, list):
            for item in value:
                walk(item)
        elif isinstance(value, float):
            assert math.isfinite(value)

    walk(examined(LOGS / "made_bad_rew1e20_pendulum" / "progress.csv").as_json())


def test_a_run_that_failed_and_was_resumed_has_not_died(tmp_path: Path) -> None:
    failed = json.dumps(
        {
            "seq": 21,
            "step": 20,
            "time": 1.8e9,
            "attempt": 1,
            "metrics": {},
            "event": {"kind": "failed", "error": "KeyError: 'x'"},
        }
    )
    first = [
        json.dumps({"seq": n, "step": n, "time": 1.8e9, "attempt": 1, "metrics": HEALTHY})
        for n in range(1, 21)
    ]
    second = [
        json.dumps({"seq": n, "step": n + 10, "time": 1.8e9, "attempt": 2, "metrics": HEALTHY})
        for n in range(1, 21)
    ]
    died, resumed = tmp_path / "a" / "died.jsonl", tmp_path / "b" / "resumed.jsonl"
    for path, lines in ((died, [*first, failed]), (resumed, [*first, failed, *second])):
        path.parent.mkdir()
        path.write_text("\n".join(lines) + "\n")

    assert examined(died).verdict == "died"
    assert examined(resumed).verdict == "healthy"


@pytest.mark.parametrize(("begins_at", "well"), [(0, True), (15, False)])
def test_a_run_that_failed_and_was_begun_anew_is_not_measured_by_the_failed_one(
    begins_at: int, well: bool, tmp_path: Path
) -> None:
    failed = [f"step {at} loss {1.0 if at < 20 else math.nan}" for at in range(30)]
    again = [f"step {at} loss {4.0 - 0.03 * (at - begins_at)}" for at in range(begins_at, 70)]
    (tmp_path / "log.txt").write_text("\n".join([*failed, *again]) + "\n")

    examination = examined(tmp_path / "log.txt")

    assert (examination.verdict == "healthy") == well


@pytest.mark.parametrize(
    ("rows", "verdict", "first_bad"),
    [
        ("step 3 box_loss nan obj_loss nan", "diverged", 3),
        ("step 3 box_loss nan obj_loss 0.5", "unjudged", None),
        ("step 3 loss 1\nstep 4 loss nan", "diverged", 4),
        ("".join(f"step {n} grad_norm nan loss_scale 1\n" for n in (5, 6, 7)), "diverged", 5),
        ("step 5 grad_norm inf loss_scale 1\nstep 6 grad_norm 2 loss_scale 1", "unjudged", None),
    ],
)
def test_a_short_log_in_which_no_loss_was_ever_a_number_is_lost(
    rows: str, verdict: str, first_bad: int | None, tmp_path: Path
) -> None:
    (tmp_path / "log.txt").write_text(f"{rows}\n")

    examination = examined(tmp_path / "log.txt")

    assert (examination.verdict, examination.first_bad_update) == (verdict, first_bad)


@pytest.mark.parametrize(
    ("overflows", "verdict", "first_bad"),
    [((1,), "healthy", None), ((1, 2, 20), "healthy", None), ((40,), "suspicious", 40)],
)
def test_an_overflow_that_finite_gradients_and_losses_followed_did_no_harm(
    overflows: tuple[int, ...], verdict: str, first_bad: int | None, tmp_path: Path
) -> None:
    rows = [
        f"step {at} loss {3 - at / 20:.3f} grad_norm {'nan' if at in overflows else 1 + at % 3}"
        for at in range(1, 41)
    ]
    (tmp_path / "log.txt").write_text("\n".join(rows) + "\n")

    examination = examined(tmp_path / "log.txt")

    assert examination.verdict == verdict
    assert first_bad is None or examination.first_bad_update == first_bad


@pytest.mark.parametrize(("wrong_until", "verdict"), [(12, "healthy"), (31, "suspicious")])
def test_an_error_rate_that_never_left_1_is_told_and_one_that_left_it_late_is_not(
    wrong_until: int, verdict: str, tmp_path: Path
) -> None:
    rows = []
    for at in range(1, 31):
        rate = 1.0 if at < wrong_until else 1.02 - at / 50
        rows.append(f"step {at}00 loss {2 + 9 / at:.4f} grad_norm {1 + at % 3}")
        rows.append(f"step {at}00 eval_loss {2 + 8 / at:.4f} eval_wer {rate:.4f}")
    (tmp_path / "log.txt").write_text("\n".join(rows) + "\n")

    assert examined(tmp_path / "log.txt").verdict == verdict


@pytest.mark.parametrize(
    "words",
    [
        "Skipping a NaN loss",
        "Detected NaN loss in step 4",
        "Found an inf loss, skipping",
        "!!! got nan loss",
    ],
)
def test_a_trainer_that_skips_every_batch_for_its_loss_has_lost_it(
    words: str, tmp_path: Path
) -> None:
    rows = [f"Epoch 0, Step {at}, batch loss={9 / at:.3f}\n{words}" for at in range(1, 41)]
    (tmp_path / "log.txt").write_text("\n".join(rows) + "\n")

    assert examined(tmp_path / "log.txt").verdict == "diverged"


@pytest.mark.parametrize(
    ("last", "verdict", "good"), [(3417.8, "suspicious", 11), (9.0, "unjudged", 12)]
)
def test_a_log_that_ends_in_a_leap_of_its_loss_is_not_healthy(
    last: float, verdict: str, good: int, tmp_path: Path
) -> None:
    losses = [0.8, 0.6, 1.8, 0.1, 0.3, 0.8, 0.1, 0.4, 0.1, 0.5, 0.4, last]
    rows = [f"global step {at}: loss = {loss}" for at, loss in enumerate(losses, start=1)]
    (tmp_path / "log.txt").write_text("\n".join(rows) + "\n")

    examination = examined(tmp_path / "log.txt")

    assert (examination.verdict, examination.last_good_update) == (verdict, good)


def test_a_short_log_whose_loss_left_its_start_far_behind_is_suspicious(tmp_path: Path) -> None:
    losses = [0.14, 25237.9, 75835.3, 28575.2, 134869.9]
    rows = [f"global step {at}: loss = {loss}" for at, loss in enumerate(losses, start=408)]
    (tmp_path / "log.txt").write_text("\n".join(rows) + "\n")

    examination = examined(tmp_path / "log.txt")

    assert (examination.verdict, examination.first_bad_update) == ("suspicious", 409)
    assert examination.last_good_update == 408


def test_a_row_before_the_first_number_is_not_the_last_good_update(tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text(
        "loss: 0.5, reward: 1\nstep 7 loss nan reward 1\nstep 8 loss nan reward 1\n"
    )

    examination = examined(tmp_path / "log.txt")

    assert (examination.first_bad_update, examination.last_good_update) == (7, None)


def test_a_kill_for_memory_is_told_although_the_scheduler_says_cancelled(tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text(
        "step 1 loss 2\nslurmstepd: error: Job 7 exceeded memory limit (6 > 5), being killed\n"
        "slurmstepd: error: *** JOB 7 ON node CANCELLED AT 2022-06-10T17:11:35 ***\n"
    )

    examination = examined(tmp_path / "log.txt")

    assert (examination.verdict, examination.ended) == ("died", "failed")
    assert examination.why() == "The machine ran out of memory"


def test_a_loss_that_leapt_in_the_report_before_words_of_nan_is_bad_from_there(
    tmp_path: Path,
) -> None:
    path = tmp_path / "out.log"
    path.write_text(
        "step 1310, loss = 6.65\nstep 1320, loss = 284377.50\nModel diverged with loss = NaN.\n"
    )
    examination = examined(path)

    assert (examination.verdict, examination.causes[0].name) == ("diverged", "learning-rate")
    assert (examination.first_bad_update, examination.last_good_update) == (1320, 1310)


def test_spikes_of_the_gradient_that_passed_leave_a_run_healthy(tmp_path: Path) -> None:
    def rows(*spikes: int) -> list[dict[str, float]]:
        return [
            # Where the loss is at its best, spikes of the gradient are not even told.
            {
                "loss": 3 - 0.02 * n if n < 55 else 2.15,
                "grad_norm": 90.0 if n in spikes else 2 + 0.1 * (n % 5),
            }
            for n in range(100)
        ]

    passed = examined(run_of(tmp_path / "a.jsonl", rows(60, 64)))
    at_the_end = examined(run_of(tmp_path / "b.jsonl", rows(94, 98)))

    assert "GradientSpikesRepeat" in {alert.rule for alert in passed.alerts}
    assert (passed.verdict, passed.first_bad_update) == ("healthy", None)
    assert at_the_end.verdict == "suspicious"


def test_what_an_earlier_attempt_died_of_is_not_why_the_last_one_is_well(tmp_path: Path) -> None:
    path = tmp_path / "out.log"
    rows = "".join(f"step {n}: loss {3 - n / 30:.3f} lr 0.1\n" for n in range(1, 60))
    error = "Traceback (most recent call last):\n  File 'a.py', line 1\nKeyError: 'x'\n"
    path.write_text(rows[: len(rows) // 2] + error + rows)
    examination = examined(path)

    assert (examination.attempts, examination.verdict, examination.why()) == (2, "healthy", "")


def test_a_short_log_whose_loss_has_not_moved_is_unjudged_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "out.log"
    losses = (2.30, 2.33, 2.34, 2.30, 2.29, 2.36, 2.41, 2.33, 2.34, 2.30, 2.29, 2.36)
    path.write_text("".join(f"step {n} loss {loss}\n" for n, loss in enumerate(losses, 1)))

    examination = examined(path)

    assert examination.verdict == "unjudged"
    assert examination.unjudged_because == "train/loss has not moved beyond its own noise yet"


def test_a_suspicion_is_told_by_the_warning_that_it_is_of(tmp_path: Path) -> None:
    losses = [*[1.0 + 0.01 * math.sin(at) for at in range(60)], *[-0.9 * at for at in range(80)]]
    log = run_of(tmp_path / "log.jsonl", [{"train/loss": loss} for loss in losses])

    examination = examined(log)

    assert examination.verdict == "suspicious"
    assert "below zero by thirty times what it began with" in examination.verdict_because
    assert "(LossFarBelowZero: train/loss = " in examination.verdict_because
    assert examination.first_bad_update == 62


def test_a_trainers_own_names_are_not_said_to_be_missing(tmp_path: Path) -> None:
    own = {"pi_loss": -0.01, "v_loss": 0.5, "kl": 0.01, "clip_frac": 0.1}
    rows = [{**own, "ep_ret": 20.0 + at} for at in range(30)]

    missing = " ".join(examined(run_of(tmp_path / "log.jsonl", rows)).not_checked)

    assert "grad_norm was not logged" in missing
    assert not re.search("policy_loss|value_loss|approx_kl", missing)
