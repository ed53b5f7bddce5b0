"""What the tests of notifications share: notices, a clock, an outbox, and real receivers."""

from __future__ import annotations

import math
import subprocess
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from watchstep_monitor.notify import NotifyConfig, ReceiverConfig, Worker
from watchstep_monitor.service.ports import (
    AlertView,
    Dead,
    Delivered,
    Delivery,
    DeliveryState,
    Notice,
    Outcome,
    ReceiverGone,
    Retry,
)

START = datetime(2026, 11, 23, 4, 11, 5, tzinfo=UTC)
PATIENCE_S = 20.0


def alert(**changes: object) -> AlertView:
    plain = AlertView(
        id="al-1",
        rule="AdvantagesBeyondBound",
        severity="critical",
        state="firing",
        run="ppo-7",
        project="trading",
        attempt=1,
        since=START,
        first_update=1098,
        last_update=1100,
        resolved_at=None,
        metric="train/advantages_norm_max_abs",
        reading=18500.0,
        action="halt",
        reason="18500 is above the bound 45.2 for 2048 advantages",
        summary="The advantages were normalised with statistics of other data",
        cause="A stale or foreign standard deviation",
        runbook_url="https://runs.example.org/runbooks/bound",
    )
    return replace(plain, **changes)


def notice(**changes: object) -> Notice:
    plain = Notice(
        id="nt-1",
        run="ppo-7",
        project="trading",
        attempt=1,
        incident="inc-1",
        edge="opened",
        stage="explosion",
        diagnosis="The standard deviation comes from an earlier update",
        confidence=0.85,
        alerts=(alert(),),
        readings={"train/advantages_norm_max_abs": 18500.0, "train/policy_loss": math.nan},
        checkpoint={"path": "ckpt/step-1097.pt", "step": 1097, "sha256": "ab" * 32},
        trainer_did="halted at update 1100",
        links={"run": "https://watch.example.org/runs/ppo-7"},
        at=START,
        status="halted",
    )
    return replace(plain, **changes)


def receiver(kind: str, to: str = "ann@example.org") -> ReceiverConfig:
    if kind == "email":
        url = f"smtp://mail.example.org?from=watch@example.org&to={to}"
        return ReceiverConfig("ops", kind, url)
    return ReceiverConfig("ops", kind, "https://hook.example.org/x", secret="ROUTING-KEY")


class ManualClock:
    def __init__(self) -> None:
        self.passed_s = 0.0

    def now(self) -> datetime:
        return START + timedelta(seconds=self.passed_s)

    def monotonic(self) -> float:
        return self.passed_s


@dataclass
class Row:
    delivery: Delivery
    state: DeliveryState = "waiting"
    leased_until: datetime | None = None
    outcomes: list[Outcome] = field(default_factory=list)


