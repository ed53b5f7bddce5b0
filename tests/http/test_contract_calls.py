"""Every call of the contract against the real service on a real socket."""

from __future__ import annotations

import gzip
import json
import re
import socket

import pytest

from service.http_kit import Client, Running, raw_exchange, until, upd
from service.receiver import Receiver


def test_a_run_is_begun_fed_and_asked_for(client: Client) -> None:
    begun = client.ask(
        "PUT", "/api/v1/runs/c1", {"project": "trading", "tags": {"env": "x"}, "session": "s"}
    )
    again = client.ask("PUT", "/api/v1/runs/c1", {"session": "s"})
    sent = client.send("c1", upd(1, train__grad_norm=1.5, train__loss=0.5))
    status = client.get("/runs/c1").json

    assert (begun.status, begun.json["attempt"], begun.json["last_seq"]) == (200, 1, 0)
    assert again.json["attempt"] == 1
    assert sent.status == 202
    assert sent.json == {
        "accepted": 1,
        "duplicates": 0,
        "rejected": [],
        "last_seq": 1,
        "last_seqs": {},
        "commands": [],
        "rules": begun.json["rules"]["fingerprint"],
        "attempt": 1,
        "left_out": 0,
    }
    assert (status["status"], status["step"], status["last_seq"]) == ("running", 10, 1)
    assert status["readings"]["train/loss"]["value"] == 0.5
    assert status["project"] == "trading"


def test_non_finite_readings_survive_every_hop_as_words(client: Client) -> None:
    body = (
        b'{"attempt":1,"updates":[{"seq":1,"step":1,"time":"2026-01-01T00:00:00Z","metrics":'
        b'{"a":NaN,"b":"Infinity","c":-Infinity,"d":1}}]}'
    )
    client.post("/runs/c2/updates", body)

    readings = client.get("/runs/c2").json["readings"]
    series = client.get("/runs/c2/series?metric=c").json["points"]
    gauges = client.ask("GET", "/metrics").body.decode()

    assert {name: reading["value"] for name, reading in readings.items()} == {
        "a": "NaN",
        "b": "Infinity",
        "c": "-Infinity",
        "d": 1.0,
    }
    assert series[0]["value"] == "-Infinity"
    assert 'watchstep_run_reading{run="c2",project="default",metric="a"} NaN' in gauges


def test_a_bad_update_reaches_the_receiver_signed_once(client: Client) -> None:
    client.send("c3", upd(1, train__loss=1.0), upd(2, train__loss="NaN"))

    headers, notice = Receiver.next_of("c3")
    listed = until(lambda: client.get("/deliveries?state=delivered&run=c3").json["items"])

    assert "LossGone" in {alert["labels"]["alertname"] for alert in notice["alerts"]}
    assert notice["watchstep"]["stage"] == "divergence"
    assert headers["webhook-signature"].startswith("v1,")
    assert [each["edge"] for each in listed] == ["opened"]
    assert all(other["watchstep"]["run"] != "c3" for _, other in list(Receiver.taken.queue))


def test_alerts_can_be_listed_acknowledged_and_silenced(client: Client) -> None:
    client.send("c4", upd(1, train__grad_norm=50.0))
    firing = client.get("/alerts?state=firing&run=c4&severity=warning").json["items"]
    alert = firing[0]

    acked = client.post(f"/alerts/{alert['id']}/ack", {"by": "ada"})
    made = client.post("/silences", {"matchers": ['run="c4"'], "duration_s": 60})
    silenced = client.get(f"/alerts/{alert['id']}").json
    listed = client.get("/silences").json["items"]
    ended = client.ask("DELETE", f"/api/v1/silences/{made.json['id']}")

    wanted = (
        "id",
        "run",
        "attempt",
        "rule",
        "severity",
        "state",
        "since",
        "first_update",
        "last_update",
        "resolved_at",
        "reading",
        "action",
        "acknowledged",
        "silenced",
        "summary",
    )
    assert set(wanted) <= set(alert)
    assert (alert["first_update"], alert["reading"]) == (1, 50.0)
    assert acked.json["acknowledged"] is True
    assert made.json in listed
    assert (made.status, silenced["silenced"], ended.status) == (201, True, 204)
    assert client.get(f"/alerts/{alert['id']}").json["silenced"] is False


