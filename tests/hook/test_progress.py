"""When an update is late: pure arithmetic on times, with runs made up for it."""

from __future__ import annotations

import random

import pytest

from watchstep.hook.progress import FIRST_S, LEAST_S, Progress


class Run:
    """A run on a clock of its own, that is looked at every five seconds."""

    def __init__(self) -> None:
        self.now_s = 1_000.0
        self.progress = Progress(self.now_s)
        self.severities: list[str] = []

    def works(self, seconds: float, *, moving: bool = True) -> None:
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            self.now_s = min(self.now_s + 5.0, end_s)
            severity = self.progress.silence(self.now_s).severity(moving=moving)
            if severity is not None:
                self.severities.append(severity)

    def update(self, seconds: float) -> None:
        self.works(seconds)
        self.progress.calls_ns.append(int(self.now_s * 1e9))

    def phase(self, name: str, seconds: float, *, moving: bool = True) -> None:
        self.progress.enter(name, self.now_s)
        self.works(seconds, moving=moving)
        self.progress.leave(self.now_s)


def late_s(run: Run) -> float:
    return run.progress.silence(run.now_s).late_s


@pytest.mark.parametrize(("gap_s", "bound_s"), [(0.01, LEAST_S), (1.0, LEAST_S), (60.0, 600.0)])
def test_an_update_is_late_after_ten_usual_gaps_and_never_within_thirty_seconds(
    gap_s: float, bound_s: float
) -> None:
    run = Run()
    for _ in range(20):
        run.update(gap_s)

    assert late_s(run) == pytest.approx(bound_s)


def test_who_stands_still_is_a_warning_and_at_five_times_that_critical() -> None:
    run = Run()
    for _ in range(20):
        run.update(1.0)

    run.works(29, moving=False)
    before = list(run.severities)
    run.works(3, moving=False)
    then = run.severities[-1]
    run.works(120, moving=False)

    assert (before, then, run.severities[-1]) == ([], "warning", "critical")


def test_who_moves_is_a_warning_at_most_for_a_long_time() -> None:
    run = Run()
    for _ in range(20):
        run.update(1.0)

    run.works(LEAST_S * 4.5)
    before = list(run.severities)
    run.works(LEAST_S * 40)
    middle = set(run.severities)
    run.works(LEAST_S * 10)

    assert (before, middle, run.severities[-1]) == ([], {"warning"}, "critical")


def test_the_first_update_has_ten_minutes() -> None:
    run = Run()

    run.works(FIRST_S - 1, moving=False)
    before = list(run.severities)
    run.works(10, moving=False)

    assert (before, run.severities[-1]) == ([], "warning")


def test_a_hang_inside_a_marked_evaluation_is_told_by_what_evaluations_took_before() -> None:
    run = Run()
    for _ in range(5):
        for _ in range(20):
            run.update(1.0)
        run.phase("evaluating", 40.0)

    run.phase("evaluating", 450.0, moving=False)

    assert run.severities[0] == "warning"
    assert run.progress.silence(run.now_s).phase == ""


def test_a_hang_in_the_third_phase_of_a_name_is_told_after_two_minutes() -> None:
    run = Run()
    for _ in range(2):
        run.update(0.02)
        run.phase("evaluating", 0.5)

    run.progress.enter("evaluating", run.now_s)
    run.works(115.0, moving=False)
    before = list(run.severities)
    run.works(10.0, moving=False)

    assert (before, run.severities[-1]) == ([], "warning")


def test_the_time_of_a_marked_phase_is_no_gap_between_updates() -> None:
    run = Run()
    for _ in range(10):
        run.update(1.0)
        run.phase("saving", 100.0, moving=False)

    run.update(1.0)

    assert run.severities == []
    assert late_s(run) == LEAST_S


def test_a_process_that_was_stopped_is_not_late() -> None:
    run = Run()
    for _ in range(10):
        run.update(1.0)
    run.progress.slept(run.now_s, run.now_s + 5_000)
    run.now_s += 5_000

    run.works(20, moving=False)

    assert run.severities == []


def healthy_run(seed: int) -> list[str]:
    """Updates, with evaluations, saves and compilations of mixed length, marked or not."""
    chance = random.Random(seed)
    run = Run()
    usual_s = 10 ** chance.uniform(-2, 1.3)
    evaluation_s = usual_s * chance.uniform(2, 200)
    marked = chance.random() < 0.5
    run.works(chance.uniform(0, 500), moving=False)
    for step in range(400):
        run.update(usual_s * chance.lognormvariate(0, 0.4))
        if step % 50 == 49:
            took_s = min(evaluation_s, 600) * chance.uniform(0.7, 1.4)
            if marked:
                run.phase("evaluating", min(took_s, 590), moving=chance.random() < 0.5)
            else:
                # What nobody marked moves: it is work.
                run.works(min(took_s, 140))
        if step % 97 == 96:
            run.phase("saving", chance.uniform(0.1, 60), moving=False)
    return run.severities


def test_fifty_healthy_runs_with_evaluations_saves_and_compilations_are_never_called_late() -> None:
    assert [healthy_run(seed) for seed in range(50)] == [[]] * 50
