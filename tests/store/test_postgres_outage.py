"""Silence over a store that others share, or that was away: the service's absence is nobody's."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from service.kit import Bench, bench, grad, postgres_database, update
from watchstep_monitor.service.errors import StorageTroubleError
from watchstep_monitor.service.run_state.status import shown_status
from watchstep_monitor.service.scheduler import Scheduler


def away(at: Bench, seconds: float, monkeypatch: pytest.MonkeyPatch) -> Scheduler:
    """The store cannot be reached for so long, while the clock goes on."""
    scheduler = Scheduler(at.run_service, 1.0)

    def fail(*_: object) -> None:
        raise StorageTroubleError("the store cannot be read")

    with monkeypatch.context() as patch:
        for name in ("due_incidents", "runs", "write"):
            patch.setattr(at.opened.store, name, fail)
        scheduler._guarded(scheduler.send_due)
        at.clock.move(seconds)
        scheduler._guarded(scheduler.send_due)
    return scheduler


def status(at: Bench) -> str:
    return shown_status(
        at.run_service.view("a", None).record, at.clock.now(), at.run_service.policy.hearing
    )


def test_runs_that_could_not_be_heard_are_not_called_silent_when_the_database_is_back(
    at: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    at.send(grad(1, 1.0))
    scheduler = away(at, 600, monkeypatch)

    scheduler._guarded(scheduler.look)

    assert "Silent" not in at.alerts()
    assert status(at) == "running"


def test_a_run_that_stays_silent_after_the_outage_is_called_so(
    at: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    at.send(grad(1, 1.0))
    scheduler = away(at, 600, monkeypatch)
    scheduler._guarded(scheduler.look)
    at.clock.move(301)

    scheduler._guarded(scheduler.look)

    assert at.alerts()["Silent"] == "firing"
    assert status(at) == "lost"


def test_a_moment_of_trouble_does_not_put_off_a_silence(
    at: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    at.send(grad(1, 1.0))
    at.clock.move(299)
    scheduler = away(at, 2, monkeypatch)

    scheduler._guarded(scheduler.look)

    assert at.alerts()["Silent"] == "firing"


def test_a_diverged_run_that_falls_silent_is_called_so_too(at: Bench) -> None:
    at.send(update(1, train__loss=math.nan))
    scheduler = Scheduler(at.run_service, 1.0)
    at.clock.move(301)

    scheduler.look()

    assert at.alerts() == {"LossGone": "firing", "Silent": "firing"}


def test_a_run_that_another_replica_heard_last_is_called_silent(
    replica_pair: tuple[Bench, Bench],
) -> None:
    first, second = replica_pair
    first.send(grad(1, 1.0))
    second.clock.move(301)

    Scheduler(second.run_service, 1.0).look()

    assert second.alerts()["Silent"] == "firing"
    first.send(grad(2, 1.0))
    assert "Silent" not in first.alerts()


def test_a_replica_that_does_not_keep_the_clock_leaves_silent_runs_alone(tmp_path: Path) -> None:
    with postgres_database() as url, bench(tmp_path, database_url=url) as at:
        at.send(grad(1, 1.0))
        at.clock.move(301)

        Scheduler(at.run_service, 1.0, leads=lambda: False).look()

        assert at.alerts() == {}
