"""Kinds of lines of which readings were once lost, or taken for others."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from watchstep.core.roles import role_of
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
            [(29, {"mean_objective_x": -0.25})],
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


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("[7/90] loss 2.5\n[8/90] loss 2.4\n", [(7, {"loss": 2.5}), (8, {"loss": 2.4})]),
        ("Train [0070/0900] loss: 2.5 gnorm: 1\n", [(70, {"loss": 2.5, "gnorm": 1})]),
        (
            "[1/9][40/50] Loss: 3\n[2/9][10/50] Loss: 2\n",
            [(40, {"loss": 3}), (60, {"loss": 2})],
        ),
        ("[7/90] loss 2.5\nval [1/3] loss 2.4\n", [(7, {"loss": 2.5, "val_loss": 2.4})]),
    ],
)
def test_a_place_in_brackets_before_readings_is_the_step(
    text: str, rows: Rows, tmp_path: Path
) -> None:
    check(tmp_path, text, rows)


UNITS = "step {0} | loss 2.{0} | kl 0.1 | gnorm 1.5 | 73.{0} img/s"


@pytest.mark.parametrize(
    ("last", "readings", "partial"),
    [
        (UNITS.format(4), {"loss": 2.4, "kl": 0.1, "gnorm": 1.5}, False),
        ("step 4 | loss 2.4 | kl 0.", {"loss": 2.4}, True),
        ("step 4 | loss 2.4 | kl 0.1 | gnorm 1.5 | im", {"loss": 2.4}, True),
        ("step 4 | loss 2.4 | kl:", {"loss": 2.4}, True),
        # The loss did not vanish, and a NaN is never cut away.
        ("step 4 | loss:", None, True),
        ("step 4 | kl nan | loss:", {"kl": NAN}, True),
    ],
)
def test_only_the_last_line_of_a_log_can_be_torn(
    last: str, readings: dict[str, float] | None, partial: bool, tmp_path: Path
) -> None:
    path = tmp_path / "out.log"
    path.write_text("\n".join([*(UNITS.format(step) for step in (1, 2, 3)), last]))
    (log,) = open_logs([path])

    rows = [(update.step, dict(update.readings)) for update in log.updates]

    assert log.partial is partial
    assert len(rows) == (3 if readings is None else 4)
    if readings is not None:
        assert rows[-1][0] == 4
        assert {name: repr(rows[-1][1][name]) for name in readings} == {
            name: repr(float(value)) for name, value in readings.items()
        }


@pytest.mark.parametrize("last", ["lr: 0.00", "lr: 0.000", "lr: 0"])
def test_a_number_with_fewer_decimals_than_before_is_torn(last: str, tmp_path: Path) -> None:
    lines = [*(f"step {n} - loss 0.5 - lr: 0.000031" for n in (1, 2, 3)), "step 4 - loss 0.4 - "]
    updates = updates_of(tmp_path, "\n".join(lines) + last)

    assert dict(updates[-1].readings) == {"loss": 0.4}


@pytest.mark.parametrize(
    ("table", "losses"),
    [
        ("step;loss;lr\n1;0,250;1e-3\n2;0,125;1e-3\n", [0.25, 0.125]),
        ("step\tloss\n1\t12,5\n2\tnan\n", [12.5, NAN]),
        ("step;loss\n1;1,250e-01\n2;2,000\n", [0.125, 2.0]),
        # Thousands, and numbers with a point.
        ("step;loss\n1;1,250\n2;2,000\n", [1250, 2000]),
        ("step;loss;kl\n1;1,250;0.5\n2;2,000;0.25\n", [1250, 2000]),
    ],
)
def test_decimals_may_stand_behind_a_comma(table: str, losses: list[float], tmp_path: Path) -> None:
    path = tmp_path / "progress.csv"
    path.write_text(table)
    (log,) = open_logs([path])

    assert [repr(update.readings["loss"]) for update in log.updates] == [
        repr(float(loss)) for loss in losses
    ]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        # Durations are no numbers, darknet's means over nothing no NaNs.
        ("5: loss: 0.5 left: 2h 3m 4s\n", [(5, {"loss": 0.5})]),
        ("step 5 loss 0.5 passed 3m 4s kl 2\n", [(5, {"loss": 0.5, "kl": 2})]),
        ("start\nstep 5, loss 0.5, IOU: -nan, count: 0\n", [(5, {"loss": 0.5, "count": 0})]),
        (
            "start\nstep 5, loss 0.5, IOU: -nan, count: 2\n",
            [(5, {"loss": 0.5, "iou": NAN, "count": 2})],
        ),
        ("epoch 5 nll_train 0.5\n", [(5, {"nll_train": 0.5})]),
        (
            "score. mean: 2.5 +- 3 [0, 9]\nscore. mean: 3.5 +- 3 [0, 9]\n",
            [(1, {"score_mean": 2.5}), (2, {"score_mean": 3.5})],
        ),
    ],
)
def test_numbers_are_what_was_measured(text: str, rows: Rows, tmp_path: Path) -> None:
    check(tmp_path, text, rows)


HEAD = "start\nINFO [a/Main] history : Step\tTrain loss\tValid loss\n"


@pytest.mark.parametrize(
    ("cells", "rows"),
    [
        (
            "5\tnan\t1.5|9\t1.25\tnan",
            [(5, {"Valid_loss": 1.5}), (9, {"Train_loss": 1.25})],
        ),
        # Once both were measured at a time, a NaN is one; so it is alone in its row.
        (
            "5\t1\t1.5|9\tnan\t2",
            [(5, {"Train_loss": 1, "Valid_loss": 1.5}), (9, {"Train_loss": NAN, "Valid_loss": 2})],
        ),
        ("5\tnan\tnan", [(5, {"Train_loss": NAN, "Valid_loss": NAN})]),
    ],
)
def test_a_table_behind_a_loggers_prefix_is_read(cells: str, rows: Rows, tmp_path: Path) -> None:
    lines = (f"INFO [a/Main] history : {row}\n" for row in cells.split("|"))

    check(tmp_path, HEAD + "".join(lines), rows)


@pytest.mark.parametrize(
    "words",
    [
        "sample: Traceback (most recent call last): shows where a program failed",
        "output: RuntimeError: CUDA out of memory is what you saw",
        "Traceback (most recent call last):\n  File 'a.py'\nOSError: reset",
    ],
)
@pytest.mark.parametrize("goes_on", ["{'loss': 0.4, 'epoch': 0.3}\n", "Training finished\n"])
def test_an_exception_that_training_survives_is_no_failure(
    words: str, goes_on: str, tmp_path: Path
) -> None:
    rows = "{'loss': 0.6, 'epoch': 0.1}\n{'loss': 0.5, 'epoch': 0.2}\n"

    updates = updates_of(tmp_path, f"{rows}{words}\n{goes_on}")

    assert "failed" not in [update.event["kind"] for update in updates if update.event]


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("Epoch 7: early stopping", "finished"),
        ("Epoch 00007: early stopping", "finished"),
        ("callbacks: early stopping after 5 epochs", None),
        ("  what():  Encountered NaN.", "failed"),
        ("Traceback (most recent call last):\n  File 'a.py'\nOSError: reset", "failed"),
    ],
)
def test_last_words_end_a_run_as_they_say(words: str, kind: str | None, tmp_path: Path) -> None:
    updates = updates_of(tmp_path, f"step 1 loss 0.5\nstep 2 loss 0.4\n{words}\n")

    assert (updates[-1].event or {}).get("kind") == kind


@pytest.mark.parametrize("name", ["best_test_loss", "best_val_loss", "eval/best_accuracy"])
def test_a_running_best_is_no_evaluation(name: str) -> None:
    assert role_of(name) == "unknown"
    assert role_of(name.replace("best_", "")) in {"eval_loss", "eval_score"}


STEPS = "".join(f"step {n}: loss {3 - n / 10:.1f} lr 0.1\n" for n in range(1, 6))


@pytest.mark.parametrize(
    "stray",
    [
        # Window titles and colours, as bytes or as viewers show them.
        "\x1b]2;70/6000: loss=9.5 hours left=717.2\x07\n",
        "ESC]0;70/6000: loss=9.5 hours left=717.2^G\n",
        "^[]2;70/6000: loss=9.5 hours left=717.2^G\n",
        # Places in code, after a bar too.
        "/a" * 60 + "/lib/python3.11/reward_trainer.py:105: FutureWarning: x.ndim == 1\n",
        "  1%|1  | 9/1400 [00:10<00:50]/opt/reward_loss.py:256: UserWarning: x\n",
        "[W a.cpp:3] Warning: x (Triggered internally at ../aten/loss/Shape.cpp:3614.)\n",
        "Namespace(epochs=9, lr=0.1, dropout=0.2, kl_loss=1.0)\n",
    ],
)
@pytest.mark.parametrize("before", [True, False])
def test_what_is_no_reading_makes_no_row(stray: str, before: bool, tmp_path: Path) -> None:
    updates = updates_of(tmp_path, stray + STEPS if before else STEPS + stray)

    assert [(u.step, u.readings["loss"]) for u in updates if u.readings] == [
        (n, pytest.approx(3 - n / 10)) for n in range(1, 6)
    ]


def test_a_table_of_a_models_layers_numbers_nothing(tmp_path: Path) -> None:
    layers = "  | Name | Type | Params\n---------------\n0 | encoder | Encoder | 4.8 M\n"
    layers += "1 | rec_loss_fn | SmoothL1Loss | 0\n---------------\n16.1 M  Trainable params\n"
    blocks = "".join(f"Epoch {n}\nloss: {3 - n}\nacc: 0.5\n" for n in range(3))
    rows = "".join(f"Epoch {n}: loss {3 - n} acc 0.5\n" for n in range(3))

    for epochs in (blocks, rows):
        assert [u.step for u in updates_of(tmp_path, layers + epochs)] == [0, 1, 2]


@pytest.mark.parametrize(
    "settings",
    [
        "learning_rate: 2.0e-5\nwarmup_ratio: 0.0\nmax_grad_norm: 0.0\nbatch_size: 4\n",
        "target_kl: 0.01\nloss_weight: 1.0\nseed: 3\n",
        "num_train_epochs: 3\nbatch_size: 8\nentropy: 0.01\n",
    ],
)
def test_settings_behind_the_rows_are_no_row(settings: str, tmp_path: Path) -> None:
    rows = "".join(f"{{'loss': {3 - n}, 'grad_norm': 0.5, 'epoch': 0.{n}}}\n" for n in range(3))

    assert [u.readings["loss"] for u in updates_of(tmp_path, rows + settings)] == [3, 2, 1]


@pytest.mark.parametrize("zeros", [4, 70_000])
def test_zeros_at_the_beginning_are_skipped_with_a_word(zeros: int, tmp_path: Path) -> None:
    path = tmp_path / "out.log"
    path.write_bytes(bytes(zeros) + STEPS.encode())
    (log,) = open_logs([path])

    assert [update.step for update in log.updates] == [1, 2, 3, 4, 5]
    assert log.partial
    assert "zeros" in log.notes[0]


@pytest.mark.parametrize(
    "prefix",
    [
        "22:12:56.867\tfine-work-03:0\tsome.train:990\tINFO\t",
        "2025-12-27 22:12:56.867\tnode-7:3\tmy_trainer.loop:12\tWARNING\t",
        "2025-12-27 22:12:56\thost.example.org\t4711\tINFO\t",
    ],
)
def test_columns_between_tabs_in_front_hide_no_heading(prefix: str, tmp_path: Path) -> None:
    text = "".join(
        f"{prefix}[step={n}/900,epoch=0]\n    train/loss={4 - n / 10}\n    optim/lr=0.1\n"
        for n in range(10, 40, 10)
    )

    assert [(u.step, u.readings["train/loss"]) for u in updates_of(tmp_path, text)] == [
        (10, 3),
        (20, 2),
        (30, 1),
    ]


@pytest.mark.parametrize(
    "bar",
    [
        "Epoch {epoch}/9  ━━━━━━━ {at}/40 0:00:01 • 0:00:00 31.81it/s train_loss: {loss}\n",
        "Epoch {epoch}:  82%|████ | {at}/40 [00:01<00:00, 31.8it/s, v_num=0, train_loss={loss}]\n",
    ],
)
@pytest.mark.parametrize("first", [0, 5])
def test_lightnings_bar_tells_the_update_although_epochs_before_are_not_in_the_log(
    bar: str, first: int, tmp_path: Path
) -> None:
    text = "".join(
        bar.format(epoch=epoch, at=at, loss=2.5) for epoch in (first, first + 1) for at in (20, 33)
    )

    assert [update.step for update in updates_of(tmp_path, text)] == [
        40 * first + at for at in (20, 33, 60, 73)
    ]