def test_a_halt_reaches_the_trainer_with_the_reply_to_its_next_updates(client: Client) -> None:
    client.send("c5", upd(1, x=1.0))

    halt = client.post("/runs/c5/commands", {"kind": "halt", "reason": "enough"})
    commands = client.send("c5", upd(2, x=1.0)).json["commands"]

    assert halt.status == 202
    assert [(each["id"], each["kind"], each["attempt"]) for each in commands] == [
        (halt.json["id"], "halt", 1)
    ]


def test_the_timeline_tells_transitions_events_and_stages_in_order(client: Client) -> None:
    client.send("c6", upd(1, train__grad_norm=50.0), upd(2, train__loss="NaN"))
    client.send("c6", {"seq": 3, "step": 30, "time": 1.0, "event": {"kind": "halted", "step": 7}})

    timeline = client.get("/runs/c6/timeline").json["items"]

    kinds = [(each["kind"], each.get("rule") or each.get("stage")) for each in timeline]
    assert kinds.index(("transition", "GradHigh")) < kinds.index(("stage", "early signs"))
    assert kinds.index(("stage", "early signs")) < kinds.index(("transition", "LossGone"))
    assert kinds[-1][0] == "status"
    halted = next(each for each in timeline if each["kind"] == "event")
    assert halted["event"] == {"kind": "halted", "step": 7}
    assert halted["since_first_sign"]["updates"] == 2


def test_incidents_rules_receivers_and_docs_answer(client: Client) -> None:
    client.send("c7", upd(1, train__grad_norm=50.0))

    incident = client.get("/incidents?run=c7").json["items"][0]
    test = client.post("/receivers/ops/test", b"")

    assert (incident["stage"], incident["first_bad_update"]) == ("early signs", 1)
    assert {rule["name"] for rule in client.get("/rules").json["items"]} >= {"GradHigh"}
    assert client.get("/receivers").json["items"][0]["name"] == "ops"
    assert (test.status, test.json["delivered"]) == (200, True)
    assert client.post("/receivers/nobody/test", b"").status == 404
    assert "/api/v1/runs/{run}/updates" in client.ask("GET", "/openapi.json").json["paths"]


def test_the_page_of_the_api_loads_nothing_from_other_hosts(client: Client) -> None:
    page = client.ask("GET", "/docs")

    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.body.decode())
    assert "http" not in page.body.decode()
    assert "<script>" not in page.body.decode()
    assert len(loaded) == 5
    for path in loaded:
        assert client.ask("GET", path).status == 200, path
    assert b"SwaggerUIBundle" in client.ask("GET", "/docs/swagger-ui-bundle.js").body
    assert client.ask("GET", "/docs/..%2Fcore.py").status == 404


def test_rules_are_reloaded_and_a_bad_file_changes_nothing(
    client: Client, service: Running
) -> None:
    rules = service.folder / "rules.yaml"
    good = rules.read_text()
    try:
        rules.write_text(good.replace("GradHigh", "GradBig"))
        reloaded = client.ask("POST", "/-/reload")
        names = {rule["name"] for rule in client.get("/rules").json["items"]}
        rules.write_text("groups: nonsense")
        refused = client.ask("POST", "/-/reload")
    finally:
        rules.write_text(good)

    assert (reloaded.status, refused.status) == (200, 422)
    assert "GradBig" in names
    assert {rule["name"] for rule in client.get("/rules").json["items"]} == names
    assert client.ask("POST", "/-/reload").status == 200


