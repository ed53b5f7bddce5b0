"""What a restarted service remembers by itself."""

from __future__ import annotations

import math
from pathlib import Path

from service.kit import bench, grad, update
from watchstep_monitor.service.scheduler import Scheduler


def test_runs_that_gauges_still_show_are_there_after_a_restart(tmp_path: Path) -> None:
    with bench(tmp_path) as at:
        at.send(grad(1, 1.0), update(2, event={"kind": "finished"}), run="long ago")
        at.clock.move(10_000)
        at.send(update(1, train__policy_loss=math.nan), run="diverged long ago")
        at.clock.move(10_000)
        at.send(grad(1, 1.0), run="running")
        at.send(update(1, train__policy_loss=math.nan), run="diverged")
        at.send(grad(1, 500.0), update(2, event={"kind": "halted"}), run="halted")
        clock = at.clock
    clock.move(60)

    with bench(tmp_path, clock=clock) as at:
        Scheduler(at.run_service, 1.0, keep_ended_s=600.0).remember()
        shown = {
            each.run: (each.status, each.health, bool(each.firing))
            for each in at.run_service.iter_runs()
        }

    assert shown == {
        "running": ("running", "unjudged", False),
        "diverged": ("running", "diverged", True),
        "diverged long ago": ("running", "diverged", True),
        "halted": ("halted", "suspicious", True),
    }


def test_a_service_that_slept_notices_it_before_it_calls_a_run_lost(tmp_path: Path) -> None:
    with bench(tmp_path) as at:
        scheduler = Scheduler(at.run_service, 1.0)
        at.send(grad(1, 1.0))
        at.clock.move(10_000)

        scheduler.notice_absence()
        scheduler.look()

        assert at.alerts() == {}
        assert at.notices() == []


def test_a_run_that_is_silent_after_such_a_sleep_is_lost_in_time(tmp_path: Path) -> None:
    with bench(tmp_path) as at:
        scheduler = Scheduler(at.run_service, 1.0)
        at.send(grad(1, 1.0))
        at.clock.move(10_000)
        for _ in range(400):
            scheduler.notice_absence()
            at.clock.move(1)
        scheduler.look()

        assert at.alerts() == {"Silent": "firing"}
