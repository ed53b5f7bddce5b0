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


GAN = "== Epoch {n} ==\nDiscriminator\n   loss   0.5\n   real   0.6\nGenerator\n   loss   1.5\n"
TASKS = "Epoch {n}/9 (lr 0.1)\n[Depth]\n  loss: 2400\n[Labels]\n  loss: 0.5\n"
SECTIONS = "Iteration {n}\nActor:\nloss: 0.5\nCritic:\nloss: 7\n"


@pytest.mark.parametrize(
    ("block", "readings"),
    [
        (GAN, {"discriminator/loss": 0.5, "real": 0.6, "generator/loss": 1.5}),
        (TASKS, {"lr": 0.1, "depth/loss": 2400, "labels/loss": 0.5}),
        (SECTIONS, {"actor/loss": 0.5, "critic/loss": 7}),
    ],
)
def test_one_name_under_two_titles_of_a_block_is_two_quantities(
    block: str, readings: dict[str, float], tmp_path: Path
) -> None:
    updates = updates_of(tmp_path, "".join(block.format(n=n) for n in range(4, 9)))

    assert [update.step for update in updates] == [4, 5, 6, 7, 8]
    assert all(update.readings == readings for update in updates)


def test_a_loss_scale_that_falls_several_times_within_a_row_is_told_each_time(
    tmp_path: Path,
) -> None:
    falls = "".join(f"overflow detected, reducing loss scale to {scale}\n" for scale in (8, 4, 2))
    updates = updates_of(tmp_path, f"step 10 loss 3\n{falls}step 20 loss 2\n")

    assert [(update.step, update.readings.get("loss_scale")) for update in updates] == [
        *((10, None), (20, 8.0), (20, 4.0), (20, 2.0))
    ]


def test_without_rows_a_loss_scale_is_of_the_step_that_the_bar_shows(tmp_path: Path) -> None:
    bars = "".join(
        f" {n}%|##  | {n}/90 [00:01<00:30]OVERFLOW! Skipping step. Loss scale: 1, reducing to 1\n"
        for n in (7, 8, 9)
    )

    assert [update.step for update in updates_of(tmp_path, bars)] == [7, 8, 9]


CLOCK = "[2025-03-04 10:00:0{n}] app INFO: "


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        (
            "".join(f"{CLOCK.format(n=n)}iter: {n} loss: 0.{n} x: 9 " for n in (4, 5)) + "\n",
            [(4, {"loss": 0.4, "x": 9}), (5, {"loss": 0.5, "x": 9})],
        ),
        (
            "s x: 9 [2025/03/04 10:00:00] step 7 loss 2 [2025/03/04 10:00:09] ste\n",
            [(7, {"loss": 2})],
        ),
        (
            " ".join(f"(2025-03-04 10:00:0{n}) it={n} loss=0.{n}" for n in (4, 5)) + "\n",
            [(4, {"loss": 0.4}), (5, {"loss": 0.5})],
        ),
        (f"[rank0]: {CLOCK.format(n=1)}step 7 loss 2\n", [(7, {"loss": 2})]),
    ],
)
def test_records_that_run_together_are_parted_at_their_clocks(
    text: str, rows: Rows, tmp_path: Path
) -> None:
    check(tmp_path, text, rows)


@pytest.mark.parametrize("heading", ["", "Epoch 1/50\n"])
def test_the_batches_of_a_first_epoch_that_never_ends_are_rows(
    heading: str, tmp_path: Path
) -> None:
    batches = "".join(f"{n}/90 [>....] - loss: 0.{n}\n" for n in (1, 2, 3))

    check(tmp_path, heading + batches, [(n, {"loss": float(f"0.{n}")}) for n in (1, 2, 3)])


def test_the_number_of_a_line_is_no_step(tmp_path: Path) -> None:
    bars = [f"  9%|#  | {n}/90 [00:01<00:30]" for n in range(1, 21)]
    row = "{'loss': 0.5, 'epoch': 0.1}"
    lines = [*bars[:10], "", row, *bars[10:20], "", row, *bars[19:]]
    text = "".join(f"[{700 + n}] {line}\n" for n, line in enumerate(lines))

    assert [update.step for update in updates_of(tmp_path, text)] == [10, 20]


@pytest.mark.parametrize("margin", ["> ", "[rank0]: ", "    ", "#7 12.5 "])
def test_a_traceback_in_a_margin_goes_on_as_long_as_the_margin_is_followed_by_blanks(
    margin: str, tmp_path: Path
) -> None:
    trace = 'Traceback (most recent call last):\n  File "a.py", line 1, in <module>\nKeyError: 7\n'
    text = "".join(f"{margin}{line}\n" for line in trace.splitlines())
    (*_, last) = updates_of(tmp_path, "step 1 loss 2\n" + text)

    assert last.event == {"kind": "failed", "error": "KeyError: 7"}
