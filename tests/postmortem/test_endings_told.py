"""How a run ended, and which meaning of its verdict holds, on the first screen."""

from __future__ import annotations

from pathlib import Path

import pytest

from postmortem.kit_postmortem import examined, invoked
from postmortem.test_last_words import TRACEBACK, ended
from watchstep.core.updates import Update
from watchstep.postmortem.log_summary import fold
from watchstep.postmortem.sections import headline
from watchstep.postmortem.verdict import unjudged_because, verdict_of
from watchstep.rules import load


@pytest.mark.parametrize(
    "words",
    [
        "slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2026-01-01T01:00:00 DUE TO PREEMPTION ***",
        "slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2026-01-01T01:00:00 ***",
        "slurmstepd: error: *** JOB 7 STEPD TERMINATED ON n1 AT 2026-01-01T01:00:00 ***",
        "srun: error: n1: task 0: Terminated",
        "Received SIGTERM, saving a checkpoint",
        "Terminated",
        "Preempted.",
        "Instance is being preempted, shutting down",
    ],
)
def test_a_preemption_is_told_first_and_in_json(words: str, tmp_path: Path) -> None:
    examination = ended(tmp_path, words)

    assert examination.verdict == "healthy"
    assert examination.as_json()["ended"] == "preempted"
    assert f"The run was preempted: {words}" in headline(examination)


@pytest.mark.parametrize(
    "words",
    [
        "slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2026-01-01T01:00:00 DUE TO TIME LIMIT ***",
        "=>> PBS: job killed: walltime 3632 exceeded limit 3600",
        "TERM_RUNLIMIT: job killed after reaching LSF run time limit.",
        "job 7 exceeded hard wallclock time",
        "DeadlineExceeded: Job was active longer than specified deadline",
    ],
)
def test_a_job_whose_time_is_over_was_ended_by_its_time_limit(words: str, tmp_path: Path) -> None:
    examination = ended(tmp_path, words)

    assert examination.as_json()["ended"] == "preempted"
    assert f"The run was ended by its time limit: {words}" in headline(examination)


@pytest.mark.parametrize(
    "words",
    [
        "INFO:gluonts.trainer:End model training",
        "Training has stopped: no improvement in 50 iterations",
        "Stopped by overfitting detector  (50 iterations wait)",
        "✔ Saved pipeline to output directory",
        "Environment solved in 400 episodes!\tAverage Score: 201.07",
        "Training completed in 3h 12m",
    ],
)
def test_words_of_success_end_a_run_well(words: str, tmp_path: Path) -> None:
    assert ended(tmp_path, words).as_json()["ended"] == "finished"


@pytest.mark.parametrize(
    "words",
    [
        "Training has stopped (degenerate solution on iteration 60, probably too small l2-reg)",
        "Training has stopped because the loss is nan",
        "Training ended with error code 7",
    ],
)
def test_a_word_of_failure_beside_them_is_no_success(words: str, tmp_path: Path) -> None:
    assert ended(tmp_path, words).as_json()["ended"] != "finished"


def test_words_of_a_preemption_in_a_run_that_goes_on_end_nothing(tmp_path: Path) -> None:
    examination = ended(tmp_path, "Instance will be preempted, they say", after=20)

    assert examination.ended == ""
    assert any("without saying" in note for note in examination.not_checked)


def test_a_healthy_log_that_breaks_off_says_so_first(tmp_path: Path) -> None:
    lines = headline(ended(tmp_path, "bye"))

    assert "The log ends at update 300 without saying that the run finished" in lines


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (
            f"{TRACEBACK}torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
            "A GPU ran out of memory",
        ),
        (
            (
                "slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2026-01-01T01:00:00 "
                "DUE TO NODE FAILURE, SEE SLURMCTLD LOG FOR DETAILS ***"
            ),
            "A machine failed",
        ),
        ("Killed", "The process was killed, most often for want of memory"),
        (f"{TRACEBACK}OSError: [Errno 28] No space left on device", "The disk is full"),
        (
            (
                "[rank3]:[E301 ProcessGroupNCCL.cpp:616] [Rank 3] Watchdog caught collective "
                "operation timeout: WorkNCCL(SeqNum=1, OpType=ALLREDUCE)\n"
                "  exitcode  : -6 (pid: 2295)"
            ),
            "A collective operation timed out or lost a rank",
        ),
        (
            (
                "[rank0]: [Rank 0] Watchdog caught collective operation timeout: WorkNCCL\n"
                f"[rank1]: {TRACEBACK}torch.OutOfMemoryError: CUDA out of memory."
            ),
            "A GPU ran out of memory",
        ),
    ],
)
def test_a_death_of_a_known_kind_is_the_first_reason(words: str, why: str, tmp_path: Path) -> None:
    examination = ended(tmp_path, words)

    assert examination.verdict == "died"
    assert examination.why() == why
    assert examination.failure is not None
    assert "exitcode" not in examination.failure


