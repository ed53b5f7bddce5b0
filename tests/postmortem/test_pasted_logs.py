"""Logs as people paste them into issues: the form is their trainers', the numbers are not."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from postmortem.kit_postmortem import alerts_of, judged

Form = Callable[[int, float, float], str]
NOISE = random.Random(7)


@pytest.fixture(autouse=True)
def _the_same_noise_in_any_order() -> None:
    NOISE.seed(7)


def near(value: float, share: float = 0.1) -> float:
    return value * (1 + NOISE.gauss(0, share))


def pix2pix(row: int, of_d: float, of_g: float) -> str:
    return (
        f"(epoch: {row}, iters: 100, time: 0.21, data: 0.003) G_GAN: {of_g:.3f} "
        f"G_L1: {near(12):.3f} D_real: {of_d:.3f} D_fake: {of_d:.3f}"
    )


def halves(row: int, of_d: float, of_g: float) -> str:
    return f">{row}, d1[{of_d:.3f}] d2[{of_d:.3f}] g[{of_g:.3f}]"


def scores(row: int, of_d: float, of_g: float) -> str:
    return f"iter {row}: loss_G={of_g:.3f} D(x)={1 - of_d:.4f} D(G(z))={of_d:.4f}"


@pytest.mark.parametrize("form", [pix2pix, halves, scores])
def test_a_discriminator_that_has_won_is_named_whatever_its_losses_and_scores_are_called(
    tmp_path: Path, form: Form
) -> None:
    won = [form(row, near(0.7 * math.exp(-row / 8)), near(8)) for row in range(1, 121)]
    balanced = [form(row, near(0.6), near(1.1)) for row in range(1, 121)]

    lost, well = judged(tmp_path, won), judged(tmp_path, balanced)

    assert (lost.verdict, lost.causes[0].name) == ("suspicious", "discriminator-won")
    assert alerts_of(lost) <= {"DiscriminatorAhead", "DiscriminatorWon"}
    assert well.verdict == "healthy"


def test_a_discriminator_at_a_millionth_has_won_in_a_short_log_too(tmp_path: Path) -> None:
    lines = [
        f"Epoch {row}/45 - d_loss: {near(0.7 * math.exp(-row)):.3e} - g_loss: {near(9):.4f}"
        for row in range(1, 46)
    ]

    assert "DiscriminatorAhead" in alerts_of(judged(tmp_path, lines))


@pytest.mark.parametrize(("start", "bottom"), [(0.02, -8.0), (5.0, -30.0), (-0.01, -300.0)])
def test_losses_of_a_wasserstein_pair_may_stand_anywhere(
    tmp_path: Path, start: float, bottom: float
) -> None:
    lines = []
    for row in range(1, 301):
        learnt = (1 - math.exp(-row / 10)) * (0.3 + 0.7 * math.exp(-row / 120))
        of_d = start + (bottom - start) * learnt + NOISE.gauss(0, 0.03 * abs(bottom))
        of_g = -bottom * math.sin(row / 50)
        lines.append(f"[Epoch {row}/300] [D loss: {of_d:.6f}] [G loss: {of_g:.6f}]")

    assert judged(tmp_path, lines).verdict == "healthy"


@pytest.mark.parametrize(
    ("start", "best", "end"), [(-1250, -700, -1250), (-200, -130, -580), (-400, -70, -390)]
)
def test_a_return_below_zero_that_collapses_and_stays_is_critical(
    tmp_path: Path, start: float, best: float, end: float
) -> None:
    def mean_return(row: int) -> float:
        if row > 170:
            return end + (best - end) * math.exp((170 - row) / 6)
        return best + (start - best) * math.exp(-row / 25)

    lines = [
        f"Episode {row}0\tAverage Score: {mean_return(row) + NOISE.gauss(0, 12):.2f}"
        for row in range(1, 320)
    ]

    lost, well = judged(tmp_path, lines), judged(tmp_path, lines[:170])

    assert {"RewardCollapse", "RewardStaysLost"} <= alerts_of(lost)
    assert well.verdict == "healthy"


def test_an_agent_that_is_worse_than_at_random_before_it_learns_is_well(tmp_path: Path) -> None:
    lines = [
        f"Episode {row}0\tAverage Score: "
        f"{-150 - 300 * math.exp(-(((row - 40) / 18) ** 2)) + NOISE.gauss(0, 15):.2f}"
        for row in range(1, 250)
    ]

    assert "RewardStaysLost" not in alerts_of(judged(tmp_path, lines))


def test_the_least_reward_of_a_batch_collapses_nothing_and_dates_nothing(tmp_path: Path) -> None:
    lines = [
        f"{{'loss': {'nan' if row >= 300 else f'{near(0.001):.5f}'}, 'grad_norm': {near(0.3):.3f}, "
        f"'rewards/min': {near(0.05) if row < 80 else 0.0:.3f}, "
        f"'reward': {0.8 - 0.6 * math.exp(-row / 60) + NOISE.gauss(0, 0.02):.4f}, "
        f"'kl': {near(0.02):.5f}, 'epoch': {row / 400:.4f}}}"
        for row in range(1, 360)
    ]

    examination = judged(tmp_path, lines)

    assert "RewardCollapse" not in alerts_of(examination)
    assert examination.first_bad_update == 300


def test_a_late_nan_is_bad_from_there_whatever_a_score_did_long_before(tmp_path: Path) -> None:
    lines = [
        f"step {row}0 | loss {2.2 + 3 / row if row < 150 else math.nan:.4f} | "
        f"val_acc {near(0.45) if row < 20 else 0.0:.4f} | lr 3.0e-04"
        for row in range(1, 170)
    ]

    examination = judged(tmp_path, lines)

    assert "ScoreGone" in alerts_of(examination)
    assert (examination.verdict, examination.first_bad_update) == ("diverged", 1500)
    assert examination.causes[0].name in {"nonfinite-input", "corrupted-parameters"}


def test_a_loss_that_had_doubled_and_come_back_is_bad_from_where_it_ran_away(
    tmp_path: Path,
) -> None:
    def loss(row: int) -> float:
        lifted = 2.6 if 42 <= row < 76 else 0.0
        return near((0.5 + 2.5 * math.exp(-row / 12) + lifted) * 1.1 ** max(0, row - 149), 0.02)

    lines = [f"step {row}0 | loss {loss(row):.4f} | lr 3.0e-04" for row in range(1, 260)]

    examination = judged(tmp_path, lines)

    assert examination.verdict in {"exploded", "diverged"}
    assert examination.first_bad_update is not None
    assert 1480 <= examination.first_bad_update <= 1540


def test_the_first_words_on_a_run_that_died_say_how(tmp_path: Path) -> None:
    lines = [
        f"step {row}0 loss {2.2 + 3 / row + (3.2 if row > 60 else 0):.4f} lr 1.0e-04"
        for row in range(1, 100)
    ]
    died = ["Traceback (most recent call last):", '  File "train.py", line 9, in <module>']
    died.append("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.20 GiB.")

    examination = judged(tmp_path, [*lines, *died])

    assert examination.verdict == "diverged"
    assert examination.verdict_because.startswith("A GPU ran out of memory; before that, ")


def test_a_gradient_that_was_not_finite_is_said_to_have_no_finite_numbers(tmp_path: Path) -> None:
    lines = [
        f"step {row}0 loss {2.2 + 3 / row:.4f} lr 1.0e-04 "
        f"grad_norm {'inf' if 90 <= row < 110 else f'{near(1):.3f}'}"
        for row in range(1, 200)
    ]

    examination = judged(tmp_path, lines)

    assert examination.verdict == "exploded"
    assert "finite numbers" not in examination.verdict_because


def keras(row: int, loss: float, accuracy: float) -> str:
    return (
        f"Epoch {row}/60\n125/125 ━━━━━━━━━━━━━━━━━━━━ 3s 22ms/step - accuracy: {accuracy:.4f} - "
        f"loss: {loss:.4f} - val_accuracy: {accuracy:.4f} - val_loss: {loss:.4f}"
    )


def percent(row: int, loss: float, accuracy: float) -> str:
    return f"Epoch [{row}/60] loss: {loss:.4f} val_loss: {loss:.4f} val_acc: {100 * accuracy:.2f}%"


@pytest.mark.parametrize("form", [keras, percent])
@pytest.mark.parametrize("classes", [2, 10, 100])
def test_who_guesses_among_equal_classes_throughout_has_learnt_nothing(
    tmp_path: Path, form: Form, classes: int
) -> None:
    chance = math.log(classes)
    # The first epoch may unlearn what the weights began with.
    lines = [
        form(row, near(chance, 0.003) + 0.4 / row**2, near(1 / classes, 0.02))
        for row in range(1, 46)
    ]

    examination = judged(tmp_path, lines)

    assert "LossAtChance" in alerts_of(examination)
    assert (examination.verdict, examination.causes[0].name) == ("suspicious", "nothing-trained")


@pytest.mark.parametrize("form", [keras, percent])
@pytest.mark.parametrize(("classes", "gain"), [(2, 0.08), (10, 0.5), (100, 0.4)])
def test_who_leaves_the_chance_level_slowly_or_late_is_well(
    tmp_path: Path, form: Form, classes: int, gain: float
) -> None:
    lines = []
    for row in range(1, 46):
        learnt = 1 - math.exp(-max(0, row - 8) / 8)
        loss = math.log(classes) * (1 - gain * learnt)
        lines.append(form(row, near(loss, 0.003), near(1 / classes + gain * learnt, 0.01)))

    assert judged(tmp_path, lines).verdict == "healthy"


def nnunet(row: int, loss: float) -> list[str]:
    clock = f"2024-03-05 1{row // 60}:{row % 60:02}"
    return [
        f"{clock}:01.123456: Epoch {row}",
        f"{clock}:41.123456: train_loss {loss:.4f}",
        f"{clock}:41.223456: val_loss {loss + 0.05:.4f}",
        f"{clock}:41.323456: Pseudo dice [np.float32({max(0.0, 0.05 - loss):.4f})]",
    ]


def test_a_negated_dice_that_comes_back_to_nothing_is_lost_and_one_that_falls_is_learnt(
    tmp_path: Path,
) -> None:
    learnt = [0.15 - math.exp(0) * (1 - math.exp(-row / 25)) for row in range(160)]
    forgotten = [*learnt[:90], *[-0.02] * 70]

    rows = [[near(loss, 0.02) for loss in losses] for losses in (learnt, forgotten)]
    well, lost = (
        judged(tmp_path, [line for row, loss in enumerate(each) for line in nnunet(row, loss)])
        for each in rows
    )

    assert well.verdict == "healthy"
    assert (lost.verdict, lost.first_bad_update) == ("suspicious", 90)
    assert "loss-sign" not in {cause.name for cause in lost.causes if cause.confidence > 0.2}


@pytest.mark.parametrize(("risen", "verdict"), [(False, "unjudged"), (True, "healthy")])
def test_a_score_by_episodes_that_only_fell_from_its_first_ones_is_not_called_healthy(
    risen: bool, verdict: str, tmp_path: Path
) -> None:
    scores = [14.4, *[near(9.9, 0.1)] * 10, *(near(40 if risen else 9.4, 0.02) for _ in range(90))]
    lines = [
        f"n_episode :{20 * row}, score : {score:.1f}, n_buffer : {200 * row}, eps : 1.0%"
        for row, score in enumerate(scores, 1)
    ]

    examination = judged(tmp_path, lines)

    assert examination.verdict == verdict
    assert examination.last_update == 20 * len(lines)


def test_a_loss_that_is_printed_for_the_first_steps_and_then_rarely_is_not_missing(
    tmp_path: Path,
) -> None:
    lines = [
        f"step: {row} lr: 3.0e-04 grad_norm: {near(1):.3f}"
        + (f" loss: {2.2 + 3 / row:.4f}" if row < 4 or row % 50 == 0 else "")
        for row in range(1, 600)
    ]

    assert judged(tmp_path, lines).verdict == "healthy"


def test_the_rounds_of_flower_are_read_from_its_tuples_and_from_its_history(tmp_path: Path) -> None:
    losses = [0.3 + 2 / row if row < 20 else math.nan for row in range(1, 31)]
    tuples = [
        f"INFO flwr 2024-03-01 10:{row:02}:22,123 | server.py:125 | fit progress: "
        f"({row}, {loss:.4f}, {{'accuracy': 0.87}}, {row * 28.4})"
        for row, loss in enumerate(losses, 1)
    ]
    history = ["INFO :      \tHistory (loss, distributed):"]
    history += [f"INFO :      \t\tround {row}: {loss}" for row, loss in enumerate(losses, 1)]

    for lines in (tuples, history):
        examination = judged(tmp_path, lines)
        assert (examination.verdict, examination.first_bad_update) == ("diverged", 20)


def test_the_ticks_of_stylegan_are_counted_and_judge_nothing(tmp_path: Path) -> None:
    lines = [
        f"tick {row:<5} kimg {row * 4.0:<8.1f} time {row}m 20s       sec/tick 71.3    "
        f"sec/kimg 17.82   maintenance 0.1    gpumem 9.30   augment {row / 900:.3f}"
        for row in range(80)
    ]

    examination = judged(tmp_path, lines)

    assert (examination.verdict, examination.last_update) == ("unjudged", 79)


def test_the_batches_of_monai_are_counted_over_its_epochs(tmp_path: Path) -> None:
    lines = []
    for epoch in range(1, 71):
        loss = math.nan if epoch >= 58 else 0.3 + 0.5 / epoch
        lines += ["----------", f"epoch {epoch}/70"]
        lines += [f"{batch}/5, train_loss: {loss:.4f}" for batch in range(1, 6)]
        lines.append(f"epoch {epoch} average loss: {loss:.4f}")

    examination = judged(tmp_path, lines)

    assert (examination.verdict, examination.first_bad_update) == ("diverged", 57 * 5 + 1)


def test_a_discriminator_that_is_switched_on_later_and_a_decoders_layer_have_not_won(
    tmp_path: Path,
) -> None:
    late = [
        f"step {row}0 aeloss={near(0.5):.3f} g_loss={near(0.1):.3f} "
        f"discloss={near(0.9) if row > 70 else 0.0:.3f}"
        for row in range(1, 160)
    ]
    layers = [
        f"Epoch(train) [1][{row}0/9999] lr: 1.0e-04 loss: {near(9):.4f} loss_cls: {near(0.4):.4f} "
        f"d1.loss_cls: {1.2 * math.exp(-row / 5) + near(0.0004):.5f}"
        for row in range(1, 160)
    ]

    for lines in (late, layers):
        assert "DiscriminatorAhead" not in alerts_of(judged(tmp_path, lines))


def test_a_penalty_that_grows_while_more_is_earned_is_no_collapse(tmp_path: Path) -> None:
    lines = []
    for row in range(1, 250):
        earned = 18 - 20 * math.exp(-row / 60) + NOISE.gauss(0, 0.4)
        penalty = -0.22 + 0.2 * math.exp(-row / 40) + NOISE.gauss(0, 0.005)
        lines += ["#" * 60, f"                     Learning iteration {row}/1500"]
        lines += [f"  Value function loss: {near(0.5):.4f}", f"  Mean reward: {earned:.2f}"]
        lines += [f"  Surrogate loss: {NOISE.gauss(-0.008, 0.002):.4f}"]
        lines += [f"  Mean episode rew_action_rate: {penalty:.4f}", ""]

    assert judged(tmp_path, lines).verdict == "healthy"


def test_the_kl_of_a_vae_that_rises_as_it_learns_dates_no_nan(tmp_path: Path) -> None:
    lines = [
        f"step {row}0 | loss {near(45 - row) if row < 22 else math.nan:.4f} | "
        f"recon_loss {near(44 - row) if row < 22 else math.nan:.4f} | "
        f"kl_loss {near(0.1 * 1.3**row) if row < 22 else math.nan:.4f}"
        for row in range(60)
    ]

    examination = judged(tmp_path, lines)

    assert (examination.verdict, examination.first_bad_update) == ("diverged", 220)


def test_words_of_a_resume_tell_what_was_lost_at_it_where_numbers_go_on(tmp_path: Path) -> None:
    # Of PaddleOCR: the optimizer's state is not loaded and the rate begins anew.
    lines = []
    for row in range(1, 121):
        if row == 61:
            lines += [
                "[2022/06/23 21:10:11] ppocr INFO: resume from ./output/rec/svtr_bn/latest",
                "ppocr WARNING: optimizer.pdopt is not exists, params of optimizer is not loaded",
            ]
        loss = near(2.3 - 0.01 * row) if row < 61 else near(27.5)
        rate = 0.0002 if row < 61 else 0.001
        lines.append(
            f"[2022/06/23 21:10:32] ppocr INFO: epoch: [{row // 3}/200], global_step: {row * 10},"
            f" lr: {rate:.6f}, acc: {0.8 if row < 61 else 0.0:.6f}, loss: {loss:.6f}"
        )

    examination = judged(tmp_path, lines)

    assert (examination.attempts, examination.first_bad_update) == (2, 610)
    assert examination.causes[0].name == "lost-at-resume"
