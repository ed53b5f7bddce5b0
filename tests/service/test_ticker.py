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
