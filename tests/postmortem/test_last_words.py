"""What a trainer says beside its readings, and what it counts for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from postmortem.kit_postmortem import examined
from watchstep.postmortem.examination import Examination

TRACEBACK = 'Traceback (most recent call last):\n  File "train.py", line 3, in <module>\n    x()\n'


def ended(folder: Path, words: str, after: int = 0) -> Examination:
    """Thirty healthy rows, ten apart, then some words, and so many rows more."""
    rows = [f"step {at}0 | loss: {3 - at / 100:.2f} | norm: 0.5\n" for at in range(1, 31 + after)]
    path = folder / "out.log"
    path.write_text("".join(rows[:30]) + words + "\n" + "".join(rows[30:]))
    return examined(path)


@pytest.mark.parametrize(
    "words",
    [
        f"{TRACEBACK}torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
        f"{TRACEBACK}RuntimeError: CUDA error: device-side assert triggered",
        (
            "[rank3]:[E301 10:00:00.0 ProcessGroupNCCL.cpp:616] [Rank 3] Watchdog caught "
            "collective operation timeout: WorkNCCL(SeqNum=1234, OpType=ALLREDUCE)"
        ),
        "Killed",
        "Segmentation fault (core dumped)",
        "command terminated with exit code 137 (OOMKilled)",
    ],
)
def test_a_death_of_something_else_leaves_every_printed_update_good(
    words: str, tmp_path: Path
) -> None:
    examination = ended(tmp_path, words)

    assert examination.verdict == "died"
    assert (examination.first_bad_update, examination.last_good_update) == (None, 300)


@pytest.mark.parametrize(
    "words",
    [
        f"^C{TRACEBACK}KeyboardInterrupt",
        "slurmstepd: error: *** JOB 1 ON n1 CANCELLED AT 2025-03-01T12:00:00 DUE TO PREEMPTION ***",
        "slurmstepd: error: *** STEP 1.0 CANCELLED AT 2025-03-01T12:00:00 DUE TO TIME LIMIT ***",
        "torch.distributed.elastic.multiprocessing.api.SignalException: Process 1 got signal: 15",
    ],
)
def test_a_run_that_was_stopped_from_outside_did_not_fail(words: str, tmp_path: Path) -> None:
    examination = ended(tmp_path, words)

    assert examination.verdict == "healthy"
    assert examination.failure is None
    assert not any("without saying" in note for note in examination.not_checked)


@pytest.mark.parametrize(
    ("words", "first_bad"),
    [
        (f"{TRACEBACK}FloatingPointError: Loss became infinite or NaN at iteration=307!", 307),
        (f"{TRACEBACK}FloatingPointError: Minimum loss scale reached (0.0001).", None),
        (
            (
                f"{TRACEBACK}Exception: Current loss scale already at minimum - cannot decrease "
                "scale anymore. Exiting run."
            ),
            None,
        ),
        (
            (
                f"{TRACEBACK}ValueError: Expected parameter probs of distribution Categorical to "
                "satisfy the constraint Simplex(), but found invalid values:\ntensor([[nan]])"
            ),
            None,
        ),
        (f"{TRACEBACK}RuntimeError: normal expects all elements of std >= 0.0", None),
        (f"{TRACEBACK}OverflowError: math range error", None),
        (f"{TRACEBACK}ValueError: array must not contain infs or NaNs", None),
        ("Loss is nan, stopping training", 300),
        ("ERROR: training stopped since the loss became NaN", 300),
    ],
)
def test_words_that_only_lost_numbers_cause_are_divergence(
    words: str, first_bad: int | None, tmp_path: Path
) -> None:
    examination = ended(tmp_path, words)

    assert examination.verdict == "diverged"
    assert examination.first_bad_update == first_bad


def test_a_loss_that_ran_away_over_few_rows_before_it_was_lost_is_bad_from_there(
    tmp_path: Path,
) -> None:
    path = tmp_path / "out.log"
    losses = [*(3.2 - at / 15 for at in range(30)), 12.4, 38.4, 119.2]
    rows = [
        f"iter: {20 * at}  total_loss: {loss:.4f}  lr: 0.02\n" for at, loss in enumerate(losses)
    ]
    words = f"{TRACEBACK}FloatingPointError: Loss became infinite or NaN at iteration=646!\n"
    path.write_text("".join(rows) + words)

    examination = examined(path)

    assert (examination.last_good_update, examination.first_bad_update) == (580, 600)


def test_a_loss_that_was_nan_in_words_only_and_went_on_is_suspicious(tmp_path: Path) -> None:
    assert ended(tmp_path, "WARNING: loss is nan, batch left out", after=20).verdict == "suspicious"


@pytest.mark.parametrize(
    "words",
    [
        "Gradient overflow.  Skipping step, loss scaler 0 reducing loss scale to 32768.0",
        "found inf or nan in gradients, skipping step",
        (
            "[INFO] [deepspeed] OVERFLOW! Rank 0 Skipping step. Attempted loss scale: 65536, "
            "reducing to 32768"
        ),
    ],
)
def test_one_skipped_step_under_a_loss_scaler_is_healthy(words: str, tmp_path: Path) -> None:
    assert ended(tmp_path, words, after=20).verdict == "healthy"


def test_a_run_that_says_that_it_is_done_has_its_end_checked(tmp_path: Path) -> None:
    examination = ended(tmp_path, "`Trainer.fit` stopped: `max_epochs=10` reached.")

    assert examination.verdict == "healthy"
    assert not any("without saying" in note for note in examination.not_checked)


@pytest.mark.parametrize(
    "words",
    [
        "[gpu07] 2025-03-02 14:00:00,001 INFO: The training was finished at 12 epochs",
        "INFO:tensorflow:Loss for final step: 0.39122.",
    ],
)
def test_words_of_success_of_other_trainers_end_a_run(words: str, tmp_path: Path) -> None:
    assert ended(tmp_path, words).ended == "finished"


@pytest.mark.parametrize(
    ("counter", "last"), [("step", {"train_runtime": 9.1}), ("training_iteration", {"done": True})]
)
def test_the_closing_row_of_a_file_ends_its_run(
    counter: str, last: dict[str, object], tmp_path: Path
) -> None:
    path = tmp_path / "result.json"
    rows: list[dict[str, object]] = [
        {counter: at, "loss": 1 + 1 / at, "done": False} for at in range(1, 30)
    ]
    rows.append({counter: 30, "loss": 1, **last})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    assert examined(path).ended == "finished"


def test_readings_that_no_rule_knows_are_told_and_not_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_text("step,cls_accuracy\n" + "".join(f"{at},0.5\n" for at in range(20)))

    examination = examined(path)

    assert examination.verdict == "unjudged"
    assert examination.not_checked[0] == "no rule knows any of the log's readings (cls_accuracy)"


def test_a_trainer_that_says_that_it_writes_0_for_a_nan_hides_it(tmp_path: Path) -> None:
    # SeanNaren/deepspeech.pytorch prints so.
    lines = [f"Epoch: [1][{row}/400]\tTime 0.8\tLoss {3 + row % 7 / 5:.4f}" for row in range(1, 60)]
    for row in range(60, 90):
        lines.append("WARNING: received a nan loss, setting loss value to 0")
        lines.append(f"Epoch: [1][{row}/400]\tTime 0.8\tLoss 0.0000")
    path = tmp_path / "train.log"
    path.write_text("\n".join(lines) + "\n")

    cause = examined(path).causes[0]

    assert cause.name == "hidden-nan"
    assert "received a nan loss" in " ".join(cause.evidence)


def test_what_a_trainer_says_as_it_gives_up_is_quoted(tmp_path: Path) -> None:
    lines = [f"{row}:\tlearn: {9 / (row + 9):.6f}\ttest: {9 / (row + 8):.6f}" for row in range(60)]
    lines += ["60:\tlearn: nan\ttest: nan"]
    lines += ["Training has stopped (degenerate solution on iteration 60, try to increase it)"]
    path = tmp_path / "train.log"
    path.write_text("\n".join(lines) + "\n")

    examination = examined(path)

    assert (examination.verdict, examination.first_bad_update) == ("diverged", 60)
    assert "degenerate solution" in (examination.failure or "")


def test_of_lost_numbers_that_no_reading_was_printed_of_no_cause_is_named(tmp_path: Path) -> None:
    path = tmp_path / "out.log"
    path.write_text(f"Using device: cpu\n{TRACEBACK}OverflowError: math range error\n")

    examination = examined(path)

    assert (examination.verdict, examination.first_bad_update) == ("diverged", None)
    assert [cause.name for cause in examination.causes] == ["not-enough-evidence"]