def test_the_first_line_tells_which_meaning_of_the_verdict_holds(tmp_path: Path) -> None:
    path = tmp_path / "lost.log"
    rows = [f"step {at} | loss: {3 - at / 100 if at < 40 else 'nan'}\n" for at in range(1, 61)]
    path.write_text("".join(rows))

    assert examined(path).verdict_because == "loss has not been finite since step 40"
    assert "an alert or the trainer says so" not in invoked("postmortem", path).stdout


def test_words_of_the_trainer_are_the_reason_where_no_number_shows_it(tmp_path: Path) -> None:
    examination = ended(tmp_path, f"{TRACEBACK}FloatingPointError: Loss became infinite or NaN")

    assert examination.verdict_because.startswith("the trainer said: FloatingPointError")


def test_boosted_trees_lack_nothing_that_only_networks_have(tmp_path: Path) -> None:
    path = tmp_path / "boost.log"
    rows = [
        f"[{at}]\ttrain-logloss:{0.6 - at / 1000:.5f}\teval-logloss:{0.61 - at / 1000:.5f}\n"
        for at in range(60)
    ]
    path.write_text("".join(rows))

    examination = examined(path)

    assert examination.verdict == "healthy"
    assert not any("was not logged" in note for note in examination.not_checked)
    assert not any("no rule knows" in note for note in examination.not_checked)


def test_a_log_of_which_no_rule_knows_a_reading_is_not_called_healthy() -> None:
    updates = [Update(at, at, float(at), {"val_loss": 0.5 + at / 1e4}) for at in range(1, 41)]
    summary = fold(load(["machine"]), updates)

    assert summary.health == "healthy"
    assert verdict_of(summary)[0] == "unjudged"
    assert unjudged_because(summary) == "no rule knows any of the log's readings (val_loss)"


def test_a_log_that_ends_in_a_hang_is_not_healthy_and_one_that_goes_on_is() -> None:
    updates = [Update(at, at, float(at), {"loss": 1.0 / at}) for at in range(1, 41)]
    hung = {"kind": "hung", "since_s": 192.6, "moving": False, "innermost": "acquire (train.py:9)"}
    warned = Update(41, 40, 41.0, {}, {**hung, "severity": "warning", "since_s": 60.0})
    stands = Update(42, 40, 42.0, {}, {**hung, "severity": "critical"})
    goes_on = Update(43, 41, 43.0, {"loss": 0.02})

    summary = fold(load(["auto"]), [*updates, warned, stands])
    verdict = verdict_of(summary)
    hang = summary.spans["RunLost", ""]

    assert (hang.severity, hang.first_update, hang.times) == ("critical", 40, 2)
    assert hang.reason == "no update for 192.6 s, in acquire (train.py:9)"
    assert verdict == ("died", "the trainer hung: no update for 192.6 s, in acquire (train.py:9)")
    assert verdict_of(fold(load(["auto"]), [*updates, stands, goes_on]))[0] == "healthy"


@pytest.mark.parametrize(
    ("last", "frame", "error", "verdict"),
    [
        (1900, "/usr/lib/python3.10/multiprocessing/process.py", "EOFError", "healthy"),
        (2000, "/usr/lib/python3.10/multiprocessing/process.py", "BrokenPipeError: x", "healthy"),
        # In the middle it tells that the trainer is gone, and other errors are errors.
        (1000, "/usr/lib/python3.10/multiprocessing/process.py", "EOFError", "died"),
        (2000, "/usr/lib/python3.10/multiprocessing/process.py", "ValueError: x", "died"),
        (2000, "train.py", "EOFError", "died"),
    ],
)
def test_a_worker_that_loses_its_parent_after_the_last_step_is_no_death(
    last: int, frame: str, error: str, verdict: str, tmp_path: Path
) -> None:
    path = tmp_path / "out.log"
    path.write_text(
        "".join(f"Step {n}/2000: loss {3 - n / 900:.3f} lr 0.1\n" for n in range(0, last + 1, 100))
        + f'Traceback (most recent call last):\n  File "{frame}", line 314, in run\n{error}\n'
    )

    assert examined(path).verdict == verdict
