"""Shapes of logs of many programs, written after what the programs' sources print."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import pytest

from watchstep.postmortem.readers.discovery import open_logs

Rows = list[tuple[int, Mapping[str, float]]]
NAN = math.nan


def check(folder: Path, text: str, rows: Rows) -> None:
    path = folder / "log.txt"
    path.write_text(text)
    (log,) = open_logs([path])
    shown = [(update.step, repr(dict(update.readings))) for update in log.updates]

    assert shown == [
        (step, repr({name: float(value) for name, value in readings.items()}))
        for step, readings in rows
    ]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        (  # DeePMD-kit 2, deepmd/train/trainer.py: lcurve.out.
            (
                "#  step      rmse_val    rmse_trn    lr\n"
                "# If there is no available reference data, rmse_*_{val,trn} will print nan\n"
                "      0      2.78e+01    2.53e+01    1.0e-03\n"
                "    100      2.68e+01         nan    9.7e-04\n"
            ),
            [
                (0, {"rmse_val": 27.8, "rmse_trn": 25.3, "lr": 0.001}),
                (100, {"rmse_val": 26.8, "rmse_trn": NAN, "lr": 0.00097}),
            ],
        ),
        (  # NequIP 0.5, nequip/train/trainer.py: one blank parts the first two names.
            (
                "training\n# Epoch batch         loss       loss_f\n"
                "      0     1        0.987        0.845\n      0     2        0.912        0.801\n"
            ),
            [(1, {"loss": 0.987, "loss_f": 0.845}), (2, {"loss": 0.912, "loss_f": 0.801})],
        ),
        (
            "% iter   loss   grad_norm\n  5  0.25D+01  0.10D+00\n 10  0.24D+01  0.90D-01\n",
            [(5, {"loss": 2.5, "grad_norm": 0.1}), (10, {"loss": 2.4, "grad_norm": 0.09})],
        ),
        (  # numpy.savetxt with a header and a delimiter.
            "# epoch, loss, val_loss\n0, 2.5, 2.6\n1, 2.4, nan\n",
            [
                (0, {"epoch": 0, "loss": 2.5, "val_loss": 2.6}),
                (1, {"epoch": 1, "loss": 2.4, "val_loss": NAN}),
            ],
        ),
    ],
)
def test_a_comment_over_columns_of_numbers_names_them(
    text: str, rows: Rows, tmp_path: Path
) -> None:
    check(tmp_path, text, rows)


def test_a_head_may_be_set_over_two_lines(tmp_path: Path) -> None:
    """MATLAB's trainNetwork, verbose."""
    text = (
        "|======================================================|\n"
        "|  Epoch  |  Iteration  |  Time Elapsed  |  Mini-batch  |\n"
        "|         |             |   (hh:mm:ss)   |     Loss     |\n"
        "|======================================================|\n"
        "|       1 |           1 |       00:00:01 |       2.3026 |\n"
        "|       2 |          50 |       00:00:09 |          NaN |\n"
    )

    check(tmp_path, text, [(1, {"Mini-batch_Loss": 2.3026}), (50, {"Mini-batch_Loss": NAN})])


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        (" ITER = 4  LOSS = 0.25D+01  GNORM = 0.1D-02\n", [(4, {"loss": 2.5, "gnorm": 0.001})]),
        ("epoch = 4, loss = 0.25f0\n", [(4, {"loss": 0.25})]),
        ("epoch = 4, loss = 2.5f-3\n", [(4, {"loss": 0.0025})]),
        ("epoch = 4, loss = NaN32\n", [(4, {"loss": NAN})]),
    ],
)
def test_numbers_of_fortran_and_julia_are_read(text: str, rows: Rows, tmp_path: Path) -> None:
    check(tmp_path, text, rows)


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("Loss after epoch 5: 250.5\n", [(5, {"loss": 250.5})]),
        ("Average loss at step 20 is 2.5\n", [(20, {"average_loss": 2.5})]),
        # Sockeye's `metrics`, of which the number of the checkpoint stands first.
        ("7\tcross-entropy-val=2.5\tepoch=0\n", [(7, {"cross-entropy-val": 2.5})]),
        (  # MXNet's Speedometer, over several heads.
            (
                "INFO:root:Epoch[0] Batch [20]\tSpeed: 9.5 samples/sec\tcross-entropy=0.5"
                "\tcross-entropy=0.25\n"
            ),
            [(20, {"speed": 9.5, "cross-entropy": 0.5, "cross-entropy_2": 0.25})],
        ),
        (  # LightGBM's log_evaluation.
            "[9]\ttraining's l2: 0.5\tvalid_0's l2: 0.25\n",
            [(9, {"training_l2_error": 0.5, "valid_0_l2_error": 0.25})],
        ),
        (  # pytorch-CycleGAN-and-pix2pix, util/visualizer.py: loss_log.txt.
            (
                "== Training Loss ==\n"
                "(epoch: 1, iters: 100, time: 0.5, data: 0.25) D_A: 0.5 G_A: 0.25 cycle_A: 2.5\n"
            ),
            [
                (
                    100,
                    {
                        "time": 0.5,
                        "data": 0.25,
                        "d_a_loss": 0.5,
                        "g_a_loss": 0.25,
                        "cycle_a_loss": 2.5,
                    },
                )
            ],
        ),
        (
            (
                "I0301 10:00:00.123456  1234 solver.cpp:228] Iteration 20, loss = 2.5\n"
                "I0301 10:00:00.123456  1234 solver.cpp:244]     Train net output #0: loss = 2.5\n"
            ),
            [(20, {"loss": 2.5})],
        ),
    ],
)
def test_a_counter_or_a_name_may_stand_anywhere_in_a_line(
    text: str, rows: Rows, tmp_path: Path
) -> None:
    check(tmp_path, text, rows)


