"""The bench of judgement makes real runs, breaks them, and scores what watchstep says of them."""

from __future__ import annotations

import math
from pathlib import Path

from benchmarks.judgement import runs, scoring
from benchmarks.judgement.answer import answer
from benchmarks.judgement.cases import Case, Fault, Recording
from benchmarks.judgement.making import make_one
from benchmarks.judgement.trainers import plain
from benchmarks.judgement.truths import truth_of

LBFGS = next(trainer for trainer in plain.TRAINERS if trainer.name == "lbfgs")


def test_a_run_that_is_fed_nan_is_lost_and_watchstep_says_so(tmp_path: Path) -> None:
    case = Case("lbfgs", 0, Fault("nan_input", at=60))

    assert make_one(LBFGS, case, tmp_path)
    broken = runs.read(tmp_path / case.folder)
    healthy = runs.read(tmp_path / Case("lbfgs", 0).folder)
    result = scoring.scored(broken, answer(broken))

    assert broken.truth.harm
    assert broken.truth.lost
    assert broken.truth.evidence_update == 60
    assert healthy.updates[:59] == broken.updates[:59]
    assert result.critical is not None
    assert result.in_time
    assert not scoring.scored(healthy, answer(healthy)).raised("critical")


def test_numbers_that_are_not_finite_and_the_last_words_survive_the_disk(tmp_path: Path) -> None:
    recording = Recording(start=2.0, outcome=1.0, failure="ValueError: loc is nan")
    recording.log(10, {"loss": math.inf, "norm": -math.inf})
    recording.log(20, {"loss": 0.5})
    truth = truth_of(Case("lbfgs", 0), LBFGS, recording, None)
    assert truth is not None

    runs.write(tmp_path / "run", truth, recording)

    kept = runs.read(tmp_path / "run")
    assert list(kept.updates) == recording.updates
    assert kept.failure == "ValueError: loc is nan"
    assert kept.truth == truth


def test_what_the_guard_of_a_hook_sees_is_kept_beside_the_log_and_scored_with_it(
    tmp_path: Path,
) -> None:
    lstm = next(trainer for trainer in plain.TRAINERS if trainer.name == "lstm")
    case = Case("lstm", 0, Fault("detached", at=1))

    assert make_one(lstm, case, tmp_path)
    broken = runs.read(tmp_path / case.folder)
    hooked = runs.with_hook(broken)
    by_log = scoring.scored(broken, answer(broken))
    by_hook = scoring.scored(hooked, answer(hooked))

    assert not any("guard/steps" in row["metrics"] for row in broken.updates)
    assert all(row["metrics"]["guard/parameters_without_gradient"] > 0.5 for row in hooked.updates)
    assert by_log.told is None
    assert by_hook.told == 20
    assert by_hook.cause == "nothing-trained"
