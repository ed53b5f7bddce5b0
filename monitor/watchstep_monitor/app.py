"""Builds the service from its settings: the one place where all parts meet."""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from starlette.types import ASGIApp

import watchstep
from watchstep.errors import RuleError, SettingsError
from watchstep_monitor.gauges import (
    CONTENT_TYPE,
    Exposition,
    Instruments,
    ServiceState,
)
from watchstep_monitor.http.application import build_application
from watchstep_monitor.http.batches import BatchReader
from watchstep_monitor.http.context import Context, caller
from watchstep_monitor.http.deadlines import Deadline
from watchstep_monitor.http.rates import RateCap
from watchstep_monitor.http.tokens import Keyring
from watchstep_monitor.notify import NotifyConfig, ReceiverConfig, Worker, chart
from watchstep_monitor.service.alerting.links import LinkSigner
from watchstep_monitor.service.alerting.notifications import Route, TellingPolicy
from watchstep_monitor.service.alerting.silences import SilenceCache, parse_matcher
from watchstep_monitor.service.clock import SharedClock, SystemClock
from watchstep_monitor.service.errors import InvalidError
from watchstep_monitor.service.events import EventBus, RulesRead, SilencesChanged
from watchstep_monitor.service.ingest.ingest import IngestPolicy
from watchstep_monitor.service.outcomes import LoopOutcomes
from watchstep_monitor.service.ports import Clock, Notice
from watchstep_monitor.service.postmortem.runner import Postmortems
from watchstep_monitor.service.retention import Retention
from watchstep_monitor.service.run_service import RunService, RunServiceOptions
from watchstep_monitor.service.run_state.rulebook import RuleBook
from watchstep_monitor.service.run_state.run_cache import RunCache
from watchstep_monitor.service.run_state.status import Liveness
from watchstep_monitor.service.scheduler import Scheduler
from watchstep_monitor.service.series import Line, thin
from watchstep_monitor.service.tokens import TokenWatch
from watchstep_monitor.settings import Settings
from watchstep_monitor.store import OpenedStore, open_store
from watchstep_monitor.store.damage import places_found
from watchstep_monitor.store.opening import StoreOptions
from watchstep_monitor.store.postgres.notify import TOKENS
from watchstep_monitor.store.postgres.replicas import RELOAD, Told
from watchstep_monitor.store.sql_store import SqlStore
from watchstep_monitor.store.tokens import adopt_filed
from watchstep_monitor.store.writer import GroupCommit
from watchstep_monitor.web import page_routes

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Service:
    """Everything that runs while the service does.

    Attributes:
        asgi: What a server is given.
        stopping: Set from the event loop when the service ends.
    """

    asgi: ASGIApp
    run_service: RunService
    opened: OpenedStore
    worker: Worker
    scheduler: Scheduler
    stopping: asyncio.Event


@contextmanager
def running(settings: Settings, base_url: str, clock: Clock | None = None) -> Iterator[Service]:
    """Open the store, start the threads; end all of it on the way out.

    Args:
        clock: None for the machine's, or for the database's where that is shared.

    Raises:
        SettingsError: Something cannot be opened or is configured wrongly; one line.
        RuleError: A rule file is wrong.
    """
    shared = SharedClock() if settings.database_url is not None else None
    clock = clock or shared or SystemClock()
    book = RuleBook(settings.rules.paths)
    instruments = Instruments(clock)
    routes = routes_of(settings)
    with ExitStack() as ending:
        opened = open_store(store_options(settings), instruments, shared)
        ending.callback(opened.close)
        tokens = TokenWatch(opened.tokens, clock)
        ending.callback(tokens.stop)
        adopt_filed(opened.tokens, settings.data_dir)
        tokens.start()
        _refuse_open_doors(settings, tokens)
        service = _assembled(settings, base_url, clock, book, instruments, opened, routes, tokens)
        retention = Retention(service.run_service, settings.retention)
        for part in (service.worker, service.scheduler, retention):
            ending.callback(part.stop)
            part.start()
        yield service


