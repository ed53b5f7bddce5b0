"""A run service over a real store, a clock that tests move, and small rules."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from watchstep.core.updates import Update
from watchstep_monitor.service.alerting.notifications import Route, TellingPolicy
from watchstep_monitor.service.alerting.silences import SilenceCache
from watchstep_monitor.service.events import EventBus, SilencesChanged
from watchstep_monitor.service.ingest.batch import Batch, Beginning, Begun, Receipt
from watchstep_monitor.service.ingest.ingest import IngestPolicy
from watchstep_monitor.service.run_service import RunService, RunServiceOptions
from watchstep_monitor.service.run_state.rulebook import RuleBook
from watchstep_monitor.service.run_state.run_cache import RunCache
from watchstep_monitor.service.run_state.status import Liveness
from watchstep_monitor.service.run_state.storage import DeliveryFilter
from watchstep_monitor.store import OpenedStore, open_store
from watchstep_monitor.store.opening import StoreOptions

RULES = """
groups:
  - name: test
    rules:
      - alert: GradHigh
        expr: train/grad_norm > 10
        labels: {severity: warning}
        annotations: {summary: "The gradient is large."}
      - alert: GradExploded
        expr: train/grad_norm > 100
        for: 2 updates
        labels: {severity: critical}
        action: halt
        annotations: {summary: "The gradient exploded.", cause: "The step was too large."}
      - alert: LossGone
        expr: nonfinite(train/*loss)
        labels: {severity: critical}
        action: halt
        annotations: {summary: "The loss is no number.", cause: "The batch held NaN."}
      - alert: Silent
        expr: stalled()
        labels: {severity: warning}
        annotations: {summary: "Nothing was heard."}
      - alert: Died
        expr: event("failed")
        labels: {severity: critical}
        annotations: {summary: "The trainer died."}
"""

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
POSTGRES = os.environ.get(
    "WATCHSTEP_TEST_POSTGRES", "postgresql+psycopg://postgres@127.0.0.1:5432/postgres"
)


class MovedClock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.moment = START

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return (self.moment - START).total_seconds()

    def move(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)


def update(seq: int, *, attempt: int = 1, event: dict | None = None, **readings: float) -> Update:
    """An update whose readings are written with __ for / in their names."""
    named = {name.replace("__", "/"): value for name, value in readings.items()}
    return Update(seq, seq * 10, 1_700_000_000.0 + seq, named, event, attempt)


def grad(seq: int, value: float, *, attempt: int = 1) -> Update:
    return update(seq, attempt=attempt, train__grad_norm=value)


class OwnRules(RuleBook):
    """The rules of a test alone, without the packs that a service adds to an operator's files."""

    def __init__(self, paths: list[str]) -> None:
        self._paths = tuple(paths)
        self.version = 0
        self.reload()


@dataclass
class Bench:
    """A run service and all that a test wants to reach around it."""

    run_service: RunService
    opened: OpenedStore
    clock: MovedClock
    rules: Path

    def send(self, *updates: Update, run: str = "a", attempt: int = 1) -> Receipt:
        batch = Batch(run, attempt, list(enumerate(updates)))
        return self.run_service.accept(batch).result(10)

    def begin(self, beginning: Beginning) -> tuple[Begun, float | None]:
        begun: Future[tuple[Begun, float | None]] = Future()
        self.run_service.begin(beginning, begun)
        return begun.result(10)

    def alerts(self, run: str = "a") -> dict[str, str]:
        return {alert.rule: alert.state for alert in self.run_service.view(run, None).alerts}

    def notices(self) -> list[tuple[str, str]]:
        """(receiver, edge) of everything in the outbox, oldest first."""
        deliveries = self.opened.store.deliveries(DeliveryFilter(), 100, None).items
        return [(each.receiver, each.edge) for each in reversed(deliveries)]


@contextmanager
def bench(
    folder: Path,
    *,
    database_url: str | None = None,
    clock: MovedClock | None = None,
    routes: tuple[Route, ...] = (Route("ops"),),
    group_wait_s: float = 0.0,
    snapshot_every: int = 1_000,
    rules: str = RULES,
    packs: tuple[str, ...] = (),
) -> Iterator[Bench]:
    folder.mkdir(exist_ok=True)
    path = folder / "rules.yaml"
    path.write_text(rules)
    clock = clock or MovedClock()
    book = OwnRules([str(path), *packs])
    opened = open_store(StoreOptions(folder / "data", database_url=database_url))
    try:
        silences = SilenceCache(opened.store, clock)
        policy = IngestPolicy(
            TellingPolicy(
                group_wait_s, 5.0, 3600.0, lambda: routes, silences.newest, "http://localhost"
            ),
            Liveness(clock.now(), 300.0),
            snapshot_every,
            100,
            50,
        )
        run_service = RunService(
            opened.store,
            RunCache(book, 100),
            clock,
            EventBus(clock),
            policy,
            RunServiceOptions(600.0, 1_000, silences.current),
        )
        run_service.bus.subscribe(SilencesChanged, lambda _: silences.forget())
        yield Bench(run_service, opened, clock, path)
    finally:
        opened.close()


@contextmanager
def postgres_database() -> Iterator[str]:
    """A database of its own; skips the test where there is no server."""
    import pytest
    from sqlalchemy import create_engine
    from sqlalchemy.exc import OperationalError

    name = f"watchstep_test_{uuid.uuid4().hex[:12]}"
    engine = create_engine(POSTGRES, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
    except OperationalError:
        engine.dispose()
        pytest.skip("no PostgreSQL to test against; name one in WATCHSTEP_TEST_POSTGRES")
    try:
        yield engine.url.set(database=name).render_as_string(hide_password=False)
    finally:
        with engine.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
        engine.dispose()
