"""Console output: the shapes trainers print in, and the errors in between."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from watchstep.core.updates import Update
from watchstep.postmortem.readers import Log, open_log

TABLE = """\
------------------------------
| rollout/        |          |
|    ep_rew_mean  | {reward} |
| time/           |          |
|    iterations   | {number} |
| train/          |          |
|    approx_kl    | {kl}     |
------------------------------
"""


def console(folder: Path, text: str) -> tuple[Log, list[Update]]:
    path = folder / "out.log"
    path.write_text(text)
    log = open_log(path)
    return log, list(log.updates)


@pytest.mark.parametrize(
    ("line", "step", "readings"),
    [
        ("step=10 loss=0.5 grad_norm=nan", 10, {"loss": 0.5, "grad_norm": math.nan}),
        ("[INFO] step: 10, loss: -inf, lr: 1e-4", 10, {"loss": -math.inf, "lr": 1e-4}),
        ("step 10: train loss 4.2, val loss 4.3", 10, {"train_loss": 4.2, "val_loss": 4.3}),
        ("iter 10: loss 4.2, time 3ms, mfu 1.5%", 10, {"loss": 4.2, "time": 3, "mfu": 1.5}),
        ("s:10 trl:3.29", 10, {"loss": 3.29}),
        (
            "INFO:trainer:update=10 policy_loss=tensor(0.25, device='cuda:0') kl=.5",
            10,
            {"policy_loss": 0.25, "kl": 0.5},
        ),
        (
            " 5%|#    | 10/200 [00:01<00:19]{'loss': 1.5, 'step': 10}",
            10,
            {"loss": 1.5},
        ),
        (
            "iteration 10/ 200 | lm loss: NaN | grad norm: inf |",
            10,
            {"lm_loss": math.nan, "grad_norm": math.inf},
        ),
    ],
)
def test_a_printed_row_is_read(
    line: str, step: int, readings: dict[str, float], tmp_path: Path
) -> None:
    _, updates = console(tmp_path, f"Starting up, seed=3\n{line}\n")

    assert [update.step for update in updates] == [step]
    assert {name: repr(value) for name, value in updates[0].readings.items()} == {
        name: repr(float(value)) for name, value in readings.items()
    }


def test_progress_bars_and_colours_do_not_hide_a_row(tmp_path: Path) -> None:
    text = "  1%|\r  2%|\r\x1b[32mstep=1 loss=0.5\x1b[0m\r  3%|\nstep=2 loss=0.4\r\n"

    _, updates = console(tmp_path, text)

    assert [(update.step, update.readings["loss"]) for update in updates] == [(1, 0.5), (2, 0.4)]


def test_a_log_line_inside_a_table_does_not_split_it(tmp_path: Path) -> None:
    first, second = (TABLE.format(reward=1, number=n, kl=0.1) for n in (1, 2))
    lines = first.splitlines(keepends=True)
    lines.insert(3, "UserWarning: something harmless\n")

    _, updates = console(tmp_path, "".join(lines) + second)

    assert [update.step for update in updates] == [1, 2]
    assert updates[0].readings == {
        "rollout/ep_rew_mean": 1,
        "time/iterations": 1,
        "train/approx_kl": 0.1,
    }


def test_a_traceback_becomes_a_failure_on_the_last_row(tmp_path: Path) -> None:
    text = TABLE.format(reward="nan", number=7, kl="nan") + (
        "Traceback (most recent call last):\n"
        '  File "train.py", line 3, in <module>\n'
        "    model.learn(1000)\n"
        "ValueError: Expected parameter loc (Tensor of shape (64, 1)) of distribution Normal\n"
        "tensor([[nan]])\n"
    )

    _, updates = console(tmp_path, text)

    assert len(updates) == 1
    assert math.isnan(updates[0].readings["train/approx_kl"])
    event = updates[0].event
    assert event is not None
    assert event["kind"] == "failed"
    assert event["error"].startswith("ValueError: Expected parameter loc")


def test_an_exception_that_training_survived_is_no_failure(tmp_path: Path) -> None:
    text = (
        "step=1 loss=0.5\nTraceback (most recent call last):\n  File x\nMyCrash\nstep=2 loss=0.4\n"
    )

    _, updates = console(tmp_path, text)

    assert [update.step for update in updates] == [1, 2]
    assert updates[0].event == {"kind": "log", "level": "error", "text": "MyCrash"}


def test_an_exception_before_a_restart_is_a_failure_of_the_first_attempt(tmp_path: Path) -> None:
    text = (
        "step=5 loss=0.5\nTraceback (most recent call last):\n  File x\nMyCrash\nstep=1 loss=0.4\n"
    )

    _, updates = console(tmp_path, text)

    assert [(update.step, update.attempt) for update in updates] == [(5, 1), (1, 2)]
    assert updates[0].event == {"kind": "failed", "error": "MyCrash"}


def test_warnings_about_values_are_events_and_a_flood_is_counted(tmp_path: Path) -> None:
    text = "step=1 loss=0.5\n" + "Non-finite values encountered in gradients\n" * 1000

    _, updates = console(tmp_path, text)

    assert len(updates) == 1
    assert updates[0].event == {
        "kind": "log",
        "level": "warning",
        "text": "Non-finite values encountered in gradients",
        "count": 1000,
    }


def test_a_run_that_died_before_its_first_row_still_has_its_error(tmp_path: Path) -> None:
    _, updates = console(
        tmp_path, "Traceback (most recent call last):\n  File x\nRuntimeError: y\n"
    )

    assert [update.event for update in updates] == [{"kind": "failed", "error": "RuntimeError: y"}]


def test_an_event_before_the_first_row_belongs_to_it(tmp_path: Path) -> None:
    _, updates = console(tmp_path, "loss is NaN, retrying\nstep=1 loss=0.5\nstep=2 loss=0.4\n")

    assert [update.step for update in updates] == [1, 2]
    assert updates[0].event is not None
    assert updates[1].event is None


def test_rsl_rl_blocks_follow_each_other(tmp_path: Path) -> None:
    block = (
        "################################################\n"
        "          Learning iteration {number}/50000\n\n"
        "        Computation: 44180 steps/s (collection: 1.731s, learning 0.495s)\n"
        "      Mean surrogate loss: {loss}\n"
        "------------------------------------------------\n"
        "          Total timesteps: 1000\n"
    )
    text = block.format(number=1, loss=0.5) + block.format(number=2, loss="nan")

    log, updates = console(tmp_path, text)

    assert (log.format, log.unit) == ("rsl_rl", "iteration")
    assert [update.step for update in updates] == [1, 2]
    assert math.isnan(updates[1].readings["Loss/surrogate"])
    assert updates[0].readings["computation"] == 44180


def test_a_clock_in_front_of_a_row_is_its_time(tmp_path: Path) -> None:
    _, updates = console(tmp_path, "[2026-11-23 10:00:00,500] step=1 loss=2\n")

    assert updates[0].time == 1795428000.5


@pytest.mark.parametrize(
    "text",
    [
        "a" * 300_000 + "\n",
        "a=" * 10_000 + "\n",
        "loss=" + "1" * 19_000 + "x\n",
        "nan " * 4_900 + "\n",
        "{'" * 9_000 + "\n",
        "step 1: " + "loss " * 3_000 + "\n",
    ],
)
def test_lines_made_to_be_slow_are_not(text: str, tmp_path: Path) -> None:
    log, updates = console(tmp_path, f"step=1 loss=2\n{text}step=2 loss=3\n")

    assert {1, 2} <= {update.step for update in updates}
    assert log.format == "key_value"