def _refuse_open_doors(settings: Settings, tokens: TokenWatch) -> None:
    """Without tokens, only this machine may reach the service."""
    if not (settings.auth.tokens or tokens.current() or is_loopback(settings.host)):
        raise SettingsError(
            f"host {settings.host}: reachable by others, and no token is configured; "
            "run `watchstep token create` first"
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _assembled(
    settings: Settings,
    base_url: str,
    clock: Clock,
    book: RuleBook,
    instruments: Instruments,
    opened: OpenedStore,
    routes: list[Route],
    tokens: TokenWatch,
) -> Service:
    bus = EventBus(clock)
    instruments.listen_to(bus)
    worker = _worker(settings, opened, clock, bus)
    silences = SilenceCache(opened.store, clock)
    bus.subscribe(SilencesChanged, lambda _: silences.forget())
    signer = LinkSigner(
        opened.store.shared_key("links"), (settings.public_url or base_url).rstrip("/")
    )
    policy = _ingest_policy(settings, signer, clock, silences, routes, worker)
    fleet = RunCache(book, settings.store.cached_runs)
    run_service = RunService(
        opened.store,
        fleet,
        clock,
        bus,
        policy,
        RunServiceOptions(
            settings.commands.expire_s, settings.limits.queued_requests, silences.current
        ),
    )
    replicas = opened.replicas
    if replicas is not None:
        bus.subscribe(RulesRead, replicas.tell_of_reload)
        replicas.start(functools.partial(_hear, run_service, tokens))
    scheduler = Scheduler(
        run_service,
        settings.stall.check_interval_s,
        leads=replicas.leads if replicas is not None else lambda: True,
        keep_ended_s=settings.gauges.keep_after_end_s,
    )
    keyring = Keyring(settings.auth.tokens, tokens, clock)
    context = _context(settings, run_service, opened, worker, instruments, clock, keyring)
    asgi = build_application(
        context,
        version=watchstep.__version__,
        pages=[
            page_routes(
                run_service,
                lambda request: caller(request.headers, request.scope, context, "read").projects,
                watchstep.__version__,
            )
        ],
    )
    return Service(asgi, run_service, opened, worker, scheduler, context.stopping)


def _hear(run_service: RunService, tokens: TokenWatch, event: Told) -> None:
    """Take notice of what another replica did: mostly by telling this one's listeners."""
    if event.kind == TOKENS:
        tokens.look_soon()
        return
    if event.kind == RELOAD:
        try:
            run_service.read_rules(asked_here=False)
        except RuleError as error:
            log.warning("the rules stay as they were", extra={"reason": str(error)})
        return
    run_service.bus.happened(event.kind, event.run, event.project, event.detail, event.at_us)


def _context(
    settings: Settings,
    run_service: RunService,
    opened: OpenedStore,
    worker: Worker,
    instruments: Instruments,
    clock: Clock,
    keyring: Keyring,
) -> Context:
    exposition = Exposition(
        instruments,
        run_service,
        clock,
        ServiceState(
            outbox_depth=opened.outbox.outbox_depth,
            disabled_receivers=lambda: {
                receiver.name: bool(receiver.disabled) for receiver in worker.receivers()
            },
            store_failing=lambda: opened.store.failing,
            damaged=places_found,
            free_bytes=opened.store.free_bytes,
        ),
        settings.gauges,
    )
    limits = settings.limits
    return Context(
        run_service=run_service,
        keyring=keyring,
        batches=BatchReader(limits),
        worker=worker,
        outbox=opened.outbox,
        exposition=lambda projects: (exposition.render(projects), CONTENT_TYPE),
        metrics=instruments,
        limits=limits,
        rates=RateCap(limits.requests_per_s),
        caps_addresses="requests_per_s" in limits.model_fields_set,
        stopping=asyncio.Event(),
        postmortems=Postmortems(opened.store, limits),
        outcomes=LoopOutcomes(),
        commit_wait=Deadline(limits.commit_wait_s),
        otlp_run_attribute=settings.otlp.run_attribute,
    )


def _ingest_policy(
    settings: Settings,
    signer: LinkSigner,
    clock: Clock,
    silences: SilenceCache,
    routes: list[Route],
    worker: Worker,
) -> IngestPolicy:
    def live_routes() -> list[Route]:
        gone = {status.name for status in worker.receivers() if status.disabled}
        return [route for route in routes if route.receiver not in gone]

    alerts = settings.alerts
    return IngestPolicy(
        telling=TellingPolicy(
            group_wait_s=alerts.group_wait_s,
            group_interval_s=alerts.group_interval_s,
            repeat_interval_s=alerts.repeat_interval_s,
            routes=live_routes,
            silences=silences.newest,
            base_url=signer.base_url,
            signer=signer if settings.notify.action_links else None,
        ),
        hearing=Liveness(clock.now(), settings.stall.timeout_s),
        snapshot_every=settings.store.snapshot_updates,
        most_runs=settings.limits.runs,
        most_metrics_per_run=settings.limits.metrics_per_run,
    )


def _worker(settings: Settings, opened: OpenedStore, clock: Clock, bus: EventBus) -> Worker:
    try:
        return Worker(
            opened.outbox,
            notify_config(settings),
            clock,
            bus=bus,
            ready=lambda: opened.store.ready() is None,
            chart=functools.partial(_chart, opened.store),
        )
    except ValueError as error:
        raise SettingsError(str(error)) from None


def _chart(store: SqlStore, notice: Notice) -> bytes | None:
    """A picture of the newest stretch of the reading that raised the worst alert."""
    metric = next((alert.metric for alert in notice.alerts if alert.metric), "")
    if not metric:
        return None
    series = store.series(notice.run, metric, None, None, chart.POINTS)
    points, _ = thin(Line(series.stretches), chart.POINTS)
    return chart.draw(metric, points, notice.first_step)


def notify_config(settings: Settings) -> NotifyConfig:
    """Receivers and manners, as the delivery worker takes them.

    Raises:
        ValueError: A receiver's settings can never work.
    """
    notify, heartbeat = settings.notify, settings.heartbeat
    return NotifyConfig(
        receivers=tuple(
            ReceiverConfig(
                name=name,
                kind=receiver.kind,
                url=receiver.url.get_secret_value(),
                secret=receiver.secret.get_secret_value() if receiver.secret else "",
            )
            for name, receiver in settings.receivers.items()
        ),
        timeout_s=notify.timeout_s,
        retry_base_s=notify.retry_base_s,
        retry_max_s=notify.retry_max_s,
        max_attempts=notify.max_attempts,
        rate_per_minute=notify.rate_per_minute,
        at_once=notify.at_once,
        allow_private_cidrs=notify.allow_private_cidrs,
        heartbeat_url=heartbeat.url.get_secret_value() if heartbeat.url else "",
        heartbeat_s=heartbeat.interval_s,
    )


def routes_of(settings: Settings) -> list[Route]:
    """Which receiver hears of what.

    Raises:
        SettingsError: A matcher cannot be used.
    """
    routes = []
    for name, receiver in settings.receivers.items():
        try:
            matchers = tuple(parse_matcher(text) for text in receiver.match)
        except InvalidError as error:
            raise SettingsError(f"receivers.{name}.match: {error}") from None
        routes.append(Route(name, receiver.min_severity, matchers, receiver.notify_on))
    return routes


def store_options(settings: Settings) -> StoreOptions:
    url: Mapping[str, str] = (
        {"database_url": settings.database_url.get_secret_value()} if settings.database_url else {}
    )
    return StoreOptions(
        data_dir=settings.data_dir,
        busy_timeout_s=settings.store.busy_timeout_s,
        writers=settings.store.writers,
        readers=settings.store.readers,
        group=GroupCommit(settings.store.commit_interval_s, settings.store.commit_updates),
        **url,
    )
