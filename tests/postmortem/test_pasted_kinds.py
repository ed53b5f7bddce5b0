"""Kinds of rows in pasted logs: lists, nested results, no blanks, blank cells, short names."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from postmortem.kit_postmortem import alerts_of, judged, open_log
from watchstep.core.roles import role_of

Form = Callable[[int, float], str]
HEAD = f"{'epoch':<10}  {'iteration':<10}  {'main/loss':<10}  {'validation/main/loss':<20}  elapsed"


def nnunet(row: int, loss: float) -> str:
    clock = f"2024-05-01 10:{row:02}:12.1: "
    dice = f"Pseudo dice [{0.9 - loss / 3:.4f}, np.float32({0.8 - loss / 3:.4f})]"
    return f"{clock}\n{clock}Epoch {row}\n{clock}train_loss {loss - 1:.4f}\n{clock}{dice}"


def chainer(row: int, loss: float) -> str:
    of_eval = f"{loss + 0.1:<20.5g}" if row % 5 == 0 else " " * 20
    return f"{1:<10}  {row:<10}  {loss:<10.5g}  {of_eval}  {3.0 * row:.5g}"


FORMS: Sequence[Form] = (
    nnunet,
    chainer,
    lambda row, loss: f"step {row} losses: [{loss:.4f}, {0.5 * loss:.4f}]",
    lambda row, loss: f"E01|it{row:05}|L={loss:.2f}|acc=0.5",
    lambda row, loss: f"E1/9|B{row}/99|L:{loss:.2f}|lr:1e-3",
    lambda row, loss: f"it {row} l: {loss:.3f} a: 0.5",
    lambda row, loss: f"stage=easy step={row} loss={loss:.3f}",
    lambda row, loss: f"ep 1 it {row} ls {loss:.3f} lr 0.001",
    lambda row, loss: f"epoch {row} nce {loss:.3f} time: 3.2s",
    lambda row, loss: f"{row}: {loss:.5f}, {loss:.5f} avg loss, 0.000000 rate, 3.2 seconds",
)


def logged(form: Form, loss: Callable[[int], float]) -> list[str]:
    noise = random.Random(1)
    rows = [form(row, loss(row) + noise.gauss(0, 0.01)) for row in range(1, 60)]
    return [HEAD, *rows] if form is chainer else rows


def well(row: int) -> float:
    return 0.3 + 2 * math.exp(-row / 15)


@pytest.mark.parametrize("form", FORMS)
def test_a_row_of_any_kind_is_judged(tmp_path: Path, form: Form) -> None:
    sound = judged(tmp_path, logged(form, well))
    lost = judged(tmp_path, logged(form, lambda row: well(row) if row < 42 else math.nan))

    assert (sound.verdict, alerts_of(sound)) == ("healthy", set())
    assert (lost.verdict, lost.first_bad_update, lost.last_good_update) == ("diverged", 42, 41)


def test_a_metric_in_nested_results_is_judged_at_the_snapshot(tmp_path: Path) -> None:
    def rows(fid: Callable[[int], float]) -> list[str]:
        return [
            json.dumps(
                {
                    "results": {"fid50k_full": fid(row)},
                    "metric": "fid50k_full",
                    "snapshot_pkl": f"network-snapshot-{200 * row:06}.pkl",
                }
            )
            for row in range(40)
        ]

    sound = judged(tmp_path, rows(lambda row: 20 + 200 * math.exp(-row / 8)))
    worse = judged(
        tmp_path, rows(lambda row: 20 + 200 * math.exp(-row / 8) + 30 * max(0, row - 24))
    )

    assert (sound.verdict, sound.last_update) == ("healthy", 7800)
    assert (worse.verdict, worse.first_bad_update) == ("suspicious", 5000)


@pytest.mark.parametrize(
    "words",
    [
        "loaded checkpoint '/x/last.pt' (step 40)",
        "load: restored from checkpoint /x/40",
        "restoring from ckpt/40",
        "main: total train_iterations 40",
    ],
)
def test_a_run_that_goes_on_from_a_checkpoint_may_have_lost_what_it_had(
    tmp_path: Path, words: str
) -> None:
    def rows(begins: int) -> list[str]:
        return [
            *(f"step {row} loss {well(row):.4f}" for row in range(40)),
            words,
            *(f"step {row} loss {well(row - begins):.4f}" for row in range(40, 80)),
        ]

    lost, sound = judged(tmp_path, rows(40)), judged(tmp_path, rows(0))

    assert (lost.verdict, lost.first_bad_update) == ("suspicious", 40)
    assert lost.causes[0].name == "lost-at-resume"
    assert (sound.verdict, sound.attempts) == ("healthy", 2)


@pytest.mark.parametrize(
    "words", ["loading checkpoint from /x/best.pt", "loaded checkpoint 'eval'"]
)
def test_a_checkpoint_that_is_loaded_for_an_evaluation_resumes_nothing(
    tmp_path: Path, words: str
) -> None:
    rows = [f"step {row} loss {well(row):.4f}" + f"\n{words}" * (row % 9 == 8) for row in range(60)]

    assert judged(tmp_path, rows).attempts == 1


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("nce", "loss"),
        ("InfoNCE", "loss"),
        ("nt_xent", "loss"),
        ("neg_elbo", "loss"),
        ("bits/dim", "loss"),
        ("val_si_snr", "eval_score"),
        ("SI-SDR", "eval_score"),
        ("si_snr_loss", "loss"),
    ],
)
def test_the_fields_own_measures_have_a_role(name: str, role: str) -> None:
    assert role_of(name) == role


def test_the_one_series_of_an_unknown_name_is_named_with_how_to_declare_it(tmp_path: Path) -> None:
    rows = [f"epoch {row} frobnicate: {well(row):.4f} lr: 0.001" for row in range(40)]

    assert "`roles: {frobnicate: loss}`" in judged(tmp_path, rows).unjudged_because


def test_an_iou_by_class_keeps_what_it_is_of(tmp_path: Path) -> None:
    rows = [f"epoch {e} loss {well(e):.3f} iou {{'cat': {1 - well(e) / 3:.3f}}}" for e in range(40)]

    assert any("iou/cat" in item for item in names_in(tmp_path, rows))


def names_in(folder: Path, rows: list[str]) -> set[str]:
    path = folder / "iou.log"
    path.write_text("\n".join(rows))
    log = open_log(path)
    list(log.updates)
    return log.names


def test_a_rate_that_is_rounded_to_nothing_does_not_explain_a_loss_that_moves(
    tmp_path: Path,
) -> None:
    rows = [
        f"step {row} loss {well(row) if row < 40 else 2.3:.4f} lr 0.000000" for row in range(80)
    ]

    examination = judged(tmp_path, rows)

    assert "NothingLearnt" not in {alert.rule for alert in examination.alerts}
    assert examination.causes[0].name != "nothing-trained"


def test_a_loss_that_leaps_alone_names_no_cause_for_sure(tmp_path: Path) -> None:
    rows = [
        f"step {row} loss {well(row) if row < 40 else 300 + row % 7:.4f} lr 0.001"
        for row in range(80)
    ]

    assert judged(tmp_path, rows).causes[0].confidence < 0.65


def test_a_policy_that_collapsed_to_nothing_is_not_one_without_rewards(tmp_path: Path) -> None:
    noise = random.Random(1)
    rows = [
        f"update {row} return {0.3 * row if row < 55 else 0:.2f} "
        f"entropy {max(0.0, 1.1 - row / 50):.4f} value_loss {abs(noise.gauss(0.2, 0.05)):.4f}"
        for row in range(150)
    ]

    assert judged(tmp_path, rows).causes[0].name == "policy-collapse"


def test_a_critic_that_a_simulator_blew_up_shows_no_corrupted_parameters(tmp_path: Path) -> None:
    noise = random.Random(1)
    rows = []
    for row in range(150):
        lost = row > 101
        value = 2e13 if 100 <= row <= 101 else math.nan if lost else abs(noise.gauss(0.1, 0.01))
        rows.append(
            f"Learning iteration {row}/1500\n"
            f"Mean action noise std: {math.nan if lost else 1 - row / 300:.2f}\n"
            f"Mean value_function loss: {value:.4f}\n"
            f"Mean surrogate loss: {math.nan if lost else noise.gauss(-0.005, 0.001):.4f}\n"
            f"Mean reward: {0.2 * row + noise.gauss(0, 0.3):.2f}\n"
        )

    examination = judged(tmp_path, rows)

    assert examination.verdict == "diverged"
    assert examination.causes[0].name != "corrupted-parameters"


def test_the_kl_of_a_world_model_is_none_to_a_reference(tmp_path: Path) -> None:
    noise = random.Random(1)

    def rows(model: str) -> list[str]:
        return [
            f"step {row} {model} {6 + noise.gauss(0, 0.1):.3f} reward {min(2, 1 + row / 50):.3f} "
            f"kl {0.01 + row / 1000 if row < 60 else 0.07 * 1.3 ** (row - 59):.4f} "
            f"policy_loss {noise.gauss(0, 0.01):.4f} entropy 1.0"
            for row in range(90)
        ]

    of_model, of_policy = judged(tmp_path, rows("model_loss")), judged(tmp_path, rows("aux"))

    assert (alerts_of(of_model), alerts_of(of_policy)) == (set(), {"KLRunaway"})
