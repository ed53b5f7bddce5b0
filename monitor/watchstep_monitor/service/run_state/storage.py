"""Which rows of the store a list shows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from watchstep.core.health import Health
from watchstep_monitor.service.ports import DeliveryState, RunStatus


@dataclass(frozen=True, slots=True)
class PastWeek:
    """A week of stored updates that may go as a whole.

    Attributes:
        incidents_of: Those of its runs that ever had an incident.
    """

    week: int
    incidents_of: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs a list shows.

    Attributes:
        projects: None for all.
        archived: Whether only those that are archived, or only those that are not.
        status: A status word; `lost_before` says since when a lost run is silent.
    """

    projects: tuple[str, ...] | None = None
    status: RunStatus | None = None
    health: Health | None = None
    archived: bool | None = None
    lost_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """Which deliveries to list; None means no restriction."""

    projects: tuple[str, ...] | None = None
    state: DeliveryState | None = None
    run: str | None = None


@dataclass(frozen=True, slots=True)
class AlertFilter:
    """Which alerts a list shows; None does not filter."""

    projects: tuple[str, ...] | None = None
    state: str | None = None
    run: str | None = None
    severity: str | None = None
    incident: str | None = None
