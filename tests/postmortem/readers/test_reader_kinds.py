"""Kinds of lines of which readings were once lost, or taken for others."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from watchstep.core.updates import Update
from watchstep.postmortem.readers import open_logs

NAN, INF = math.nan, math.inf
Rows = list[tuple[int, dict[str, float]]]


def updates_of(folder: Path, text: str) -> list[Update]:
    path = folder / "out.log"
    path.write_text(text)
    (log,) = open_logs([path])
    return list(log.updates)


def check(folder: Path, text: str, rows: Rows) -> None:
    shown = [(update.step, repr(dict(update.readings))) for update in updates_of(folder, text)]

    assert shown == [
        (step, repr({name: float(value) for name, value in readings.items()}))
        for step, readings in rows
    ]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        # A bar behind a percentage parts readings, as long as no place stands behind its end.
        ("Epoch 3/9 | acc 51.2% | loss nan\n", [(3, {"acc": 51.2, "loss": NAN})]),
        ("iter 7 | top1 12%|top5 40%|loss 2.5\n", [(7, {"top1": 12, "top5": 40, "loss": 2.5})]),
        (" 40%|##  | 8/20 [00:01<00:02, loss=0.5]\n", [(8, {"loss": 0.5})]),
        (" 40% |##  | 8/20 loss: 0.5\n", [(8, {"loss": 0.5})]),
    ],
)
def test_a_percentage_before_a_bar_ends_no_line(text: str, rows: Rows, tmp_path: Path) -> None:
    check(tmp_path, text, rows)


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("step: 4 - loss: nanxxx - lr: 0.1\n", [(4, {"loss": NAN, "lr": 0.1})]),
        ("step 4 loss -inf_ gnorm nan000\n", [(4, {"loss": -INF, "gnorm": NAN})]),
        ("step 4 loss: infxx kl: 0.5\n", [(4, {"loss": INF, "kl": 0.5})]),
    ],
)
def test_a_nan_that_is_filled_up_to_a_width_is_one(text: str, rows: Rows, tmp_path: Path) -> None:
    check(tmp_path, text, rows)


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        (
            "After 900 sequences (1.5Hr): Obj(log[P]) = -3.5e+20\n",
            [(900, {"obj_log_p__": -3.5e20})],
        ),
        ("After 40 utterances: objf = -0.5, loss 2\n", [(40, {"objf": -0.5, "loss": 2})]),
        (
            "LOG (tr[5.5]:Go():tr.cc:9) Mean objective for 'x' for minibatches 20-29 is -0.25.\n",
            [(29, {"mean_objective": -0.25})],
        ),
        (
            "Episode 8\tLast length: 13\tAverage length: 9.5\nEpisode 9\n",
            [(8, {"last_length": 13, "average_length": 9.5})],
        ),
    ],
)
def test_speech_trainers_and_episodes_are_read(text: str, rows: Rows, tmp_path: Path) -> None:
    check(tmp_path, text, rows)
