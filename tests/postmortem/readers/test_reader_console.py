"""Console output: the shapes trainers print in, and the errors in between."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from postmortem.kit_postmortem import open_log
from watchstep.core.updates import Update
from watchstep.postmortem.readers import Log
from watchstep.postmortem.readers.stream import ConsoleReader

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
        # A name that looks like half a NaN and half an infinity is no number.
        ("step 10: loss 4.2, user: Ian", 10, {"loss": 4.2}),
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


@pytest.mark.parametrize(
    ("line", "share"),
    [
        ("Test set: Average loss: 1.2, Accuracy: 417/600 (69.5%)", 69.5),
        ("eval accuracy = 417 / 600 [69 %], loss = 1.2", 69.0),
        ("val_accuracy: 69.5%, val_loss: 1.2", 69.5),
    ],
)
def test_a_count_with_its_percentage_is_read_as_that_share(
    line: str, share: float, tmp_path: Path
) -> None:
    _, updates = console(tmp_path, f"step 1: loss 2.0\n{line}\nstep 2: loss 1.9\n")

    shares = [
        value for update in updates for name, value in update.readings.items() if "acc" in name
    ]
    assert shares == [share]


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


BOXED = """\
╭──── Log ────╮
│ Learning iteration 7/9 │
│  Value: inf │
│  KL: 0.1 │
╰─────────────╯
│ Learning iteration 8/9 │
│  Value: 1 │
│  KL: 0.2 │
╰─────────────╯
"""
KERAS_RL = """\
100/500: episode: 2, duration: 0.1s, episode steps: 20, episode reward: 9.0, mean reward: 1.0 \
[0.0, 1.0], loss: 0.4
"""

NESTED = (
    "iteration 9/99\nepoch 1/2\nepoch 2/2\nloss=0.2, entropy=7.4\n"
    "iteration 10/99\nepoch 1/2\nepoch 2/2\nloss=0.3, entropy=7.3\n"
)
RLKIT = (
    "replay_buffer/size       210000\ntrainer/QF1 Loss         1.3e+19\n"
    "trainer/Policy Loss      -2e+10\ntrainer/Entropy          0.5\n"
)
CUT_EPOCH = (
    "Epoch 1/2\n9/9 [====] - loss: 0.5\nEpoch 2/2\n3/9 [=>..] - loss: 0.4\n4/9 [=>..] - loss: 0.3\n"
)
OLD_YOLO = """\
hello
 Epoch   gpu_mem       box       obj    labels  img_size
   1/9     2.64G       0.5       nan         4       416: 100%|##| 7/7 [00:15<00:00]
