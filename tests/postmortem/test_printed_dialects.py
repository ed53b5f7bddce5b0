"""How trainers print themselves, and what is made of it: the form is theirs, the numbers are not.

Forms: marian-nmt/marian-dev, PaddlePaddle/PaddleNLP (model_zoo/ernie-1.0), XPixelGroup/BasicSR,
dbolya/yolact, oxwhirl/pymarl, takuseno/d3rlpy, pytorch/tutorials (char_rnn, seq2seq_translation),
spro/char-rnn.pytorch.
"""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest

from postmortem.kit_postmortem import alerts_of, examined, judged


def test_a_loss_on_every_row_stands_although_an_evaluation_prints_another(tmp_path: Path) -> None:
    noise = random.Random(1)
    lines = []
    for row in range(1, 60):
        clock = f"[2024-02-11 12:{row:02}:33]"
        cost = 3.3 + 5 / row + noise.gauss(0, 0.02)
        lines.append(f"{clock} Ep. 1 : Up. {row}00 : Cost {cost:.4f} : Time 175.1s : gNorm 0.8")
        if row % 10 == 0:
            lines.append(f"{clock} [valid] Ep. 1 : Up. {row}00 : cross-entropy : 35.2 : new best")

    examination = judged(tmp_path, lines)

    assert examination.verdict == "healthy"
    assert examination.last_update == 5900


def test_the_batch_of_an_evaluation_and_a_loss_scaling_are_no_position_and_no_loss(
    tmp_path: Path,
) -> None:
    noise = random.Random(1)
    lines = []
    for row in range(1, 60):
        loss = 5 + 5 / row + noise.gauss(0, 0.05)
        lines.append(f"global step {row}00, loss: {loss:.4f}, loss_scaling: 32768.00, speed: 2.9")
        if row % 10 == 0:
            lines.append(f"valid step {row}00, batch: 10, loss: {loss + 0.1:.4f}, ips: 135 seqs/s")

    examination = judged(tmp_path, lines)

    assert (examination.verdict, examination.attempts) == ("healthy", 1)
    assert examination.last_update == 5900


def test_a_discriminator_may_swing_by_orders_of_magnitude(tmp_path: Path) -> None:
    noise = random.Random(1)
    lines = [
        f"[epoch: {row}, iter: {row}00, lr:(1.000e-04,)] l_g_pix: {noise.uniform(2e-4, 5e-4):.4e} "
        f"l_g_gan: {noise.uniform(0.02, 0.1):.4e} l_d_real: {10 ** noise.uniform(-6, 0.7):.4e}"
        for row in range(1, 200)
    ]

    examination = judged(tmp_path, lines)

    assert examination.verdict == "healthy"


def test_letters_of_yolact_are_losses_and_the_second_number_is_the_iteration(
    tmp_path: Path,
) -> None:
    lines = [
        f"[  0] {row * 10:7} || B: {5 - row / 50:.3f} | C: {9 - row / 20:.3f} | M: 5.9 | S: 1.5 "
        f"| T: {'nan' if row > 50 else 20 - row / 10:} || ETA: 3 days, 0:31:55 || timer: 1.306"
        for row in range(80)
    ]

    examination = judged(tmp_path, lines)

    assert (examination.verdict, examination.first_bad_update) == ("diverged", 510)


def test_the_lines_under_recent_stats_are_one_report_at_their_time_step(tmp_path: Path) -> None:
    lines = []
    for row in range(1, 41):
        lines += [
            f"[INFO 02:{row}:21] my_main t_env: {row}0014 / 2050000",
            f"[INFO 02:{row}:21] my_main Recent Stats | t_env:      {row}0039 | Episode:      387",
            "battle_won_mean:           0.0000\tep_length_mean:           50.4415",
            f"grad_norm:                 0.3502\tloss:                      {1 / row:.4f}",
            f"return_mean:               {row / 3:.4f}\treturn_std:                2.1629",
        ]

    examination = judged(tmp_path, lines)

    assert (examination.updates, examination.last_update) == (40, 400039)


