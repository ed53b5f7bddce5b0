"""What no caller may achieve: an error of the service, a hung connection, memory, others' data."""

from __future__ import annotations

import gzip
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.http_kit import Client, Running, made_token, served, upd
from watchstep.wire.rows import ROWS_TYPE
from watchstep_monitor.store.opening import StoreOptions

pytestmark = pytest.mark.long

TOKENS = {
    "mine": ("admin", "ingest", "read"),
    "theirs": ("admin", "ingest", "read"),
}
GROWTH_MOST = 64 * 1024 * 1024


def resident(running: Running, which: str = "VmRSS:") -> int:
    status = Path(f"/proc/{running.process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith(which))
    return int(line.split()[1]) * 1024


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, dict[str, str]]]:
    """A service with two projects' tokens, few requests a second and little patience."""
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "data").mkdir()
    store = StoreOptions(folder / "data")
    made = {name: made_token(store, name, scopes, [name]) for name, scopes in TOKENS.items()}
    made["busy"] = made_token(store, "busy", ["read"])
    limits = {
        "WATCHSTEP_LIMITS__REQUESTS_PER_S": "4",
        "WATCHSTEP_LIMITS__HEAD_READ_S": "0.5",
        "WATCHSTEP_LIMITS__BODY_READ_S": "2",
    }
    with served(folder, **limits) as running:
        yield running, made


def test_a_token_that_calls_too_often_is_told_when_to_come_back(
    guarded: tuple[Running, dict[str, str]],
) -> None:
    running, tokens = guarded
    busy = Client(running.client.port, tokens["busy"])

    answers = [busy.get("/runs") for _ in range(40)]

    refused = [answer for answer in answers if answer.status == 429]
    assert answers[0].status == 200
    assert refused
    assert all(int(each.headers["retry-after"]) >= 1 for each in refused)
    assert Client(running.client.port, tokens["mine"]).get("/runs").status == 200


def test_without_tokens_an_address_that_calls_too_often_is_told_when_to_come_back(
    tmp_path: Path,
) -> None:
    with served(tmp_path, WATCHSTEP_LIMITS__REQUESTS_PER_S="2") as running:
        answers = [running.client.send("a", upd(n, x=1.0)) for n in range(1, 25)]
        health = running.client.ask("GET", "/healthz")

    refused = [answer for answer in answers if answer.status == 429]
    assert answers[0].status == 202
    assert refused
    assert all(int(each.headers["retry-after"]) >= 1 for each in refused)
    assert health.status == 200


def test_a_limited_token_sees_and_ends_its_own_silences_only(
    guarded: tuple[Running, dict[str, str]],
) -> None:
    running, tokens = guarded
    mine = Client(running.client.port, tokens["mine"])
    theirs = Client(running.client.port, tokens["theirs"])

    made = mine.post("/silences", {"matchers": ['rule=~".*"'], "duration_s": 60}).json
    path = f"/api/v1/silences/{made['id']}"
    seen = [item["id"] for item in theirs.get("/silences").json["items"]]
    foreign, own = theirs.ask("DELETE", path), mine.ask("DELETE", path)

    assert {"name": "project", "value": "mine", "isRegex": True, "isEqual": True} in made[
        "matchers"
    ]
    assert seen == []
    assert (foreign.status, own.status) == (404, 204)