def test_events_are_streamed_and_taken_up_where_they_were_left(client: Client) -> None:
    client.send("c8", upd(1, train__grad_norm=50.0))
    first = client.get("/runs/c8/timeline").json["items"]
    after = next(each["id"] for each in first if each["kind"] == "transition")

    with socket.create_connection(("127.0.0.1", client.port), timeout=20) as connection:
        connection.sendall(
            b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: %d\r\n\r\n" % after
        )
        seen = b""
        while b'"stage":"early signs"' not in seen:
            seen += connection.recv(65_536)
        client.send("c8", upd(2, train__loss="NaN"))
        while b'"rule":"LossGone"' not in seen:
            seen += connection.recv(65_536)

    assert b"text/event-stream" in seen
    assert b'"rule":"GradHigh"' not in seen


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b'{"attempt":1,"attempt":1,"updates":[]}', 400),
        (b'{"attempt":1,"updates":[{"seq":1,"step":1,"time":1,"metrics":{"a":1,"a":2}}]}', 400),
        (b'{"attempt":1,"updates":[{"seq":1,"step":1,"time":1,"metrics":{"a" :1,"a":2}}]}', 400),
        (b'{"attempt":1,"updates":[],"x":"\\ud800"}', 400),
        (b'{"attempt":1,"updates":[{"seq":1,"step":1,"time":1,"metrics":{"a":1e999}}]}', 400),
        (
            b'{"attempt":1,"updates":[{"seq":1,"step":1,"time":1,"metrics":{"a":'
            + b"9" * 400
            + b"}}]}",
            400,
        ),
        (b"[" * 100_000, 400),
        (b"[]", 422),
        (b"null", 422),
        (b'{"attempt":0,"updates":[]}', 422),
        (b'{"attempt":true,"updates":[]}', 422),
        (b'{"attempt":1,"updates":[],"more":1}', 422),
        (b'{"attempt":1,"updates":[{"seq":0,"step":1,"time":1,"metrics":{}}]}', 422),
        (b'{"attempt":1,"updates":[{"seq":1,"step":1,"time":1,"metrics":{"a":true}}]}', 422),
        (b'{"attempt":1,"updates":[{"seq":1,"step":1,"time":NaN,"metrics":{"a":1}}]}', 422),
        (b'{"attempt":1,"updates":[{"seq":1,"step":1,"time":1,"event":{"kind":"x"}}]}', 422),
        (b'{"attempt":1,"updates":[7]}', 422),
    ],
)
def test_bad_bodies_are_refused_without_a_trace(client: Client, body: bytes, status: int) -> None:
    answer = client.post("/runs/bad/updates", body)

    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["errors"]
    assert len(answer.body) <= 2048
    assert client.get("/runs/bad").status == 404


def test_one_bad_update_among_good_ones_is_rejected_by_itself(client: Client) -> None:
    answer = client.send("c9", upd(1, a=1.0), upd(2, a="lots"), upd(3, a=1.0))

    assert answer.status == 202
    assert (answer.json["accepted"], answer.json["last_seq"]) == (2, 3)
    assert answer.json["rejected"][0]["index"] == 1
    assert "lots" not in answer.body.decode()


def test_another_content_under_a_stored_number_is_a_conflict(client: Client) -> None:
    client.send("c10", upd(1, a=1.0))

    answer = client.send("c10", upd(1, a=2.0))

    assert (answer.status, answer.json["last_seq"]) == (409, 1)


def test_a_time_that_is_no_date_is_rejected_by_its_place(client: Client) -> None:
    answer = client.send("when", upd(1, a=1.0), {**upd(2, a=1.0), "time": 1e18}, upd(3, a=1.0))

    (rejected,) = answer.json["rejected"]
    assert (answer.status, answer.json["accepted"], rejected["index"]) == (202, 2, 1)
    assert rejected["errors"][0]["loc"] == ["time"]
    assert "years 1 to 9999" in rejected["errors"][0]["msg"]