"""


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        # One reading a line, with and without a logger's prefix.
        ("loss: 0.5\nloss: nan\n", [(1, {"loss": 0.5}), (2, {"loss": math.nan})]),
        ("INFO:root:loss: 4.9\nINFO:root:loss: 37.2\n", [(1, {"loss": 4.9}), (2, {"loss": 37.2})]),
        ("epoch: 0\nloss: 1\nepoch: 1\nloss: nan\n", [(0, {"loss": 1}), (1, {"loss": math.nan})]),
        # Values in wrappers.
        (
            "{'loss': Array(nan, dtype=float32), 'kl': np.float64(1.5), 'step': 3}\n",
            [(3, {"loss": math.nan, "kl": 1.5})],
        ),
        ("global_step=77, episodic_return=[21.]\n", [(77, {"episodic_return": 21})]),
        ("step 5 loss=tensor([0.5], device='cuda:0') lr=--\n", [(5, {"loss": 0.5})]),
        ("step 5 loss=1,234.5 acc=50% kl='1e-3'\n", [(5, {"loss": 1234.5, "acc": 50, "kl": 1e-3})]),
        # Separators.
        ("step 10 - loss: nan - kl: 1\n", [(10, {"loss": math.nan, "kl": 1})]),
        ("step 10 | loss - 0.5 | kl - 0.1\n", [(10, {"loss": 0.5, "kl": 0.1})]),
        (
            "G: nan | D: 1.5\nG: 1 | D: 2\n",
            [(1, {"g_loss": math.nan, "d_loss": 1.5}), (2, {"g_loss": 1, "d_loss": 2})],
        ),
        ("Episode  50/400 | Average Reward (100 ep): 22.6\n", [(50, {"average_reward": 22.6})]),
        (
            "step 3: Reward: mean=nan, std=0.5\n",
            [(3, {"reward_mean": math.nan, "reward_std": 0.5})],
        ),
        # Headings that number the block beneath them.
        ("Eval metrics at step 6:\n  reward_mean: nan\n", [(6, {"val_reward_mean": math.nan})]),
        ("Iteration 3027\nloss: 0.5\nkl: 2\n", [(3027, {"loss": 0.5, "kl": 2})]),
        (
            BOXED,
            [
                (7, {"Loss/value_function": math.inf, "kl": 0.1}),
                (8, {"Loss/value_function": 1, "kl": 0.2}),
            ],
        ),
        # Two quantities are two series.
        (
            "step 1 loss 0.5 nll_loss 0.4 | val: loss 0.9\n",
            [(1, {"loss": 0.5, "nll_loss": 0.4, "val/loss": 0.9})],
        ),
        (
            KERAS_RL,
            [
                (
                    2,
                    {
                        "duration": 0.1,
                        "episode_steps": 20,
                        "episode_reward": 9,
                        "mean_reward": 1,
                        "loss": 0.4,
                    },
                )
            ],
        ),
        # Tables by columns.
        (
            "hello\nStep\tTraining Loss\n1\tNo log\n2\tnan\n3\t0.5\n",
            [(2, {"Training_Loss": math.nan}), (3, {"Training_Loss": 0.5})],
        ),
        (
            "E    #     LOSS NER  SCORE\n---  ----  --------  ------\n  0   200     45.23    0.5\n",
            [(200, {"LOSS_NER": 45.23, "SCORE": 0.5})],
        ),
        (
            # YOLO before version 7; its bar goes on after the last cell.
            OLD_YOLO,
            [
                (
                    1,
                    {
                        "gpu_mem": 2.64,
                        "box_loss": 0.5,
                        "obj_loss": math.nan,
                        "labels": 4,
                        "img_size": 416,
                    },
                )
            ],
        ),
        # Numbers that stand before their names.
        ("start\nit    100, 3.2 loss, 1.5 gnorm\n", [(100, {"loss": 3.2, "gnorm": 1.5})]),
        (
            "start\n7:\tlearn: 0.6\ttest: 0.7\tbest: 0.7 (3)\ttotal: 5ms\tremaining: 9s\n",
            [
                (
                    7,
                    {
                        "train_loss": 0.6,
                        "test_loss": 0.7,
                        "best_test_loss": 0.7,
                        "total": 5,
                        "remaining": 9,
                    },
                )
            ],
        ),
        (
            "start\n[2021-03-01 10:00:01] Ep. 1 : Up. 500 : Cost 9.1 * 123,456 : gNorm nan\n",
            [(500, {"cost": 9.1, "gnorm": math.nan})],
        ),
        (
            "Eval num_timesteps=3000, episode_reward=10.5 +/- 2\n",
            [(3000, {"episode_reward": 10.5})],
        ),
        # A loss that is printed without its name.
        (
            "iter 3: tensor(nan, device='cuda:0', grad_fn=<NllLossBackward0>)\n",
            [(3, {"loss": math.nan})],
        ),
        # What a person writes around the log is none of it.
        ("Training loss becomes nan after 40 steps.\nstep 1 loss 0.5\n", [(1, {"loss": 0.5})]),
        # Counters: ranges, after the readings, under a logger's prefix.
        ("Epoch[0] Batch [20-40]\tcross-entropy=2.5\n", [(40, {"cross-entropy": 2.5})]),
        ("Critic Loss = 0.5 | Learner Steps = 300\n", [(300, {"critic_loss": 0.5})]),
        ("INFO:root:[Epoch 3] loss=2.5 val=0.1\n", [(3, {"loss": 2.5, "val": 0.1})]),
        (
            "start\n[Iter: 7 / lr: 1e-4] \tTime: 9.5 (Data: 4) \tErr: 3.5\n",
            [(7, {"lr": 1e-4, "time": 9.5, "data": 4, "err": 3.5})],
        ),
        # Names in brackets. A step without an end counts over the run, an iteration with one not.
        (
            "start\n| E5 iter[ 14/ 15] | [Loss] nan | [step]    89 |\n",
            [(89, {"loss": math.nan})],
        ),
        ("start\niter 14/15 | loss 0.5 | step 89\n", [(89, {"loss": 0.5, "iter": 14})]),
        (
            "start\n<epoch: 3, iter:  12,800, lr:1e-04> l_g: 0.5 loss: 2\n",
            [(12800, {"lr": 1e-4, "l_g": 0.5, "loss": 2})],
        ),
        ("start\nFrame number: 07943  Average reward: 11.5\n", [(7943, {"average_reward": 11.5})]),
        # A thousand rounded off is no number of an update.
        ("start\nEpoch: 3 | Loss: 0.5 | Step: 424k\n", [(3, {"loss": 0.5})]),
        # An evaluation's bar numbers nothing.
        (
            "Epoch 1 loss=0.5: 100%|#| 10/10 [0:01]\nEpoch 1 (val) acc=1: 2%|#| 2/9 [0:01]\n",
            [(10, {"loss": 0.5, "val_acc": 1})],
        ),
        # An old CatBoost, which leaves out the blank.
        (
            "start\n0:\tlearn 0.635passed: 17.4 sec\ttotal: 3m 13s\tremaining: 3h 42m 6s\n",
            [(0, {"train_loss": 0.635, "passed": 17.4})],
        ),
        # Epochs within an iteration of PPO do not hide its number.
        (
            NESTED,
            [(9, {"loss": 0.2, "entropy": 7.4}), (10, {"loss": 0.3, "entropy": 7.3})],
        ),
        # A lone table of rlkit is no settings.
        (
            RLKIT,
            [
                (
                    1,
                    {
                        "replay_buffer/size": 210000,
                        "trainer/QF1_Loss": 1.3e19,
                        "trainer/Policy_Loss": -2e10,
                        "trainer/Entropy": 0.5,
                    },
                )
            ],
        ),
        # Keras' epoch in which the log breaks off is told as far as it came.
        (
            CUT_EPOCH,
            [(1, {"loss": 0.5}), (2, {"loss": 0.3})],
        ),
        # W&B's summary at the end repeats the last readings.
        (
            "step 1 loss 0.5\nwandb: Run summary:\nwandb: loss 0.5\nwandb: kl 0.1\n",
            [(1, {"loss": 0.5})],
        ),
        # What stands for not a number in YAML, as RLlib prints its results.
        (
            (
                "Result for PPO:\n  entropy: .nan\n  kl: -.inf\n  training_iteration: 1\n"
                "Result for PPO:\n  entropy: 0.5\n  kl: .5\n  training_iteration: 2\n"
            ),
            [
                (1, {"entropy": math.nan, "kl": -math.inf, "training_iteration": 1}),
                (2, {"entropy": 0.5, "kl": 0.5, "training_iteration": 2}),
            ],
        ),
        # Sides of the data without a word for what is measured.
        (
            "Epoch 1 | train 0.9 | valid 0.8\nEpoch 2 | train 0.7 | valid 0.75\n",
            [(1, {"train": 0.9, "valid": 0.8}), (2, {"train": 0.7, "valid": 0.75})],
        ),
        # MXNet's Module.fit, whose only measure may be an accuracy.
        (
            "INFO:root:Epoch[0] Train-accuracy=0.1\nINFO:root:Epoch[1] Train-accuracy=0.2\n",
            [(0, {"train-accuracy": 0.1}), (1, {"train-accuracy": 0.2})],
        ),
        # A row of two cells between bars is none of a table.
        (
            "| step 10 | train_loss 3.5 |\n| step 20 | train_loss 3.25 |\n",
            [(10, {"train_loss": 3.5}), (20, {"train_loss": 3.25})],
        ),
        # A table of commas that is printed.
        (
            "loading data\nepoch,train_loss,lr\n1,2.5,0.1\n2,2.25,0.1\n",
            [
                (1, {"epoch": 1, "train_loss": 2.5, "lr": 0.1}),
                (2, {"epoch": 2, "train_loss": 2.25, "lr": 0.1}),
            ],
        ),
        # One JSON object a line after prose, by a name of no table; settings are no row.
        (
            (
                'device: cpu\n{"batch_size": 64, "lr": 0.1, "seed": 3}\n'
                '{"step": 7, "nt_xent": 2.5, "top1": 0.5}\n{"step": 8, "zorp": NaN}\n'
            ),
            [(7, {"nt_xent": 2.5, "top1": 0.5}), (8, {"zorp": "nan"})],
        ),
        # Beside a counter any name is a reading; not what tells of a download or a machine.
        ("[  310/600] bce: nan | IoU: 0.5\n", [(310, {"bce": "nan", "iou": 0.5})]),
        ("[10/600] zorp: 0.5\n[20/600] zorp: 0.25\n", [(10, {"zorp": 0.5}), (20, {"zorp": 0.25})]),
        ("<10/600> dice=0.5\n", [(10, {"dice": 0.5})]),
        ("10/600 ntx = 5e-01\n", [(10, {"ntx": 0.5})]),
        ("it=10 zorp=0.5\n", [(10, {"zorp": 0.5})]),
        ("step 10 zorp 0.5 quux 1.5\n", [(10, {"zorp": 0.5, "quux": 1.5})]),
        ("[3/20][10/600] zorp -> 0.5\n", [(10, {"zorp": 0.5})]),
        ("round    20: reward +0.5  regret 1.5\n", [(20, {"reward": 0.5, "regret": 1.5})]),
        ("Generation 3 | fitness 2.5\n", [(3, {"fitness": 2.5})]),
        # The epoch and the step in it, as PyTorch's tutorials print them; the steps go on.
        (
            "[1,   10] loss: 2.5\n[1,   20] loss: 2.25\n[2,   10] loss: 2.125\n",
            [(10, {"loss": 2.5}), (20, {"loss": 2.25}), (30, {"loss": 2.125})],
        ),
        # Settings before the first row are none.
        ("learning_rate: 0.1\nkl_coef: 0.2\nstep 1 loss 0.5\n", [(1, {"loss": 0.5})]),
        ("Namespace(lr=0.1, target_kl=0.2, seed=3)\nstep 1 loss 0.5\n", [(1, {"loss": 0.5})]),
    ],
)
def test_rows_come_in_these_kinds(
    text: str, rows: list[tuple[int, dict[str, float]]], tmp_path: Path
) -> None:
    _, updates = console(tmp_path, text)

    assert [(update.step, repr(dict(update.readings))) for update in updates] == [
        (step, repr({name: float(value) for name, value in readings.items()}))
        for step, readings in rows
    ]


def bars(first: int, last: int) -> str:
    return "".join(f"\r {n}%|##| {n}/60 [00:01<00:30, 1.00it/s]" for n in range(first, last + 1))


def trained(first: int, last: int) -> str:
    return "".join(
        f"{{'loss': 0.5, 'grad_norm': 1.0, 'epoch': {n / 100}}}\n" for n in range(first, last + 1)
    )


def test_rows_beside_a_bar_that_moves_are_numbered_by_it(tmp_path: Path) -> None:
    text = "".join(bars(10 * n - 9, 10 * n) + "\n" + trained(n, n) for n in range(1, 6)) + bars(
        51, 60
    )

    log, updates = console(tmp_path, text)

    assert (log.unit, [update.step for update in updates]) == ("step", [10, 20, 30, 40, 50])


def test_a_bar_of_what_came_before_training_numbers_no_row(tmp_path: Path) -> None:
    # As axolotl prints it: the bar of a preparation, whose last step tqdm did not draw.
    text = "\r 67%|##| 2/3 [00:01<00:00, 1.68it/s]\n" + "".join(
        bars(n - 1, n) + "\n" + trained(n, n) for n in (10, 20, 30)
    )

    _, updates = console(tmp_path, text)

    assert [update.step for update in updates] == [10, 20, 30]


@pytest.mark.parametrize("bursts", [[(1, 60)], [(1, 35), (36, 60)]])
def test_rows_beside_a_bar_that_stands_still_are_numbered_by_themselves(
    bursts: list[tuple[int, int]], tmp_path: Path
) -> None:
    # Redirected to a file, bars and rows come through two buffers; a burst may cut a row in two.
    text = "".join(bars(*burst) + trained(*burst) for burst in bursts)
    cut = text.rindex("'grad_norm'") - 100
    text = text[:cut] + bars(60, 60) + text[cut:]

    log, updates = console(tmp_path, text)

    assert (log.unit, [update.step for update in updates]) == ("row", list(range(1, 61)))
    assert all(len(update.readings) == 3 for update in updates)


def test_starts_that_failed_before_a_reading_are_history(tmp_path: Path) -> None:
    failed = "Traceback (most recent call last):\n  File x\nRuntimeError: shapes\n"

    log, updates = console(tmp_path, failed * 2 + "step 1 loss 2\nstep 2 loss 1\n")

    assert [(update.step, update.event) for update in updates] == [(1, None), (2, None)]
    assert log.notes == ["a start failed before its first reading (2 times)"]


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (
            "[rank2]:[E704 1 ProcessGroupNCCL.cpp:1746] ProcessGroupNCCL's watchdog got stuck",
            "failed",
        ),
        ("ERROR:tensorflow:Model diverged with loss = NaN.", "failed"),
        ("XlaRuntimeError: INTERNAL: failed to execute", "failed"),
        ("FloatingPointError: Minimum loss scale reached (0.0001).", "failed"),
        (
            "(trainer:404) WARNING: Something seems wrong. This training was stopped at 2epoch",
            "failed",
        ),
        ("torch.distributed.elastic: failed (exitcode: -9) local_rank: 0", "failed"),
        ("torch.distributed.elastic: failed (exitcode: -15) local_rank: 0", "preempted"),
        ("Killed", "failed"),
        ("**Killed**", "failed"),
        ("trainer-1  | Killed", "failed"),
        ("trainer-1 exited with code 137", "failed"),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", "failed"),
        ("OSError: [Errno 28] No space left on device", "failed"),
        ("Assertion `t >= 0 && t < n_classes` failed.", "failed"),
        ("Traceback (most recent call last):\n  File 'x.py', line 3", "failed"),
        ("slurmstepd: error: *** JOB 1 CANCELLED AT 2025-01-01 DUE TO TIME LIMIT ***", "preempted"),
        ("Received SIGTERM, exiting", "preempted"),
        ("KeyboardInterrupt", "halted"),
        ("Training completed successfully!", "finished"),
        ("`Trainer.fit` stopped: `max_epochs=3` reached.", "finished"),
    ],
)
def test_the_words_that_a_run_ends_in_are_understood(words: str, kind: str, tmp_path: Path) -> None:
    _, updates = console(tmp_path, f"step 1 loss 2\nstep 2 loss 1\n{words}\n")

    assert [update.step for update in updates] == [1, 2]
    assert updates[-1].event is not None
    assert updates[-1].event["kind"] == kind


@pytest.mark.parametrize(
    "words",
    [
        "Exit code 0 from the tokenizer",
        "downloader-1 exited with code 0",
        "Will save the model once training is complete",
        "step 3 test_error: 0.5 loss: 2",
        "Using exception handler v2",
    ],
)
def test_words_that_are_no_end_are_none(words: str, tmp_path: Path) -> None:
    _, updates = console(tmp_path, f"step 1 loss 2\nstep 2 loss 1\n{words}\n")

    assert [update.event for update in updates[:2]] == [None, None]


def test_a_row_written_through_tqdm_has_the_number_of_the_bar_drawn_after_it(
    tmp_path: Path,
) -> None:
    # As Transformers 5.20 prints fast steps: the bar lags, is wiped out, and drawn anew.
    bar = "\r  4%|#   | {}/24 [00:00<00:01, 57.18it/s]"
    text = bar.format(0)
    for n in range(1, 5):
        text += f"\r{' ' * 46}\n{{'loss': '0.5', 'grad_norm': 'nan', 'epoch': '{n / 12}'}}\n"
        text += f"\n{bar.format(n)}"

    log, updates = console(tmp_path, text)

    assert (log.unit, [update.step for update in updates]) == ("step", [1, 2, 3, 4])
    assert math.isnan(updates[0].readings["grad_norm"])


def test_what_follows_a_failure_that_names_its_update_is_of_that_update(tmp_path: Path) -> None:
    error = "FloatingPointError: Loss became infinite or NaN at iteration=2137!\n"
    losses = "loss_dict = {'loss_cls': tensor(nan, device='cuda:0'), 'loss_mask': tensor(9.0),\n"
    trace = f'Traceback (most recent call last):\n  File "x.py", line 1\n{error}{losses}'

    _, alone = console(tmp_path, trace)
    _, after = console(tmp_path, f"iter: 2119 total_loss: 3.5 lr: 0.1\n{trace}")

    for updates in (alone, after):
        assert updates[-1].step == 2137
        assert math.isnan(updates[-1].readings["loss_cls"])
        assert updates[-1].event is not None
        assert updates[-1].event["kind"] == "failed"


def test_a_loss_scale_whose_digits_are_damaged_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    words = "Gradient overflow, reducing loss scale to 1.5.813"

    _, updates = console(tmp_path, f"step 1 loss 2\n{words}\nstep 2 loss 1\n")

    assert updates[-1].readings == {"loss": 1, "loss_scale": 1.5}


def test_bars_of_an_epoch_tell_how_it_came_to_a_nan(tmp_path: Path) -> None:
    bar = " {at}/20 \u2501\u2501\u2501\u2501 1s 9ms/step - loss: {loss} - mae: 1.5\r"
    losses = ["2.5", "2.4", "16335.5", "2.4e7", "1e22", "inf", "nan"]
    text = "Epoch 1/9\n" + "".join(bar.format(at=n, loss=loss) for n, loss in enumerate(losses, 1))

    _, updates = console(tmp_path, text + "\n")

    shown = [update.readings["loss"] for update in updates]
    assert shown[:4] == [16335.5, 2.4e7, 1e22, math.inf]
    assert {(update.attempt, update.step) for update in updates} == {(1, 1)}


@pytest.mark.parametrize(
    "line",
    [
        "[10/600] Downloading: 45.2 MB/s",
        "step 10 took 3.21 s",
        "[3/8] mem: 3.5 GB  gpu: 0.5",
        "Step 3/10 : RUN pip install torch==2.1",
        '{"learning_rate": 0.001, "epochs": 10, "seed": 3}',
        '{"level": "info", "ts": 1795000000.6, "msg": "ready"}',
    ],
)
def test_what_counts_work_or_tells_of_a_machine_is_no_row(line: str) -> None:
    reader = ConsoleReader()

    assert [*reader.feed(f"{line}\n".encode()), *reader.close()] == []
