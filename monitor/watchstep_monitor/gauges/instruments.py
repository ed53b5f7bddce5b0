"""What the service counts about itself, on a registry of its own."""

from __future__ import annotations

from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.process_collector import ProcessCollector

from watchstep.core import engine_kind
from watchstep_monitor.gauges.text import clean
from watchstep_monitor.service.events import (
    AlertChanged,
    DeliveryAttempted,
    EventBus,
    OutboxTrouble,
    RulesRead,
)
from watchstep_monitor.service.ports import Clock

# Half a millisecond to ten seconds: a group commit takes 1 to 5 ms, a client gives up after 5 s.
_SECONDS = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
_UPDATES = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000)


class Instruments:
    """The service's counters and histograms.

    Takes what the service reports and what is published on its bus. Every call is thread-safe,
    takes a few microseconds and does not raise.

    Attributes:
        registry: Its own; the library's global one is never touched.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.registry = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=self.registry)
        self._build_ingest()
        self._build_rules_and_alerts()
        self._build_deliveries()
        about = self._gauge(
            "watchstep_build_info",
            "1, with the version and how the rule engine runs (compiled or interpreted) as labels.",
            "version",
            "engine",
        )
        about.labels(version=version("watchstep"), engine=engine_kind()).set(1)
        self.series_dropped = self._counter(
            "watchstep_series_dropped_total",
            "Series left out because of a cap, summed over scrapes.",
        )

    def updates_stored(self, accepted: int, duplicates: int, rejected: int) -> None:
        self._accepted.inc(accepted)
        self._duplicates.inc(duplicates)
        self._rejected.inc(rejected)

    def ingest_took(self, seconds: float) -> None:
        """Note the time from a request's whole body to its answer."""
        self._ingest.observe(seconds)

    def commit_took(self, seconds: float, updates: int) -> None:
        """Note the time of one group commit, and how many updates it held."""
        self._commit.observe(seconds)
        self._commit_updates.observe(updates)

    def listen_to(self, bus: EventBus) -> None:
        bus.subscribe(RulesRead, self._rules_read)
        bus.subscribe(AlertChanged, self._alert_changed)
        bus.subscribe(DeliveryAttempted, self._delivery_attempted)
        bus.subscribe(OutboxTrouble, lambda _: self._worker_errors.inc())

    def _rules_read(self, event: RulesRead) -> None:
        self._reloads.labels(result="ok" if event.ok else "failed").inc()
        self._reload_ok.set(1 if event.ok else 0)
        if event.ok:
            self._reload_at.set(self._clock.now().timestamp())

    def _alert_changed(self, event: AlertChanged) -> None:
        self._alerts.labels(severity=event.severity, state=clean(event.state)).inc()

    def _delivery_attempted(self, event: DeliveryAttempted) -> None:
        name = clean(event.receiver)
        self._deliveries.labels(receiver=name, result=event.result).inc()
        self._delivery.labels(receiver=name).observe(event.seconds)

    def _build_ingest(self) -> None:
        self._accepted = self._counter("watchstep_updates_total", "Updates stored.")
        self._duplicates = self._counter(
            "watchstep_updates_duplicate_total", "Updates that were stored already."
        )
        self._rejected = self._counter(
            "watchstep_updates_rejected_total", "Updates refused one by one."
        )
        self._ingest = self._histogram(
            "watchstep_ingest_seconds", "From a request's whole body to its answer.", _SECONDS
        )
        self._commit = self._histogram(
            "watchstep_commit_seconds", "One group commit, synced.", _SECONDS
        )
        self._commit_updates = self._histogram(
            "watchstep_commit_updates", "Updates in one group commit.", _UPDATES
        )

    def _build_rules_and_alerts(self) -> None:
        self._alerts = self._counter(
            "watchstep_alerts_total", "Alerts that entered a state.", "severity", "state"
        )
        self._reloads = self._counter(
            "watchstep_rules_reloads_total", "Attempts to load the rules.", "result"
        )
        self._reload_ok = self._gauge(
            "watchstep_rules_last_reload_successful", "1 if the newest attempt succeeded."
        )
        self._reload_at = self._gauge(
            "watchstep_rules_last_reload_success_timestamp_seconds",
            "When rules were last loaded, epoch seconds; 0 for never.",
        )

    def _build_deliveries(self) -> None:
        self._deliveries = self._counter(
            "watchstep_deliveries_total", "Attempts at deliveries.", "receiver", "result"
        )
        self._delivery = self._histogram(
            "watchstep_delivery_seconds", "One attempt at a delivery.", _SECONDS, "receiver"
        )
        self._worker_errors = self._counter(
            "watchstep_delivery_worker_errors_total", "Failed reads and writes of the outbox."
        )

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(name, about, labels, registry=self.registry)

    def _gauge(self, name: str, about: str, *labels: str) -> Gauge:
        return Gauge(name, about, labels, registry=self.registry)

    def _histogram(
        self, name: str, about: str, buckets: tuple[float, ...], *labels: str
    ) -> Histogram:
        return Histogram(name, about, labels, buckets=buckets, registry=self.registry)