def test_points_above_the_limit_are_cut_to_it(client: Client) -> None:
    client.send("pts", *[upd(n, a=1.0) for n in range(1, 4)])

    assert client.get("/runs/pts/series?metric=a&points=99999999").status == 200


@pytest.mark.parametrize(
    ("key", "shown"),
    [("k" * 100, "k" * 63 + "…"), ("ghp_" + "a" * 36, "?"), ("surplus", "surplus")],
)
def test_unknown_keys_are_told_cut_and_without_secrets(
    client: Client, key: str, shown: str
) -> None:
    answer = client.post("/runs/keys/commands", {"kind": "halt", key: 1})

    assert answer.status == 422
    assert answer.json["errors"][0]["loc"][-1] == shown


def test_limits_hold_for_declared_streamed_and_unpacked_bodies(client: Client) -> None:
    declared = client.post("/runs/big/updates", b" " * 1_048_577)
    bomb = client.post(
        "/runs/big/updates", gzip.compress(b" " * 50_000_000), **{"Content-Encoding": "gzip"}
    )
    chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n"
    streamed = raw_exchange(
        client.port,
        b"POST /api/v1/runs/big/updates HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        + chunk * 17
        + b"0\r\n\r\n",
    )
    crowd = client.send("big", *[upd(n, a=1.0) for n in range(1, 1002)])

    assert (declared.status, bomb.status, crowd.status) == (413, 413, 413)
    assert streamed.startswith(b"HTTP/1.1 413")
    assert client.get("/runs/big").status == 404


def test_gzip_is_taken_and_other_encodings_and_types_are_not(client: Client) -> None:
    body = json.dumps({"attempt": 1, "updates": [upd(1, a=1.0)]}).encode()

    packed = client.post("/runs/c11/updates", gzip.compress(body), **{"Content-Encoding": "gzip"})
    torn = client.post(
        "/runs/c11/updates", gzip.compress(body)[:-4], **{"Content-Encoding": "gzip"}
    )
    other = client.post("/runs/c11/updates", body, **{"Content-Encoding": "br"})
    text = client.post("/runs/c11/updates", body, **{"Content-Type": "text/plain"})

    assert (packed.status, torn.status, other.status, text.status) == (202, 400, 415, 415)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/v1/runs/nobody", 404),
        ("GET", "/api/v1/alerts/al_00000000000000000000", 404),
        ("GET", "/nope", 404),
        ("GET", "/api/v1/alerts/no-such-thing", 404),
        ("POST", "/api/v1/alerts/no-such-thing/ack", 404),
        ("DELETE", "/api/v1/silences/no-such-thing", 404),
        ("POST", "/api/v1/deliveries/no-such-thing/resend", 404),
        ("POST", "/api/v1/receivers/No%20Such/test", 404),
        ("DELETE", "/api/v1/alerts", 405),
        ("GET", "/api/v1/runs?limit=0", 422),
        ("GET", "/api/v1/runs?cursor=zzz", 422),
        ("GET", "/api/v1/alerts?cursor=WzEsMl0", 422),
        ("GET", "/api/v1/runs?status=asleep", 422),
        ("GET", "/api/v1/runs/%00", 422),
        ("GET", "/api/v1/runs/%ED%A0%80", 422),
        ("PUT", "/api/v1/runs/-x", 422),
        ("POST", "/api/v1/runs/%20/updates", 422),
    ],
)
def test_wrong_addresses_are_problems_too(
    client: Client, method: str, path: str, status: int
) -> None:
    answer = client.ask(method, path, {} if method in {"PUT", "POST"} else None)

    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_flaw_is_placed_part_by_part_and_never_quotes_what_is_no_name(client: Client) -> None:
    update = {**upd(1, a="lots"), "event": {"kind": "checkpoint"}}
    unnamed = upd(2, **{"<b>secret</b>": "lots"})

    refused = client.send("c12", update, unnamed, {**upd(3), "event": {"kind": "?"}}, 7)
    foreign = client.post("/runs/c12/updates", {"attempt": 1, "updates": [], "<b>": 1})
    silence = {"matchers": [{"name": "run", "value": "(", "isRegex": True}], "duration_s": 1}
    unmatched = client.post("/silences", silence)

    places = [flaw["loc"] for flaw in refused.json["errors"]]
    assert refused.status == 422
    assert places == [
        ["body", "updates", 0, "metrics", "a"],
        ["body", "updates", 1, "metrics", "b_secret_/b_-7cabf9cd"],
        ["body", "updates", 2, "event", "kind"],
        ["body", "updates", 3],
    ]
    assert foreign.json["errors"][0]["loc"] == ["body", "?"]
    assert unmatched.json["errors"][0]["loc"] == ["body", "matchers", 0, "value"]