def test_a_line_that_measures_speed_numbers_the_reading_under_it(tmp_path: Path) -> None:
    """Sample Factory 2, sample_factory/algo/runners/runner.py."""
    text = "".join(
        f"[2024-01-01 10:00:0{at},100][12345] Fps is (10 sec: 40.0, 60 sec: 41.5). "
        f"Total num frames: {4096 * at}. Throughput: 0: 10.5. Samples: {1024 * at}.\n"
        f"[2024-01-01 10:00:0{at},101][12345] Avg episode reward: [(0, '{at}.5')]\n"
        for at in (1, 2)
    )

    check(
        tmp_path,
        text,
        [(4096, {"avg_episode_reward": 1.5}), (8192, {"avg_episode_reward": 2.5})],
    )


def test_epochs_of_which_the_last_batch_is_printed_count_on(tmp_path: Path) -> None:
    """MindSpore's LossMonitor in dataset sink mode."""
    text = "".join(f"epoch: {at} step: 1875, loss is {3 - at}.5\n" for at in (1, 2, 3))

    check(tmp_path, text, [(1875 * at, {"loss": 3.5 - at}) for at in (1, 2, 3)])


@pytest.mark.parametrize(
    "rows",
    [
        [{"log": f"step {at} loss {9 - at}.5\n", "stream": "stdout"} for at in range(4)],
        [{"message": f"step {at} loss {9 - at}.5", "level": "INFO"} for at in range(4)],
        [{"step": at, "name": "loss", "value": 9.5 - at} for at in range(4)],
        [{"tag": "loss", "value": 9.5 - at, "step": at} for at in range(4)],
    ],
)
def test_lines_and_single_readings_in_json_are_read(
    rows: list[dict[str, object]], tmp_path: Path
) -> None:
    text = "".join(f"{json.dumps(row)}\n" for row in rows)

    check(tmp_path, text, [(at, {"loss": 9.5 - at}) for at in range(4)])


@pytest.mark.parametrize(
    "words",
    ["ValueError: step 40 loss 123.5 is above the limit", "app.LostError: iter=40 loss=1.5 lr=0.1"],
)
def test_the_numbers_of_an_exception_are_no_readings(words: str, tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text("".join(f"step {at} loss {4 - at / 9}\n" for at in range(20)) + f"{words}\n")
    (log,) = open_logs([path])
    last = list(log.updates)[-1]

    assert (last.step, last.event) == (19, {"kind": "failed", "error": words})
