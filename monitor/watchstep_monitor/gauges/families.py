"""The state of the runs as families of series, within caps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import get_args

from watchstep.core.health import Health
from watchstep_monitor.gauges.text import Family, Row, clean
from watchstep_monitor.service.ports import RunGauge, RunStatus
from watchstep_monitor.settings.schema import GaugeSettings

STATUSES: tuple[RunStatus, ...] = get_args(RunStatus)
HEALTHS: tuple[Health, ...] = get_args(Health)
ZONES: Mapping[str, int] = {"ok": 0, "info": 1, "warning": 2, "critical": 3}
"""What `watchstep_run_zone` shows for each zone."""


_WHO = ("run", "project")
_FAMILIES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "watchstep_runs": ("Runs by status.", ("status",)),
    "watchstep_run_step": ("The trainer's own step counter.", _WHO),
    "watchstep_run_last_update_timestamp_seconds": (
        "When the run's newest update arrived, epoch seconds.",
        _WHO,
    ),
    "watchstep_run_last_heard_timestamp_seconds": (
        "When the service last heard of the run, with or without an update.",
        _WHO,
    ),
    "watchstep_run_status": (
        "1 for the status that the run has, 0 for the others.",
        (*_WHO, "status"),
    ),
    "watchstep_run_health": (
        "1 for the health that the run has, 0 for the others.",
        (*_WHO, "health"),
    ),
    "watchstep_run_lost_updates_total": ("Updates passed over that never arrived.", _WHO),
    "watchstep_alert_firing": (
        "1 while the alert fires; absent otherwise. The metric is empty for most rules.",
        ("run", "rule", "metric", "severity"),
    ),
    "watchstep_run_zone": (
        "How bad the reading is: 0 ok, 1 info, 2 warning, 3 critical.",
        (*_WHO, "metric"),
    ),
    "watchstep_run_reading": (
        "The newest reading; NaN and infinities as they came.",
        (*_WHO, "metric"),
    ),
}
"""What is shown of runs: by name, what it means and its labels."""


@dataclass(frozen=True, slots=True)
class FleetFamilies:
    """What one scrape shows of the runs.

    Attributes:
        dropped: Series left out because of a cap.
    """

    families: tuple[Family, ...]
    dropped: int

    @property
    def series(self) -> int:
        return sum(len(family.rows) for family in self.families)


def fleet_families(runs: Iterable[RunGauge], limits: GaugeSettings, now: float) -> FleetFamilies:
    """The families of all runs.

    Args:
        runs: Most recently heard of first.
    """
    gathering = _Gathering(limits)
    for run in _chosen(runs, limits, now):
        gathering.add(run)
    return gathering.finished()


def _chosen(runs: Iterable[RunGauge], limits: GaugeSettings, now: float) -> Iterator[RunGauge]:
    shown = [run for run in runs if not _vanished(run, limits, now)]
    # Sorting is stable: within a class the newest heard of stay first.
    shown.sort(key=lambda run: (not run.firing, run.ended_at is not None))
    return iter(shown)


def _vanished(run: RunGauge, limits: GaugeSettings, now: float) -> bool:
    if run.ended_at is None or run.has_incident:
        return False
    return now - run.ended_at > limits.keep_after_end_s


class _Gathering:
    """Rows so far.

    The cap is spent run by run: a run is shown whole, or cut only in its readings and zones.
    """

    def __init__(self, limits: GaugeSettings) -> None:
        self._limits = limits
        self._left = limits.max_series
        self._dropped = 0
        self._seen: set[str] = set()
        self._by_status = dict.fromkeys(STATUSES, 0)
        self._rows: dict[str, list[Row]] = {name: [] for name in _FAMILIES}

    def add(self, run: RunGauge) -> None:
        """Show one run, as far as the caps let it."""
        name, project = clean(run.run), clean(run.project)
        # Two hostile names may come out the same, and Prometheus refuses a scrape with a
        # series twice: the first one keeps the name.
        fits = len(self._seen) < self._limits.max_runs and name not in self._seen
        firing = {
            (name, clean(alert.rule), clean(alert.metric), alert.severity): 1.0
            for alert in run.firing
        }
        times = (run.last_update_at is not None) + (run.last_heard_at is not None)
        fixed = 2 + len(STATUSES) + len(HEALTHS) + times + len(firing)
        self._by_status[run.status] = self._by_status.get(run.status, 0) + 1
        if not fits or fixed > self._left:
            self._dropped += fixed + len(run.readings) + len(run.zones)
            return
        self._seen.add(name)
        self._left -= fixed
        who = (name, project)
        for family, value in (
            ("step", run.step),
            ("lost_updates_total", run.lost_updates),
            ("last_update_timestamp_seconds", run.last_update_at),
            ("last_heard_timestamp_seconds", run.last_heard_at),
        ):
            if value is not None:
                self._rows[f"watchstep_run_{family}"].append((who, _float(value)))
        statuses = [((*who, word), float(word == run.status)) for word in STATUSES]
        healths = [((*who, word), float(word == run.health)) for word in HEALTHS]
        self._rows["watchstep_run_status"] += statuses
        self._rows["watchstep_run_health"] += healths
        self._rows["watchstep_alert_firing"] += firing.items()
        self._add_readings(run, who)

    def _add_readings(self, run: RunGauge, who: tuple[str, str]) -> None:
        zones = {clean(metric): float(ZONES[z]) for metric, z in run.zones.items() if z in ZONES}
        readings = {clean(metric): _float(value) for metric, value in run.readings.items()}
        order = sorted(readings)
        order = [m for m in order if m in zones] + [m for m in order if m not in zones]
        shown = order[: self._limits.metrics_per_run]
        name, project = who
        rows = [((name, project, metric), readings[metric]) for metric in shown]
        bands = [((name, project, metric), zones[metric]) for metric in shown if metric in zones]
        fitting_zones = list(islice(bands, self._left))
        self._rows["watchstep_run_zone"] += fitting_zones
        self._left -= len(fitting_zones)
        fitting = rows[: self._left]
        self._rows["watchstep_run_reading"] += fitting
        self._left -= len(fitting)
        self._dropped += len(order) + len(bands) - len(fitting_zones) - len(fitting)

    def finished(self) -> FleetFamilies:
        rows = self._rows
        rows["watchstep_runs"] = [((word,), float(n)) for word, n in self._by_status.items()]
        families = (
            Family(
                name, "counter" if name.endswith("_total") else "gauge", about, labels, rows[name]
            )
            for name, (about, labels) in _FAMILIES.items()
        )
        return FleetFamilies(tuple(families), self._dropped)


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        # An integer of 400 digits is legal JSON; as a sample it is just too large.
        return float("inf") if value > 0 else float("-inf")