def test_rows_that_count_over_the_run_beside_bars_of_epochs_are_one_attempt(tmp_path: Path) -> None:
    lines = []
    for epoch in range(1, 31):
        loss = 3 / epoch
        lines += [
            (
                f"Epoch {epoch}/30: 100%|████| 1000/1000 [00:41<00:00, 242.35it/s, "
                f"critic_loss={loss:.3g}]"
            ),
            (
                f"2024-01-03 08:{epoch:02}.35 [info     ] IQL: epoch={epoch} step={epoch}000 "
                f"epoch={epoch} metrics={{'time_step': 0.0117, 'critic_loss': {loss:.9f}}} "
                f"step={epoch}000"
            ),
        ]

    examination = judged(tmp_path, lines)

    assert (examination.attempts, examination.last_update) == (1, 30000)


def test_an_episode_that_a_bar_goes_through_is_numbered_by_the_bar(tmp_path: Path) -> None:
    noise = random.Random(3)
    lines = [
        f"Episode [1/1]:  {row // 5}%|###| {row}/500 [12:00<9:11:00, 71.2s/it, "
        f"policy_loss={noise.gauss(0, 0.003):.5f}, kl={0.001 * 1.12 ** max(row - 60, 0):.5f}, "
        f"reward={0.6 - 0.6 * (row > 60):.3f}, critic_loss={0.05 + noise.random() / 99:.4f}]"
        for row in range(1, 120)
    ]

    examination = judged(tmp_path, lines)

    assert examination.verdict != "healthy"
    assert examination.first_bad_update == 61
    assert examination.last_update == 119


def test_a_loss_around_zero_of_an_agent_that_swings_is_not_blamed_on_the_inputs(
    tmp_path: Path,
) -> None:
    noise = random.Random(4)
    lines = []
    for row in range(1, 200):
        lost = row > 140
        loss = noise.gauss(0.5, 0.4) if lost else noise.gauss(0, 0.001)
        lines.append(f"step={row} loss={loss:.5f} grad_norm={noise.uniform(1, 9) ** lost:.3f}")
        lines.append(f"reward_mean: {(0.1 if lost else 0.3) + noise.gauss(0, 0.005):.4f}")

    examination = judged(tmp_path, lines)

    assert examination.verdict != "healthy"
    assert all(cause.name != "input-scale" for cause in examination.causes[:1])


def test_a_whole_number_between_a_loss_s_name_and_its_value_counts(tmp_path: Path) -> None:
    lines = [
        f"Train loss {row}0 {0.3 + 9 / row:.6f} Grad Norm 1.2 2.31s/it" for row in range(1, 99)
    ]
    lines.append("Validation loss 980:  0.412000  ")

    examination = judged(tmp_path, lines)

    assert (examination.verdict, examination.last_update) == ("healthy", 980)


def test_a_step_that_is_rounded_to_thousands_numbers_nothing(tmp_path: Path) -> None:
    lines = [
        f"INFO train.py:241 step:{row}K smpl:{8 * row}K ep:{row // 3} loss:{0.3 + 9 / row:.3f} "
        f"grdn:{2 + row % 3:.3f} lr:1.0e-05 updt_s:0.141"
        for row in range(1, 99)
    ]
    lines += [line.replace("loss:", "loss:nan #") for line in lines[-9:]]

    examination = judged(tmp_path, lines)

    assert (examination.verdict, examination.attempts) == ("diverged", 1)
    assert examination.first_bad_update in (None, 99)


def test_a_giant_spike_that_is_learnt_off_again_is_not_blamed_on_a_resume(tmp_path: Path) -> None:
    noise = random.Random(5)
    lines = []
    for row in range(300):
        loss = 0.3 + 30 * 0.96 ** (row if row < 200 else row - 200)
        spike = 900.0 if row == 200 else 1.0
        norm = noise.uniform(1, 2) * 1e6 ** (spike > 1)
        lines.append(f"step {row} loss {loss * spike * noise.gauss(1, 0.04):.4f} norm {norm:.3f}")

    examination = judged(tmp_path, lines)

    assert examination.verdict != "healthy"
    assert all(cause.name != "lost-at-resume" for cause in examination.causes[:1])


