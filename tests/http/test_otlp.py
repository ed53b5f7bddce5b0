"""OpenTelemetry's metrics as readings: by hand in JSON, and from its own SDK in protobuf."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from service.http_kit import Answer, Client, made_token, served, upd
from watchstep_monitor.store.opening import StoreOptions


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Client]]:
    """An administrator, and one who may only write to the project `mine`."""
    folder = tmp_path_factory.mktemp("otlp")
    (folder / "data").mkdir()
    store = StoreOptions(folder / "data")
    tokens = {
        "boss": made_token(store, "boss", ["admin", "ingest", "read"]),
        "mine": made_token(store, "mine", ["ingest", "read"], ["mine"]),
        "reader": made_token(store, "reader", ["read"]),
    }
    settings = {"WATCHSTEP_OTLP__RUN_ATTRIBUTE": "training.run"}
    with served(folder, "--rules", "generic", **settings) as running:
        yield {name: Client(running.client.port, token) for name, token in tokens.items()}


def number(value: Any, seconds: float, **attributes: Any) -> dict[str, Any]:
    listed = [
        {"key": key, "value": {"stringValue" if isinstance(part, str) else "intValue": part}}
        for key, part in attributes.items()
    ]
    kind = "asInt" if isinstance(value, str) and value.isdigit() else "asDouble"
    point = {kind: value, "timeUnixNano": str(int(seconds * 1e9))}
    return {**point, "attributes": listed}


def gauge(name: str, *points: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "gauge": {"dataPoints": list(points)}}


def posted(client: Client, run: str | None, *metrics: dict[str, Any]) -> Answer:
    attributes = [{"key": "service.name", "value": {"stringValue": "any"}}]
    if run is not None:
        attributes.append({"key": "training.run", "value": {"stringValue": run}})
    resource = {"attributes": attributes}
    scopes = [{"scope": {"name": "mine"}, "metrics": list(metrics)}]
    body = {"resourceMetrics": [{"resource": resource, "scopeMetrics": scopes}]}
    return client.ask("POST", "/v1/metrics", body)


def course(client: Client, run: str, metric: str) -> list[tuple[int, Any]]:
    answer = client.get(f"/runs/{run}/series?metric={metric}").json
    return [(point["step"], point["value"]) for point in answer["points"]]


def test_gauges_and_sums_become_readings_of_the_run_that_the_attribute_names(
    clients: dict[str, Client],
) -> None:
    boss = clients["boss"]
    total = {
        "name": "tokens",
        "sum": {"dataPoints": [number("9007", 100.0)], "isMonotonic": True},
    }

    first = posted(boss, "o-1", gauge("train/loss", number(2.0, 100.0)), total)
    second = posted(boss, "o-1", gauge("train/loss", number("NaN", 101.0)))

    assert (first.status, first.json, second.status) == (200, {}, 200)
    run = boss.get("/runs/o-1").json
    assert (run["last_seq"], run["last_seqs"]) == (0, {"otlp": 2})
    assert run["readings"]["tokens"]["value"] == 9007
    assert course(boss, "o-1", "train/loss") == [(1, 2.0), (2, "NaN")]
    assert run["health"] != "healthy"


def test_points_of_one_name_are_updates_in_the_order_of_their_time(
    clients: dict[str, Client],
) -> None:
    points = [number(3.0, 103.0, step=30), number(1.0, 101.0, step=10), number(2.0, 102.0, step=20)]

    answer = posted(
        clients["boss"], "o-2", gauge("loss", *points), gauge("lr", number(0.1, 103.0, step=30))
    )

    assert answer.json == {}
    assert course(clients["boss"], "o-2", "loss") == [(10, 1.0), (20, 2.0), (30, 3.0)]
    assert course(clients["boss"], "o-2", "lr") == [(30, 0.1)]
    assert clients["boss"].get("/runs/o-2").json["last_seqs"] == {"otlp": 3}


def test_attributes_of_a_point_are_part_of_its_name(clients: dict[str, Client]) -> None:
    points = [number(60.0, 100.0, gpu="0"), number(61.0, 100.0, gpu="1")]

    posted(clients["boss"], "o-3", gauge("gpu.temperature", *points))

    readings = clients["boss"].get("/runs/o-3").json["readings"]
    assert {name: each["value"] for name, each in readings.items()} == {
        "gpu.temperature/gpu:0": 60.0,
        "gpu.temperature/gpu:1": 61.0,
    }


def test_what_is_no_reading_is_counted_and_the_rest_is_stored(clients: dict[str, Client]) -> None:
    histogram = {"name": "latency", "histogram": {"dataPoints": [{"count": "3"}, {"count": "4"}]}}

    answer = posted(clients["boss"], "o-4", histogram, gauge("loss", number(1.0, 100.0)))
    nameless = posted(clients["boss"], None, gauge("loss", number(1.0, 100.0)))

    partial = answer.json["partialSuccess"]
    assert (answer.status, partial["rejectedDataPoints"]) == (200, 2)
    assert "gauges and sums" in partial["errorMessage"]
    assert course(clients["boss"], "o-4", "loss") == [(1, 1.0)]
    assert nameless.json["partialSuccess"]["rejectedDataPoints"] == 1
    assert "training.run" in nameless.json["partialSuccess"]["errorMessage"]


def test_beside_a_trainer_they_are_a_source_of_the_same_run(clients: dict[str, Client]) -> None:
    boss = clients["boss"]
    boss.ask("PUT", "/api/v1/runs/o-5", {"trainer": "mine"})
    boss.send("o-5", upd(1, train__loss=1.0))

    posted(boss, "o-5", gauge("gpu", number(60.0, 100.0)))
    after = boss.send("o-5", upd(2, train__loss=0.9))
    posted(boss, "o-5", gauge("other_loss", number(math.nan, 101.0)))

    assert (after.status, after.json["accepted"], after.json["rejected"]) == (202, 1, [])
    assert (after.json["last_seq"], after.json["last_seqs"]) == (2, {"otlp": 1})
    run = boss.get("/runs/o-5").json
    assert (run["trainer"], run["attempt"], run["step"]) == ("mine", 1, 20)
    assert course(boss, "o-5", "gpu") == [(1, 60.0)]
    assert {(each["rule"], each["source"]) for each in run["alerts"]} >= {("LossNonFinite", "otlp")}


def test_a_run_that_otlp_began_before_it_was_a_source_goes_on_as_it_was(
    clients: dict[str, Client],
) -> None:
    boss = clients["boss"]
    boss.ask("PUT", "/api/v1/runs/o-11", {"trainer": "OpenTelemetry", "session": "otlp"})
    boss.send("o-11", upd(1, gpu=60.0))

    posted(boss, "o-11", gauge("gpu", number(61.0, 100.0)))

    run = boss.get("/runs/o-11").json
    assert (run["last_seq"], run["last_seqs"]) == (2, {})


def test_many_exporters_at_the_same_time_lose_nothing(clients: dict[str, Client]) -> None:
    def send(rank: int) -> int:
        point = number(float(rank), 100.0 + rank, rank=str(rank))
        return posted(clients["boss"], "o-6", gauge("speed", point)).status

    with ThreadPoolExecutor(4) as pool:
        statuses = list(pool.map(send, range(12)))

    assert statuses == [200] * 12
    run = clients["boss"].get("/runs/o-6").json
    assert {each["value"] for each in run["readings"].values()} == set(map(float, range(12)))
    assert (run["last_seqs"], run["counts"]["lost"]) == ({"otlp": 12}, 0)


def test_the_token_decides_where_readings_may_go(clients: dict[str, Client]) -> None:
    clients["boss"].ask("PUT", "/api/v1/runs/o-7", {"project": "theirs"})

    own = posted(clients["mine"], "o-8", gauge("loss", number(1.0, 100.0)))
    foreign = posted(clients["mine"], "o-7", gauge("loss", number(1.0, 100.0)))
    reading = posted(clients["reader"], "o-9", gauge("loss", number(1.0, 100.0)))

    assert (own.status, foreign.status, reading.status) == (200, 404, 403)
    assert clients["boss"].get("/runs/o-8").json["project"] == "mine"
    assert clients["boss"].get("/runs/o-7").json["last_seq"] == 0


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"[]", "application/json", 422),
        (b'{"resourceMetrics": 3}', "application/json", 422),
        (b'{"resourceMetrics": [3]}', "application/json", 422),
        (b'{"resourceMetrics": [{"scopeMetrics": [{"metrics": {}}]}]}', "application/json", 422),
        (b"{}", "text/plain", 415),
        (b"\xff\xff\xff", "application/x-protobuf", 400),
    ],
)
def test_what_is_no_otlp_is_refused(
    clients: dict[str, Client], body: bytes, kind: str, status: int
) -> None:
    if kind == "application/x-protobuf":
        pytest.importorskip("opentelemetry.proto", reason="needs the extra otlp")

    answer = clients["boss"].ask("POST", "/v1/metrics", body, {"Content-Type": kind})

    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"


def test_opentelemetrys_own_exporter_is_understood(
    clients: dict[str, Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter = pytest.importorskip("opentelemetry.exporter.otlp.proto.http.metric_exporter")
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.resources import Resource

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    boss = clients["boss"]
    sender = exporter.OTLPMetricExporter(
        endpoint=f"http://127.0.0.1:{boss.port}/v1/metrics",
        headers={"Authorization": f"Bearer {boss.token}"},
    )
    reader = PeriodicExportingMetricReader(sender, export_interval_millis=math.inf)
    resource = Resource.create({"training.run": "from-the-sdk"})
    provider = MeterProvider(resource=resource, metric_readers=[reader])
    meter = provider.get_meter("trainer")
    meter.create_counter("tokens").add(2048)
    meter.create_gauge("train/loss").set(0.25)

    delivered = provider.force_flush()
    provider.shutdown()

    readings = boss.get("/runs/from-the-sdk").json["readings"]
    assert delivered
    assert {name: each["value"] for name, each in readings.items()} == {
        "tokens": 2048,
        "train/loss": 0.25,
    }


def test_a_bare_nan_is_a_reading(clients: dict[str, Client]) -> None:
    posted(clients["boss"], "o-10", gauge("loss", number(math.nan, 100.0)))

    assert course(clients["boss"], "o-10", "loss") == [(1, "NaN")]
