"""Since when a log is bad, what it is called, and what is counted in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from postmortem.kit_postmortem import examined, invoked
from watchstep.postmortem.examination import Examination


def printed(path: Path, lines: list[str]) -> Examination:
    path.write_text("\n".join(lines) + "\n")
    return examined(path)


def row(at: int, loss: float) -> str:
    return f"it {at}: loss {loss:.4f}, acc 0.5"


def test_a_loss_that_leapt_after_a_resume_is_bad_from_there_and_not_from_the_resume(
    tmp_path: Path,
) -> None:
    before = [row(20 * at, 5.0 - 0.03 * at) for at in range(100)]
    after = [row(1980, 2.02), *(row(1980 + 20 * at, 3e5 / at**2) for at in range(1, 60))]

    examination = printed(
        tmp_path / "train.log", [*before, "Resuming from checkpoint ckpt.pt", *after]
    )

    assert (examination.first_bad_update, examination.last_good_update) == (2000, 1980)
    assert examination.verdict in {"exploded", "diverged"}


def test_a_loss_that_ends_where_it_began_has_exploded_and_not_come_back(tmp_path: Path) -> None:
    course = [*(2.2 - 0.01 * at for at in range(12)), *[30.0] * 40, *[2.15] * 60]

    examination = printed(
        tmp_path / "train.log", [row(5 * at, loss) for at, loss in enumerate(course)]
    )

    assert examination.verdict == "exploded"


def test_an_explosion_that_ends_in_words_of_nan_is_bad_from_its_first_report(
    tmp_path: Path,
) -> None:
    course = [*(3.0 - 0.03 * at for at in range(50)), 3.4, 9.0, 70.0]
    lines = [row(50 * at, loss) for at, loss in enumerate(course)]

    examination = printed(
        tmp_path / "train.log", [*lines, "FloatingPointError: gradients and loss became NaN"]
    )

    assert examination.verdict == "diverged"
    assert (examination.first_bad_update, examination.last_good_update) == (2500, 2450)


def test_what_is_counted_in_a_log_are_reports(tmp_path: Path) -> None:
    lines = [row(100 * at, 2.0 - 0.01 * at) for at in range(1, 41)]
    lines += [f"it {100 * at}: loss nan, acc 0.1" for at in range(41, 60)]
    path = tmp_path / "train.log"
    path.write_text("\n".join(lines) + "\n")

    text = invoked("postmortem", path).stdout

    assert "59 reports, up to" in text
    assert "updates before the end" not in text
    assert "the log goes on to 5900" in text


@pytest.mark.parametrize(
    ("words", "after", "ended"),
    [
        ("2025-02-01 10:00:00,123 ignite.engine.engine.Engine INFO: Engine run finished.", 0, True),
        ("2025-02-01 10:00:00,123 INFO [main.py:88] Done!", 0, True),
        ("2025-02-01 10:00:00,123 INFO [main.py:88] Done!", 20, False),
        ("Reading the index: done", 0, False),
    ],
)
def test_words_of_an_end_count_where_the_log_ends_there(
    words: str, after: int, ended: bool, tmp_path: Path
) -> None:
    rows = [row(at, 3.0 - 0.02 * at) for at in range(1, 41 + after)]

    examination = printed(tmp_path / "train.log", [*rows[:40], words, *rows[40:]])

    assert (examination.ended == "finished") == ended


def test_iterations_that_are_printed_beyond_their_epoch_count_over_the_run(
    tmp_path: Path,
) -> None:
    lines = [
        f"Epoch[{1 + at // 30}] Iteration[{at}/30] Loss: {2.5 - 0.01 * at:.3f}"
        for at in range(5, 181, 5)
    ]

    assert printed(tmp_path / "train.log", lines).last_update == 180


def test_the_best_iteration_printed_once_more_is_no_last_one(tmp_path: Path) -> None:
    lines = [
        f"2025-02-01 10:00:00,123 INFO shop.fit: [{at}]\ttrain's rmse: {9.0 - 0.1 * at:.4f}"
        f"\tval's rmse: {9.5 - 0.1 * at + (0.2 * (at - 30) if at > 30 else 0.0):.4f}"
        for at in range(3, 61, 3)
    ]
    best = "[30]\ttrain's rmse: 6.0000\tval's rmse: 6.5000"

    examination = printed(
        tmp_path / "train.log", [*lines, "INFO shop.fit: Early stopping, best iteration is:", best]
    )

    assert (examination.last_update, examination.updates) == (60, 20)
    assert examination.attempts == 1


def test_a_box_of_settings_is_no_report(tmp_path: Path) -> None:
    box = ["+------+------+", "| batch | 8    |", "| layers | 12   |", "+------+------+"]
    rows = [f"step {at}/80 | loss {4.0 - 0.02 * at:.3f} | norm 0.5" for at in range(1, 41)]

    examination = printed(tmp_path / "train.log", [*box, *rows])

    assert (examination.updates, examination.format) == (40, "key_value")


def test_a_run_that_the_trackers_own_note_calls_finished_has_finished(tmp_path: Path) -> None:
    metrics = tmp_path / "7" / "abc" / "metrics"
    metrics.mkdir(parents=True)
    (metrics / "loss").write_text(
        "".join(f"17000000{at:02}000 {2.0 - 0.01 * at} {at}\n" for at in range(40))
    )
    meta = metrics.parent / "meta.yaml"

    ends = []
    for status in ("1", "3", "4"):
        meta.write_text(f"run_name: calm-fox\nstatus: {status}\n")
        ends.append(examined(tmp_path).ended)

    assert ends == ["", "finished", "failed"]


def test_a_page_with_a_pasted_log_is_read_in_a_folder_and_one_with_a_sample_is_not(
    tmp_path: Path,
) -> None:
    pasted = (
        "# Help\n```\n" + "\n".join(row(at, 2.0 - 0.05 * at) for at in range(1, 21)) + "\n```\n"
    )
    (tmp_path / "question.md").write_text(pasted)
    (tmp_path / "usage.md").write_text(f"It prints\n\n{row(1, 2.0)}\n{row(2, 1.9)}\n")

    runs = invoked("postmortem", tmp_path).stdout

    assert "question.md" in runs
    assert "usage.md" not in runs


def test_a_folder_without_logs_says_what_was_not_looked_into(tmp_path: Path) -> None:
    (tmp_path / "train.sh").write_text("python train.py\n")

    answer = invoked("postmortem", tmp_path)

    assert answer.returncode == 3
    assert "train.sh" in answer.stderr


def test_a_rare_evaluation_is_bad_from_its_own_first_bad_report_on(tmp_path: Path) -> None:
    lines = []
    for at in range(500):
        worse = (
            ""
            if at % 25 != 24
            else f', "val/loss": {0.6 + 1 / (at + 1) if at < 200 else 35 + at / 50}'
        )
        lines.append(f'{{"step": {at}, "train/loss": {2 / (1 + at / 50) + 0.1}{worse}}}')
    path = tmp_path / "metrics.jsonl"
    path.write_text("\n".join(lines) + "\n")

    examination = examined(path)

    assert (examination.first_bad_update, examination.last_good_update) == (224, 199)


def test_scales_that_fell_behind_the_last_row_leave_its_number_good(tmp_path: Path) -> None:
    words = "NOTE: gradient overflow detected, ignoring gradient, setting loss scale to: "
    rows = [f"it {100 * at}: loss {5 - at / 40:.4f}, loss_scale 128" for at in range(54)]

    examination = printed(
        tmp_path / "train.log",
        [*rows, *(f"{words}{64 / 2**at}" for at in range(20)), "RuntimeError: stopped"],
    )

    assert "LossScaleFalling" in {alert.rule for alert in examination.alerts}
    assert (examination.first_bad_update, examination.last_good_update) == (None, 5300)