def test_a_loss_that_fell_and_then_grows_by_a_factor_each_time_is_not_climbed_by_its_sign(
    tmp_path: Path,
) -> None:
    noise = random.Random(6)
    losses = [0.5 + 1.4 * 0.97**row for row in range(150)]
    losses += [losses[-1] * 1.055**row for row in range(50)]
    lines = [
        f"step {row} loss {loss * noise.gauss(1, 0.08):.4f} lr 0.0025"
        for row, loss in enumerate(losses)
    ]

    examination = judged(tmp_path, lines)

    assert examination.verdict == "diverged"
    assert all(cause.name != "loss-sign" for cause in examination.causes[:1])


def test_a_batch_behind_the_slash_counts_within_the_epoch_before_it(tmp_path: Path) -> None:
    lines = []
    for epoch in range(3):
        lines.append(f"INFO Epoch {epoch} TRAIN info lr 4e-08")
        for batch in range(0, 1200, 100):
            at = epoch * 1200 + batch
            loss = "nan" if at >= 1600 else f"{290 / (1 + at / 200):.4f}"
            lines.append(f"DEBUG TRAIN Batch {epoch}/{batch} loss {loss} lr 0.00000008 rank 0")

    examination = judged(tmp_path, lines)

    assert examination.verdict == "diverged"
    assert (examination.first_bad_update, examination.last_good_update) == (1600, 1500)


def test_rewards_that_are_the_same_in_every_episode_are_told(tmp_path: Path) -> None:
    lines = [
        f"Episode {at}/2000 | steps 200 | score -200.0 | avg100 -200.00 | loss {1 / at:.5f}"
        for at in range(1, 400)
    ]

    examination = judged(tmp_path, lines)

    assert "RewardNeverChanged" in alerts_of(examination)


def test_what_was_memorised_and_then_understood_is_healthy(tmp_path: Path) -> None:
    lines = ["epoch,train_loss,train_acc,val_loss,val_acc"]
    for at in range(400):
        understands = at > 250
        memorised = 1 - 0.99 * 0.97**at
        val = 4.6 + 8 * memorised if not understands else max(0.004, 12 * 0.95 ** (at - 250))
        lines.append(
            f"{25 * at},{4.7 * 0.96**at + 1e-3:.5f},{memorised:.4f},{val:.4f},{understands:d}"
        )
    path = tmp_path / "log.csv"
    path.write_text("\n".join(lines) + "\n")

    assert examined(path).verdict == "healthy"


def test_a_rate_that_leaves_its_rounding_has_not_jumped(tmp_path: Path) -> None:
    noise = random.Random(9)
    lines = [
        f"{at}: {500 * 0.99**at * noise.gauss(1.0, 0.2) + 9:.4f}, {500 * 0.99**at + 9:.4f} avg, "
        f"{0.001 * (at / 1000) ** 4:.6f} rate, 3.2 seconds, {64 * at} images"
        for at in range(1, 900)
    ]

    assert judged(tmp_path, lines).verdict == "healthy"


@pytest.mark.parametrize(
    "form",
    [
        "[0m {row}s ({row}0 {row}%) {loss}]",
        "1m 5s (- 9m 2s) ({row}0 {row}%) {loss}",
        "{row}0 {row}% (0m 3s) {loss} Horigome / Japanese x (Czech)",
    ],
)
def test_a_bare_loss_behind_a_count_and_its_share_of_the_training_is_read(
    form: str, tmp_path: Path
) -> None:
    losses = [*(3 / row + 1 for row in range(1, 30)), *[math.nan] * 10]

    examination = judged(
        tmp_path, [form.format(row=row, loss=f"{loss:.4f}") for row, loss in enumerate(losses, 1)]
    )

    assert examination.verdict == "diverged"
    assert (examination.last_good_update, examination.first_bad_update) == (290, 300)