@pytest.mark.parametrize(
    "head",
    [b"", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: "],
    ids=["nothing", "half a head"],
)
def test_a_client_that_does_not_finish_its_headers_is_cut(
    guarded: tuple[Running, dict[str, str]], head: bytes
) -> None:
    port = guarded[0].client.port
    with socket.create_connection(("127.0.0.1", port), timeout=15) as slow:
        slow.sendall(head)
        begun = time.monotonic()
        try:
            rest = slow.recv(1)
        except ConnectionResetError:
            rest = b""

    assert rest == b""
    assert time.monotonic() - begun < 10


def test_a_head_without_end_is_cut(guarded: tuple[Running, dict[str, str]]) -> None:
    port = guarded[0].client.port
    sent = 0
    with socket.create_connection(("127.0.0.1", port), timeout=15) as endless:
        try:
            endless.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Long: ")
            while sent < 50_000_000:
                sent += endless.send(b"x" * 65_536)
        except OSError:
            pass

    assert sent < 50_000_000


def test_a_body_that_trickles_is_answered_408(guarded: tuple[Running, dict[str, str]]) -> None:
    running, tokens = guarded
    with socket.create_connection(("127.0.0.1", running.client.port), timeout=15) as slow:
        slow.sendall(
            b"POST /api/v1/runs/a/updates HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n"
            b"Authorization: Bearer %s\r\n\r\n{" % tokens["mine"].encode()
        )
        assert slow.recv(64).startswith(b"HTTP/1.1 408")


def test_a_body_that_is_declared_too_large_is_refused_before_it_comes(
    service: Running,
) -> None:
    with socket.create_connection(("127.0.0.1", service.client.port), timeout=5) as sender:
        sender.sendall(
            b"POST /api/v1/runs/a/updates HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Length: 2000000\r\n\r\n"
        )
        answer = sender.recv(4_096)
        while b"too_long" not in answer:
            answer += sender.recv(4_096)
        # The whole answer is there; whoever goes on sending is not cut off meanwhile.
        sender.sendall(b"x" * 2_000_000)

    assert answer.startswith(b"HTTP/1.1 413")


def test_giant_bodies_and_bombs_cost_no_memory(service: Running) -> None:
    client, port = service.client, service.client.port
    bomb = gzip.compress(bytes(100_000_000), 6)
    client.send("m", upd(1, a=1.0))
    before = resident(service)
    # From now on the kernel's high-water mark is that of what follows.
    Path(f"/proc/{service.process.pid}/clear_refs").write_text("5", "ascii")

    for _ in range(4):
        answer = client.post("/runs/m/updates", bomb, **{"Content-Encoding": "gzip"})
        assert answer.status == 413
    for declared in (b"Content-Length: 200000000", b"Transfer-Encoding: chunked"):
        with socket.create_connection(("127.0.0.1", port), timeout=20) as sender:
            sender.sendall(
                b"POST /api/v1/runs/m/updates HTTP/1.1\r\nHost: localhost\r\n"
                b"Content-Type: application/json\r\n" + declared + b"\r\n\r\n"
            )
            piece = b"x" * 65_536
            piece = b"10000\r\n" + piece + b"\r\n" if b"chunked" in declared else piece
            try:
                for _ in range(200_000_000 // 65_536):
                    sender.sendall(piece)
            except OSError:
                # Cut, as it should be.
                pass

    assert resident(service, "VmHWM:") - before < GROWTH_MOST
    assert client.ask("GET", "/metrics").status == 200


CORPUS = [
    b'{"attempt":1,"updates":[{"seq":1,"step":1,"time":1,"metrics":{"a":%s}}]}' % value
    for value in (b"1e308", b"-0", b"1e-400", b"nan", b"Infinity", b'"1"', b"[]", b"{}", b"null")
] + [
    b'{"attempt":1,"updates":[{"seq":%s,"step":1,"time":1,"metrics":{}}]}' % value
    for value in (b"9" * 30, b"1.0", b"-1", b'"1"', b"9007199254740993", b"1e3")
] + [
    b'{"attempt":1,"updates":[{"seq":1,"step":1,"time":%s,"metrics":{}}]}' % value
    for value in (b'"9999-12-31T23:59:59Z"', b'"0001-01-01T00:00:00+23:59"', b"1e300", b"-1e18")
] + [
    b'{"attempt":1,"updates":[{"seq":1,"step":1,"time":1,"event":%s}]}' % value
    for value in (
        b'{"kind":"failed","error":[[[[1]]]]}',
        b'{"kind":"checkpoint","pinned":1,"path":{},"step":"x","sha256":null}',
        b'{"kind":"guard","verdict":{"a":NaN}}',
        b'{"kind":"command","id":7}',
        b'{"kind":"log","text":"\\u0000\\u2028\\ud83d\\ude00"}',
        b'{"kind":["log"]}',
    )
]  # fmt: skip


@pytest.mark.parametrize("at", range(len(CORPUS)))
def test_odd_bodies_end_in_no_error_of_the_service(client: Client, at: int) -> None:
    run = f"odd-{at}"

    answer = client.post(f"/runs/{run}/updates", CORPUS[at])

    assert answer.status < 500
    assert client.get(f"/runs/{run}").status in {200, 404}
    assert client.get(f"/runs/{run}/timeline").status in {200, 404}
    assert client.ask("GET", "/metrics").status == 200


_HEAD = struct.pack("<4sQ", b"WSR1", 1)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.binary(max_size=120) | st.binary(max_size=120).map(lambda tail: _HEAD + tail), st.booleans()
)
def test_any_bytes_end_in_no_error_of_the_service(client: Client, body: bytes, rows: bool) -> None:
    kind = ROWS_TYPE if rows else "application/json"

    answer = client.ask("POST", "/api/v1/runs/any/updates", body, {"Content-Type": kind})

    assert answer.status < 500


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(_JSON, _JSON, _JSON)
def test_any_json_ends_in_no_error_of_the_service(
    client: Client, seq: object, metric: object, event: object
) -> None:
    item = {"seq": seq, "step": 1, "time": 1, "metrics": {"a": metric}, "event": event}
    calls = [
        ("POST", "/api/v1/runs/any/updates", {"attempt": 1, "updates": [item]}),
        ("PUT", "/api/v1/runs/any", {"tags": metric, "config": event}),
        ("POST", "/api/v1/silences", {"matchers": seq, "duration_s": metric}),
    ]

    assert [client.ask(*call).status < 500 for call in calls] == [True] * 3


@pytest.mark.parametrize("part", ["runs", "alerts", "others"])
def test_the_described_api_holds_against_generated_calls(client: Client, part: str) -> None:
    schemathesis = pytest.importorskip("schemathesis", reason="a tool of development")
    base = f"http://127.0.0.1:{client.port}"
    schema = schemathesis.openapi.from_url(f"{base}/openapi.json")
    calls = [get_all_operation.ok() for get_all_operation in schema.get_all_operations()]
    bad: list[str] = []

    for call in calls:
        call_part = next((name for name in ("runs", "alerts") if f"/{name}" in call.path), "others")
        if call_part != part or call.path.endswith("/events"):
            continue

        @settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
        @given(case=call.as_strategy())
        def tried(case) -> None:
            answer = case.call(base_url=base)
            if answer.status_code >= 500:
                bad.append(f"{case.method} {case.path} {answer.status_code}")

        tried()

    assert bad == []
    assert client.ask("GET", "/metrics").status == 200
