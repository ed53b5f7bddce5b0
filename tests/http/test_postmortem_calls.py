"""Post-mortems over HTTP: what is sent is bounded, only read, and gone afterwards."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import tempfile
from pathlib import Path

import pytest

from service.http_kit import Client, Running, made_token, served, until, upd
from watchstep_monitor.store.opening import StoreOptions

LOGS = Path(__file__).parents[1] / "postmortem" / "logs"
LOST = b"".join(
    b'{"step":%d,"train/loss":%s,"train/grad_norm":%s}\n'
    % (at, *((b"NaN", b"NaN") if at > 40 else (b"1.%d" % (at % 7), b"0.5")))
    for at in range(1, 61)
)


def _send(
    client: Client, log: bytes, name: str = "lost.jsonl", **headers: str
) -> dict[str, object]:
    answer = client.ask("POST", f"/api/v1/postmortem?name={name}", log, headers)
    assert answer.status == 200, answer.body
    return dict(answer.json)


def _folders() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob("watchstep-postmortem-*"))


def test_a_log_that_is_sent_is_examined_as_the_command_examines_it(client: Client) -> None:
    before = _folders()

    report = _send(client, LOST)

    run = report["runs"][0]
    assert (run["verdict"], run["first_bad_update"], run["last_good_update"]) == (
        "diverged",
        41,
        40,
    )
    assert run["halt"] is True
    assert (run["run"], run["path"]) == ("lost", "lost.jsonl")
    assert {chart["metric"] for chart in run["charts"]} == {"train/loss", "train/grad_norm"}
    assert [41, "NaN"] in run["charts"][0]["points"]
    assert report["page"].startswith("<!doctype html>")
    assert _folders() <= before


@pytest.mark.long
@pytest.mark.parametrize(
    "path", [path for path in sorted(LOGS.glob("*/*")) if path.name != "expected.json"], ids=str
)
def test_every_format_that_can_be_read_can_be_sent(client: Client, path: Path) -> None:
    answer = _send(client, path.read_bytes(), path.name)

    assert answer["runs"][0]["verdict"]


def test_a_log_whose_name_says_nothing_is_called_by_that_name_and_by_no_path(
    client: Client,
) -> None:
    answer = _send(client, LOST, "..%2F..%2Fetc%2Fprogress.csv")

    assert answer["runs"][0]["run"] == "progress.csv"
    assert "watchstep-postmortem-" not in json.dumps(answer)


def test_what_is_no_log_is_refused_by_its_name_alone(client: Client) -> None:
    answer = client.ask("POST", "/api/v1/postmortem?name=a.bin", b"\x7fELF" + bytes(500))

    assert answer.status == 422
    assert answer.json["errors"][0]["type"] == "no_log"
    assert "/tmp" not in answer.body.decode()


def test_a_log_that_names_files_of_the_service_makes_it_open_none(
    client: Client, tmp_path: Path
) -> None:
    bait = tmp_path / "step-000000000010.pt"
    bait.write_bytes(b"no checkpoint")
    event = {"kind": "checkpoint", "path": str(bait), "step": 10, "finite": True, "pinned": True}
    lines = [
        json.dumps({**upd(at, train__loss=1.0 if at < 30 else "NaN"), "event": event})
        for at in range(1, 60)
    ]

    run = _send(client, "\n".join(lines).encode())["runs"][0]

    assert run["verdict"] == "diverged"
    assert (run["checkpoint"], run["checkpoints_refused"]) == (None, [])


def test_a_page_of_another_site_cannot_send_one(client: Client) -> None:
    answer = client.ask("POST", "/api/v1/postmortem", LOST, {"Origin": "http://elsewhere.example"})

    assert answer.status == 403


def test_an_empty_or_packed_body_is_refused(client: Client) -> None:
    empty = client.ask("POST", "/api/v1/postmortem", b"")
    packed = client.ask(
        "POST", "/api/v1/postmortem", gzip.compress(LOST), {"Content-Encoding": "gzip"}
    )

    assert (empty.status, packed.status) == (422, 415)


def test_a_stored_run_is_examined_over_all_its_attempts(client: Client) -> None:
    client.send("pm-1", *[upd(at, train__loss=1.0 + at % 5) for at in range(1, 30)])
    client.ask("PUT", "/api/v1/runs/pm-1", {"attempt": 2})
    late = [upd(at, train__loss=1.0 if at < 20 else "NaN") for at in range(1, 40)]
    client.send("pm-1", *late, attempt=2)

    run = client.get("/runs/pm-1/postmortem").json["runs"][0]

    assert (run["run"], run["updates"], run["verdict"]) == ("pm-1", 68, "diverged")
    assert (run["unit"], run["first_bad_update"]) == ("step", 200)
    assert "LossGone" in {alert["rule"] for alert in run["alerts"]}  # of the service's own file


def test_a_run_without_updates_has_nothing_to_examine(client: Client) -> None:
    client.ask("PUT", "/api/v1/runs/pm-2", {})

    assert client.get("/runs/pm-2/postmortem").status == 422
    assert client.get("/runs/no-such-run/postmortem").status == 404


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Running:
    settings = {
        "WATCHSTEP_LIMITS__LOG_BYTES": "100000",
        "WATCHSTEP_LIMITS__LOG_READ_S": "1",
        "WATCHSTEP_LIMITS__POSTMORTEMS": "1",
        "WATCHSTEP_LIMITS__POSTMORTEM_S": "2",
    }
    with served(tmp_path_factory.mktemp("narrow"), **settings) as running:
        yield running


@pytest.mark.parametrize("declared", [True, False])
def test_a_log_beyond_the_limit_is_refused_and_not_kept(narrow: Running, declared: bool) -> None:
    before = _folders()
    log = b"0123456789" * 20_000
    connection = http.client.HTTPConnection("127.0.0.1", narrow.client.port, timeout=20)

    parts = log if declared else iter([log[:90_000], log[90_000:]])
    connection.request("POST", "/api/v1/postmortem", parts, encode_chunked=not declared)
    status = connection.getresponse().status

    connection.close()
    assert status == 413
    until(lambda: _folders() <= before)


def test_a_log_that_trickles_is_cut_and_others_are_asked_to_wait(narrow: Running) -> None:
    head = (
        b"POST /api/v1/postmortem HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n\r\nslow"
    )
    with socket.create_connection(("127.0.0.1", narrow.client.port), timeout=20) as trickling:
        trickling.sendall(head)
        busy = until(lambda: _refused(narrow.client))
        cut = trickling.recv(4_096)

    assert busy["retry-after"] == "5"
    assert cut.startswith(b"HTTP/1.1 408")
    assert narrow.client.ask("POST", "/api/v1/postmortem", b"").status == 422  # Its turn came.


def _refused(client: Client) -> object:
    # Nothing is sent, so that the asking itself has a turn for no longer than a moment.
    answer = client.ask("POST", "/api/v1/postmortem", b"")
    return answer.headers if answer.status == 429 else None


def test_a_log_made_to_take_for_ever_ends_with_its_process(narrow: Running) -> None:
    bomb = gzip.compress(b'{"step":1,"train/loss":1.0}\n' * 2_000_000)
    assert len(bomb) < 100_000 * 4
    log = bomb[:99_000]

    answer = narrow.client.ask("POST", "/api/v1/postmortem?name=bomb.jsonl.gz", log)
    healthy = narrow.client.ask("GET", "/healthz")

    assert (answer.status, answer.json["errors"][0]["type"]) == (422, "too_much")
    assert healthy.status == 200


def test_a_token_may_examine_what_it_may_read_and_no_more(tmp_path: Path) -> None:
    with served(tmp_path, "--host", "127.0.0.1") as running:
        folder = str(running.folder / "data")
        tokens = [_token(folder, name, "read", project) for name, project in TOKENS]
        everything = _token(folder, "all", "admin", "")
        until(lambda: running.client.get("/runs").status == 401)
        admin = Client(running.client.port, everything)
        admin.ask("PUT", "/api/v1/runs/pm-3", {"project": "trading"})
        admin.send("pm-3", *[upd(at, train__loss=1.0) for at in range(1, 12)])

        mine, other = (
            Client(running.client.port, token).get("/runs/pm-3/postmortem").status
            for token in tokens
        )
        nobody = Client(running.client.port).ask("POST", "/api/v1/postmortem", LOST).status

    assert (mine, other, nobody) == (200, 404, 401)


TOKENS = (("mine", "trading"), ("other", "robotics"))


def _token(folder: str, name: str, scope: str, project: str) -> str:
    return made_token(StoreOptions(Path(folder)), name, [scope], [project] if project else [])
