"""Sentences of a report that were false or muddled of a log that somebody read."""

from __future__ import annotations

import random
from pathlib import Path

from core_diagnosis.test_causes_of_any_training import history
from postmortem.kit_postmortem import judged
from postmortem.test_last_words import ended
from watchstep.core.diagnosis import signs
from watchstep.postmortem.sections import headline
from watchstep.rules import load


def test_a_death_after_readings_that_name_a_cause_does_not_say_that_they_show_none(
    tmp_path: Path,
) -> None:
    # k2-fsa/icefall prints so, and gives up when its scale has fallen to nothing.
    noise = random.Random(1)
    lines = [
        f"Epoch 1, batch {50 * row}, loss={2 + noise.gauss(0, 0.02):.3f}, "
        f"grad_scale: {2.0 ** -max(row - 60, 0)}"
        for row in range(1, 80)
    ]
    lines += ["Traceback (most recent call last):", '  File "a.py", line 1']
    lines += ["RuntimeError: grad_scale is too small, exiting: 5.8e-11"]

    examination = judged(tmp_path, lines)

    assert examination.verdict == "died"
    assert examination.causes[0].name == "loss-scale-overflow"
    assert not any("show no reason" in line for line in headline(examination))
    assert "show no reason" not in examination.verdict_because


def test_without_a_cause_the_report_says_so_and_repeats_no_rule(tmp_path: Path) -> None:
    noise = random.Random(1)
    lines = [
        f"step {row} loss {(3.4 if row < 60 else 7.3) + noise.gauss(0, 0.02):.4f} lr 0.0005"
        for row in range(1, 150)
    ]

    examination = judged(tmp_path, lines)
    examination.causes = ()
    lines_shown = list(headline(examination))

    assert "Why: no cause can be told from what was logged" in lines_shown
    assert not any(examination.verdict_because in line for line in lines_shown)


def test_a_long_error_is_cut_between_two_words_and_marked(tmp_path: Path) -> None:
    examination = ended(tmp_path, "RuntimeError: " + "words of a trainer " * 40)

    (why,) = (line for line in headline(examination) if line.startswith("Why:"))

    assert why.endswith((" …", "%)"))
    assert len(why) < 330


def test_waiting_for_data_within_a_steady_update_is_no_slower_training() -> None:
    noise = random.Random(1)
    before = [(noise.uniform(0.01, 0.05), noise.uniform(0.3, 0.4)) for _ in range(60)]
    after = [(noise.uniform(0.1, 0.16), noise.uniform(0.3, 0.4)) for _ in range(60)]
    costs = before + after
    rules = load(["generic"])

    seen = signs(
        rules,
        history(
            lambda at: {
                "loss": 2.0,
                "avg_reader_cost": costs[at - 1][0],
                "avg_batch_cost": costs[at - 1][1],
            },
            updates=120,
        ),
        [],
    )

    assert "slower" not in seen


def test_a_rate_that_leapt_at_a_resume_did_not_go_as_planned() -> None:
    rules = load(["generic"])

    seen = signs(
        rules,
        history(lambda at: {"loss": 2.0, "lr": 5e-4 - 5e-6 * at if at < 60 else 1e-3}),
        [],
    )

    assert not any("as planned" in text for text in seen.values())


def test_a_loss_below_its_start_is_not_called_beyond_it() -> None:
    rules = load(["generic"])

    def loss(at: int) -> float:
        return max(60.0 - 2.0 * at, 10.0) if at < 40 else 45.0 if at == 40 else 94.0

    text = signs(rules, history(lambda at: {"loss": loss(at)}), [])["loss_beyond_start"]

    assert text.endswith("to 45 at step 400 and went on to 94, beyond its start of 56")


def test_a_death_of_a_known_kind_is_named_first(tmp_path: Path) -> None:
    lines = [f"step {row} loss {3 - 0.01 * row:.4f}" for row in range(1, 60)]
    lines += ["Traceback (most recent call last):", '  File "a.py", line 1']
    lines += ["torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB"]

    examination = judged(tmp_path, lines)

    assert examination.verdict_because == (
        "A GPU ran out of memory; the readings before it were in order"
    )


def test_a_time_limit_is_the_end_whatever_its_launcher_says_behind_it(tmp_path: Path) -> None:
    lines = [f"step {row} loss {3 - 0.01 * row:.4f}" for row in range(1, 60)]
    lines += ["slurmstepd: error: *** STEP 7.0 ON a CANCELLED AT 2022-10-03 DUE TO TIME LIMIT ***"]
    lines += ["srun: error: gn14: tasks 0-3: Terminated"]

    examination = judged(tmp_path, lines)

    assert any("was ended by its time limit" in line for line in headline(examination))