class MemoryOutbox:
    """A DeliveryStore in memory, true to the port: order, leases and all."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.rows: list[Row] = []
        self.renewed = 0
        self.fail_with: Exception | None = None

    def put(self, receiver: str, message: Notice, at: datetime = START) -> None:
        with self._changed:
            row = Delivery(f"dl-{len(self.rows)}", receiver, message, 1, at, at)
            self.rows.append(Row(row))

    def claim(
        self, now: datetime, limit: int, lease_s: float, busy: Collection[str]
    ) -> list[Delivery]:
        with self._changed:
            self._trouble()
            given: list[Delivery] = []
            heads: set[tuple[str, str]] = set()
            for row in self.rows:
                pair = (row.delivery.receiver, row.delivery.notice.incident)
                if row.state != "waiting" or pair in heads:
                    continue
                heads.add(pair)
                free = row.leased_until is None or row.leased_until <= now
                due = row.delivery.next_at <= now
                if free and due and len(given) < limit and pair[0] not in busy:
                    row.leased_until = now + timedelta(seconds=lease_s)
                    given.append(row.delivery)
            return given

    def renew(self, deliveries: Iterable[Delivery], now: datetime, lease_s: float) -> None:
        with self._changed:
            self._trouble()
            ids = {delivery.id for delivery in deliveries}
            for row in self.rows:
                if row.delivery.id in ids:
                    row.leased_until = now + timedelta(seconds=lease_s)
                    self.renewed += 1
            self._changed.notify_all()

    def settle(self, delivery: Delivery, outcome: Outcome, now: datetime) -> None:
        with self._changed:
            self._trouble()
            row = next(row for row in self.rows if row.delivery.id == delivery.id)
            row.outcomes.append(outcome)
            row.leased_until = None
            if isinstance(outcome, Delivered):
                row.state = "delivered"
            elif isinstance(outcome, Retry):
                row.delivery = replace(
                    row.delivery, attempt=row.delivery.attempt + 1, next_at=outcome.at
                )
            elif isinstance(outcome, Dead):
                row.state = "dead"
            else:
                assert isinstance(outcome, ReceiverGone)
                for other in self.rows:
                    if other.delivery.receiver == delivery.receiver and other.state == "waiting":
                        other.state = "dead"
            self._changed.notify_all()

    def next_due(self) -> datetime | None:
        with self._changed:
            self._trouble()
            waiting = [row for row in self.rows if row.state == "waiting"]
            return min((row.leased_until or row.delivery.next_at for row in waiting), default=None)

    def outbox_depth(self) -> Mapping[DeliveryState, int]:
        with self._changed:
            return {
                state: sum(row.state == state for row in self.rows)
                for state in ("waiting", "delivered", "dead")
            }

    def outcomes(self) -> list[Outcome]:
        with self._changed:
            return [outcome for row in self.rows for outcome in row.outcomes]

    def until(self, settled: Callable[[list[Row]], bool]) -> None:
        """Wait for the outbox to reach a state; fail when it does not."""
        with self._changed:
            assert self._changed.wait_for(lambda: settled(self.rows), PATIENCE_S), [
                (row.delivery.receiver, row.state, row.outcomes) for row in self.rows
            ]

    def until_settled(self, attempts: int) -> None:
        self.until(lambda rows: sum(len(row.outcomes) for row in rows) >= attempts)

    def _trouble(self) -> None:
        if self.fail_with is not None:
            raise self.fail_with


@dataclass(frozen=True)
class Request:
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Reply:
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b"ok"


class HttpReceiver:
    """A real server on a real socket; answers what it was told to, in order, then 200."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.replies: list[Reply] = []
        self.release = threading.Event()
        self.release.set()
        self.hung_up = threading.Event()
        self._came = threading.Condition()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                receiver._serve(self)

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?key=hush"

    def until(self, count: int) -> None:
        with self._came:
            assert self._came.wait_for(lambda: len(self.requests) >= count, PATIENCE_S)

    def close(self) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["content-length"]))
        with self._came:
            headers = {name.lower(): value for name, value in handler.headers.items()}
            self.requests.append(Request(handler.path, headers, body))
            reply = self.replies.pop(0) if self.replies else Reply()
            self._came.notify_all()
        self.release.wait(PATIENCE_S)
        try:
            handler.send_response(reply.status)
            for name, value in reply.headers.items():
                handler.send_header(name, value)
            handler.send_header("content-length", str(len(reply.body)))
            handler.end_headers()
            handler.wfile.write(reply.body)
        except OSError:
            handler.close_connection = True
            self.hung_up.set()


@contextmanager
def http_receiver() -> Iterator[HttpReceiver]:
    receiver = HttpReceiver()
    try:
        yield receiver
    finally:
        receiver.close()


def certificate_for(name: str, folder: Path) -> tuple[Path, Path]:
    """A certificate that signs itself, and its key."""
    certificate, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-keyout", key, "-out", certificate, "-days", "2"),
            *("-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key


def config(*receivers: ReceiverConfig, **changes: object) -> NotifyConfig:
    plain = NotifyConfig(
        receivers=receivers,
        timeout_s=5.0,
        retry_base_s=0.0,
        poll_s=0.05,
        allow_private_cidrs=("127.0.0.1/32",),
    )
    return replace(plain, **changes)


@contextmanager
def running(worker: Worker) -> Iterator[Worker]:
    worker.start()
    try:
        yield worker
    finally:
        worker.stop(timeout_s=2.0)