def test_head_answers_as_get_does_without_a_body(client: Client) -> None:
    for path in ("/healthz", "/readyz", "/metrics", "/", "/api/v1/runs"):
        got, head = client.ask("GET", path), client.ask("HEAD", path)
        assert (head.status, head.body) == (got.status, b"")
        assert head.headers["content-type"] == got.headers["content-type"]
    assert client.ask("HEAD", "/api/v1/events").status == 405


def test_an_alert_about_no_metric_has_no_reading(client: Client) -> None:
    client.send("c13", upd(1, x=1.0), {**upd(2), "event": {"kind": "failed", "error": "boom"}})

    alerts = {item["rule"]: item for item in client.get("/alerts?run=c13").json["items"]}

    assert alerts["Died"]["reading"] is None
    assert alerts["Died"]["metric"] == ""


def test_answers_carry_an_id_and_safe_headers_and_no_other_site_may_write(
    client: Client,
) -> None:
    named = client.ask("GET", "/healthz", headers={"X-Request-ID": "abc-1"})
    broken = client.ask("GET", "/healthz", headers={"X-Request-ID": "a b"})
    foreign = client.ask("POST", "/-/reload", headers={"Origin": "https://evil.example"})
    rebound = client.ask("GET", "/api/v1/runs", headers={"Host": "evil.example"})

    assert named.headers["x-request-id"] == "abc-1"
    assert broken.headers["x-request-id"] != "a b"
    assert "default-src 'self'" in named.headers["content-security-policy"]
    assert (foreign.status, rebound.status) == (403, 403)


def test_updates_of_several_sources_each_have_their_own_numbers(client: Client) -> None:
    client.ask("PUT", "/api/v1/runs/c-sources", {"session": "s"})
    mixed = [upd(1, loss=0.5), {**upd(1, gpu=60.0), "source": "otlp"}]
    mixed.append({**upd(4, heat="NaN"), "source": "rank-7"})

    sent = client.send("c-sources", *mixed)
    again = client.send("c-sources", *mixed)
    begun = client.ask("PUT", "/api/v1/runs/c-sources", {"session": "s"})
    conflict = client.send("c-sources", {**upd(4, heat=1.0), "source": "rank-7"})

    others = {"otlp": 1, "rank-7": 4}
    assert (sent.status, sent.json["last_seq"], sent.json["last_seqs"]) == (202, 1, others)
    assert (again.json["accepted"], again.json["duplicates"]) == (0, 3)
    assert (begun.json["last_seq"], begun.json["last_seqs"]) == (1, others)
    assert (conflict.status, conflict.json["last_seq"]) == (409, 4)
    assert client.get("/runs/c-sources").json["last_seqs"] == others


def test_a_source_that_is_none_of_the_five_kinds_is_refused(client: Client) -> None:
    for source in ("", "Training", "rank-", "rank-01", "rank-2000", "otlp\n", 3, None):
        sent = client.send("c-odd", {**upd(1, loss=0.5), "source": source})

        assert (sent.status, sent.json["errors"][0]["loc"][-1]) == (422, "source")
