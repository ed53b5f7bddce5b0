"""Sessions that one folder of an offline run holds: attempts of one run, or several runs."""

from __future__ import annotations

from pathlib import Path

import pytest

import watchstep
from watchstep.core.updates import Update
from watchstep.postmortem.log_summary import fold
from watchstep.postmortem.reading import Reading
from watchstep.rules import load


def trained(spool: Path, steps: range, loss: float, run: str = "r") -> None:
    with watchstep.init(run=run, directory=spool, mode="offline", rules="pretrain") as watch:
        for step in steps:
            watch.log({"train/loss": loss + 0.001 * (step % 5)}, step=step)


def test_an_offline_run_that_was_started_twice_is_one_run_of_two_attempts(tmp_path: Path) -> None:
    trained(tmp_path, range(60), 0.08)
    trained(tmp_path, range(60, 120), 1.1)

    (examination,) = Reading([tmp_path]).examinations()

    assert (examination.run, examination.attempts) == ("r", 2)
    assert "LossForgotten" in {alert.rule for alert in examination.alerts}


def test_runs_of_other_names_in_one_folder_stay_apart(tmp_path: Path) -> None:
    for run in ("a", "a", "b"):
        trained(tmp_path, range(30), 1.0, run)

    examinations = list(Reading([tmp_path]).examinations())

    assert [(e.run, e.attempts, e.updates) for e in examinations] == [("a", 2, 60), ("b", 1, 30)]


def test_two_processes_of_one_name_at_the_same_time_are_two_runs(tmp_path: Path) -> None:
    both = [watchstep.init(run="r", directory=tmp_path, mode="offline") for _ in range(2)]
    for step in range(30):
        for watch in both:
            watch.log({"train/loss": 1.0}, step=step)
    for watch in both:
        watch.finish()

    assert [e.attempts for e in Reading([tmp_path]).examinations()] == [1, 1]


@pytest.mark.parametrize(("begins_at", "lost"), [(60, True), (1, False)])
def test_an_attempt_that_begins_with_an_event_goes_on_where_its_first_reading_says(
    begins_at: int, lost: bool
) -> None:
    started = {"kind": "started", "by": "watchstep run"}
    before = [Update(at, at, float(at), {"loss": 0.08}) for at in range(1, 60)]
    after = [
        Update(1 + at, begins_at + at - 1, 60.0 + at, {"loss": 1.1}, attempt=2)
        for at in range(1, 40)
    ]

    summary = fold(load(["auto"]), [*before, Update(1, 0, 60.0, {}, started, attempt=2), *after])

    assert ("LossForgotten" in {span.rule for span in summary.spans.values()}) is lost
