"""The body of `/metrics`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client import generate_latest

from watchstep_monitor.gauges.families import fleet_families
from watchstep_monitor.gauges.instruments import Instruments
from watchstep_monitor.gauges.text import Family, clean, written
from watchstep_monitor.service.errors import StorageTroubleError
from watchstep_monitor.service.ports import Clock, DeliveryState
from watchstep_monitor.settings.schema import GaugeSettings

if TYPE_CHECKING:
    from watchstep_monitor.service.run_service import RunService

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class ServiceState:
    """How the service itself fares, asked at each scrape.

    Attributes:
        outbox_depth: Deliveries by state, as `DeliveryStore.outbox_depth` says.
        disabled_receivers: Every receiver's name, and whether nothing is sent to it any more.
        store_failing: Whether the newest commit failed.
        damaged: At how many places stored data was found damaged since the start.
        free_bytes: Free space where the store lives; None where that is another machine.
    """

    outbox_depth: Callable[[], Mapping[DeliveryState, int]]
    disabled_receivers: Callable[[], Mapping[str, bool]]
    store_failing: Callable[[], bool]
    damaged: Callable[[], int]
    free_bytes: Callable[[], int | None]


class Exposition:
    """Everything that a scrape shows.

    Rendering reads a snapshot and may run in any thread.
    """

    def __init__(
        self,
        instruments: Instruments,
        fleet: RunService,
        clock: Clock,
        state: ServiceState,
        limits: GaugeSettings,
    ) -> None:
        """Join the parts.

        Args:
            clock: Decides which ended runs are no longer shown.
        """
        self._instruments = instruments
        self._fleet = fleet
        self._clock = clock
        self._state = state
        self._limits = limits

    def render(self, projects: Collection[str] | None = None) -> bytes:
        """The whole text, of type `CONTENT_TYPE`.

        Args:
            projects: Show only the runs of these, and nothing that concerns all; None for all.
        """
        now = self._clock.now().timestamp()
        runs = self._fleet.iter_runs()
        if projects is not None:
            own_runs = (run for run in runs if run.project in projects)
            return written(fleet_families(own_runs, self._limits, now).families)
        fleet = fleet_families(runs, self._limits, now)
        self._instruments.series_dropped.inc(fleet.dropped)
        own = generate_latest(self._instruments.registry)
        return own + written(self._own_state()) + written(fleet.families)

    def _own_state(self) -> tuple[Family, ...]:
        state = self._state
        disabled = {clean(name): float(off) for name, off in state.disabled_receivers().items()}
        free = state.free_bytes()
        return (
            Family(
                "watchstep_store_failing",
                "gauge",
                "1 while commits fail and updates are refused with 503.",
                (),
                [((), float(state.store_failing()))],
            ),
            Family(
                "watchstep_store_damaged",
                "gauge",
                "Places where stored data was found damaged since the start; the log has them.",
                (),
                [((), float(state.damaged()))],
            ),
            Family(
                "watchstep_store_free_bytes",
                "gauge",
                "Free space where the embedded store lives; absent on PostgreSQL.",
                (),
                [] if free is None else [((), float(free))],
            ),
            Family(
                "watchstep_outbox_depth",
                "gauge",
                "Deliveries in each state; absent while the store cannot be read.",
                ("state",),
                [((word,), float(count)) for word, count in self._depth().items()],
            ),
            Family(
                "watchstep_receiver_disabled",
                "gauge",
                "1 when the receiver answered that it is gone.",
                ("receiver",),
                [((name,), off) for name, off in disabled.items()],
            ),
        )

    def _depth(self) -> Mapping[DeliveryState, int]:
        try:
            return self._state.outbox_depth()
        except StorageTroubleError:
            # Trouble with the store is when a scrape is needed most.
            return {}
