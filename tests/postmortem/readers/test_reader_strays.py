"""Rows that go back in number without a new attempt, and lists within a table's cells."""

from __future__ import annotations

from pathlib import Path

import pytest

from postmortem.kit_postmortem import examined
from watchstep.core.updates import Update
from watchstep.postmortem.readers import open_logs


def updates_of(path: Path, text: str) -> list[Update]:
    path.write_text(text)
    (log,) = open_logs([path])
    return list(log.updates)


def boosted(first: int, last: int) -> str:
    return "".join(
        f"[{at}]\ttraining's binary_logloss: {9 / at:.5f}"
        f"\tvalid's binary_logloss: {9 / at + 0.1:.5f}\n"
        for at in range(first, last + 1, 10)
    )


@pytest.mark.parametrize(
    "summary",
    [
        f"Early stopping, best iteration is:\n{boosted(571, 571)}",
        "Best model at step 570:\n  train loss: 1.6e-02\n  test loss: 1.7e-02\n",
        "Best model: iteration 570, loss: 0.016, accuracy: 0.87\n",
        "=> Final train loss: 0.0160, val loss: 0.0170\n",
        "Loaded the best checkpoint: step 570, val_loss 0.017, loss 0.016\n",
        "Average loss over the run: 0.3, accuracy: 0.5\n",
    ],
)
def test_a_summary_at_the_end_is_no_report_and_opens_no_attempt(
    summary: str, tmp_path: Path
) -> None:
    path = tmp_path / "out.log"
    updates = updates_of(path, boosted(10, 620) + summary)

    assert {update.attempt for update in updates} == {1}
    assert updates[-1].step == 620
    assert len(updates) == 62
    assert examined(path).verdict == "healthy"


def test_a_row_out_of_order_in_a_long_run_opens_no_attempt(tmp_path: Path) -> None:
    text = boosted(10, 400) + boosted(100, 110) + boosted(410, 620)

    assert {update.attempt for update in updates_of(tmp_path / "out.log", text)} == {1}


@pytest.mark.parametrize(
    "text",
    [
        boosted(10, 400) + boosted(300, 620),
        boosted(10, 400) + "Terminated\n" + boosted(300, 310),
        boosted(10, 400) + boosted(10, 20),
        boosted(10, 100) + boosted(50, 60),
    ],
)
def test_a_run_that_was_begun_again_has_a_second_attempt(text: str, tmp_path: Path) -> None:
    assert [update.attempt for update in updates_of(tmp_path / "out.log", text)][-1] == 2


def sb3_table(iteration: int) -> str:
    return (
        "----------------------------------\n"
        "| time/              |           |\n"
        f"|    iterations      | {iteration:<9} |\n"
        f"|    total_timesteps | {iteration * 2048:<9} |\n"
        "| train/             |           |\n"
        f"|    loss            | {20 / iteration:<9.3f} |\n"
        "----------------------------------\n"
    )


EVALUATION = (
    "Eval num_timesteps=20480, episode_reward=-659.99 +/- 126.89\nEpisode length: 200.00 +/- 0.00\n"
)
EVALUATION_TABLE = (
    "----------------------------------\n"
    "| eval/              |           |\n"
    "|    mean_reward     | -659.99   |\n"
    "| time/              |           |\n"
    "|    total_timesteps | 20480     |\n"
    "----------------------------------\n"
)


@pytest.mark.parametrize("evaluation", [EVALUATION, EVALUATION + EVALUATION_TABLE])
def test_an_evaluation_between_sb3s_tables_opens_no_attempt(
    evaluation: str, tmp_path: Path
) -> None:
    tables = [sb3_table(at) + (evaluation if at % 10 == 0 else "") for at in range(1, 41)]

    updates = updates_of(tmp_path / "out.log", "".join(tables))

    assert {update.attempt for update in updates} == {1}
    assert [update.step for update in updates] == sorted(update.step for update in updates)
    assert updates[-1].step == 40


def test_a_list_in_a_cell_is_a_reading_for_each_element(tmp_path: Path) -> None:
    head = "Step      Train loss              Test loss               Test metric\n"
    rows = [
        f"{at}000      [1.0e-03, 2.0e-02]    [3.0e-01, 4.0e+00]    [5.0e+01]\n" for at in (1, 2)
    ]

    (first, _) = updates_of(tmp_path / "out.log", head + "".join(rows))

    assert first.readings == {
        "Train_loss_0": 1e-3,
        "Train_loss_1": 2e-2,
        "Test_loss_0": 0.3,
        "Test_loss_1": 4.0,
        "Test_metric": 50.0,
    }
