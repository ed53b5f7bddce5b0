"""A preview of a run: its worst zone, how fast it goes, and the shape of one metric of late."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from watchstep.wire.text import number_to_json
from watchstep_monitor.service.errors import NotFoundError
from watchstep_monitor.service.run_service import Projects, RunService
from watchstep_monitor.service.run_state.records import SEVERITIES, RunRecord
from watchstep_monitor.service.run_state.run_cache import RunView
from watchstep_monitor.service.series import Line, Point, thin

RECENT_UPDATES = 2_000
"""How far back a sparkline reaches, about; reading more of a long run would slow the list."""

SPARK_POINTS = 60
SPEED_POINTS = 100
_ORDER = ("ok", *SEVERITIES)
_FAVOURITES = ("rollout/ep_rew_mean", "reward", "eval/loss", "train/loss", "loss")


def previews(
    run_service: RunService, runs: Sequence[str], projects: Projects
) -> list[dict[str, Any]]:
    """A preview of each of the runs; those that this caller may not see are left out."""
    views = []
    for run in runs:
        try:
            views.append(_preview(run_service, run_service.view(run, projects)))
        except NotFoundError:
            continue
    return views


def _preview(run_service: RunService, view: RunView) -> dict[str, Any]:
    record = view.record
    firing = [alert for alert in view.alerts if alert.state == "firing"]
    firing.sort(key=lambda alert: (-SEVERITIES.index(alert.severity), alert.first_seq))
    worst = worst_zone(view.zones(), [alert.metric for alert in firing])
    metric = _telling_metric(view, worst)
    line = _recent(run_service, record, metric) if metric else Line()
    points, _ = thin(line, SPARK_POINTS)
    newest = line.points(range(max(0, len(line) - SPEED_POINTS), len(line)))
    return {
        "run": record.run,
        "worst": None if worst is None else {"metric": worst[0], "zone": worst[1]},
        "firing": len(firing),
        "metric": metric,
        "spark": [number_to_json(point.value) for point in points],
        "steps_per_s": speed(newest),
    }


def worst_zone(zones: Mapping[str, str], alarming: Sequence[str] = ()) -> tuple[str, str] | None:
    """The metric in the worst zone, and that zone; None without zones.

    Args:
        alarming: Metrics of alerts, gravest first; of several in the same zone they decide.
    """
    if not zones:
        return None
    order = [metric for metric in alarming if metric in zones]
    order += [metric for metric in zones if metric not in order]
    worst = max(order, key=lambda metric: _ORDER.index(zones[metric]))
    return worst, zones[worst]


def speed(points: Sequence[Point]) -> float | None:
    """Steps a second of the trainer's clock; None where that cannot be said.

    Only the newest attempt counts: between two attempts a trainer was not training.
    """
    if not points:
        return None
    newest = [point for point in points if point.attempt == points[-1].attempt]
    seconds, steps = newest[-1].time - newest[0].time, newest[-1].step - newest[0].step
    return steps / seconds if seconds > 0 and steps > 0 else None


def _telling_metric(view: RunView, worst: tuple[str, str] | None) -> str:
    if worst is not None and worst[1] not in {"ok", "info"}:
        return worst[0]
    for name in _FAVOURITES:
        if name in view.latest:
            return name
    return next(iter(view.latest), "")


def _recent(run_service: RunService, record: RunRecord, metric: str) -> Line:
    first = None
    if record.last_seq > RECENT_UPDATES:
        # Steps need not be updates; where they rise evenly this is the share that is recent.
        first = int(record.step * (1 - RECENT_UPDATES / record.last_seq))
    return Line(run_service.store.series(record.run, metric, first, None).stretches)
