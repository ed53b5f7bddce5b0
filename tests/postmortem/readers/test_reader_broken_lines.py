"""Logs that were pasted from a terminal, which breaks long lines at its window's edge.

Forms: facebookresearch/detectron2, NVIDIA/Megatron-LM, zhouhaoyi/Informer2020, Textualize/rich.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path

import pytest

from postmortem.kit_postmortem import open_log
from watchstep.core.updates import Update


def updates_of(path: Path, lines: Iterable[str]) -> list[Update]:
    path.write_text("\n".join(lines) + "\n")
    return [update for update in open_log(path).updates if update.readings]


def detectron2() -> list[str]:
    noise = random.Random(1)
    return [
        f"[10/12 12:00:{row:02} d2.utils.events]:  eta: 0:59:11  iter: {20 * row + 19}  "
        f"total_loss: {noise.uniform(0.3, 0.6):.4g}  loss_cls: {noise.uniform(0.1, 0.2):.4g}  "
        f"loss_box_reg: {noise.uniform(0.001, 0.02):.4g}  loss_rpn: {noise.uniform(0.01, 1):.4g}  "
        f"time: 0.3980  data_time: 0.0196  lr: {5e-6 * (row + 1):.3g}  max_mem: 4218M"
        for row in range(40)
    ]


def megatron() -> list[str]:
    return [
        f" iteration {1210 + row:8}/  250000 | consumed samples: {1239040 + 1024 * row:12} | "
        f"elapsed time per iteration (ms): 86751.2 | learning rate: 9.{120 + row}E-05 | lm loss: "
        f"2.{513371 - row}E+00 | grad norm: 0.284 | number of nan iterations:   0 |"
        for row in range(40)
    ]


def broken(lines: Iterable[str], width: int) -> list[str]:
    return [line[at : at + width] for line in lines for at in range(0, len(line), width)]


@pytest.mark.parametrize("width", [80, 100, 120, 160])
@pytest.mark.parametrize("lines", [detectron2(), megatron()], ids=["detectron2", "megatron"])
def test_lines_that_a_terminal_broke_are_read_as_they_were(
    lines: list[str], width: int, tmp_path: Path
) -> None:
    whole = updates_of(tmp_path / "whole.log", lines)
    pasted = updates_of(tmp_path / "pasted.log", broken(lines, width))

    assert [(update.step, update.readings) for update in pasted] == [
        (update.step, update.readings) for update in whole
    ]
    assert {update.attempt for update in pasted} == {1}


def test_blanks_that_copying_took_from_a_full_lines_end_part_nothing(tmp_path: Path) -> None:
    lines = [line.rstrip() for line in broken(detectron2(), 160)]

    pasted = updates_of(tmp_path / "pasted.log", lines)

    assert [update.step for update in pasted] == [20 * row + 19 for row in range(40)]
    assert len(pasted[0].readings) == len(pasted[-1].readings)


def test_rows_of_one_length_with_a_second_line_are_not_joined(tmp_path: Path) -> None:
    lines = []
    for row in range(40):
        start = f"\titers: {100 + row}, epoch: 1 | rate: 0.001 | accuracy: 0.51"
        lines += [f"{start:66} | loss: 0.1{row:05}", "speed: 0.0367s/iter; left time: 761.78s"]

    updates = updates_of(tmp_path / "train.log", lines)

    assert [update.readings["loss"] for update in updates][-1] == pytest.approx(0.100039)
    assert len(updates) == 40


def test_a_console_that_fills_each_line_with_blanks_breaks_none(tmp_path: Path) -> None:
    lines = []
    for row in range(40):
        clock = f"[10:00:{row:02}]" if row % 3 == 0 else " " * 10
        lines.append(
            f"{clock} INFO     step {row} loss 0.5{row} grad_norm 0.3".ljust(72) + "run.py:7"
        )

    assert len(updates_of(tmp_path / "train.log", lines)) == 40


def test_lines_of_blanks_as_wide_as_the_window_are_no_broken_ones(tmp_path: Path) -> None:
    lines = [line for row in range(40) for line in (" " * 80, f"step {row} loss 0.5{row}")]

    assert len(updates_of(tmp_path / "train.log", lines)) == 40
