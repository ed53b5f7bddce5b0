"""Links of messages act without a login: only on what they were signed for, and only by a POST."""

from __future__ import annotations

import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from service.http_kit import Client, Running, upd
from service.receiver import Receiver
from watchstep_monitor.service.alerting.links import LinkSigner

HTML = "text/html; charset=utf-8"


@pytest.fixture
def incident(client: Client, request: pytest.FixtureRequest) -> tuple[str, dict]:
    """A run with an open incident, and the paths of its message's links by their labels."""
    run = f"linked-{abs(hash(request.node.name)) % 10**8}"
    client.send(run, upd(1, train__grad_norm=50.0))
    _, body = Receiver.next_of(run)
    links = body["watchstep"]["links"]
    return run, {name: urlsplit(url).path for name, url in links.items()}


def alert_of(client: Client, run: str) -> dict:
    return client.get(f"/alerts?run={run}").json["items"][0]


def test_opening_a_link_only_asks(client: Client, incident) -> None:
    run, links = incident

    page = client.ask("GET", links["Acknowledge"])

    assert (page.status, page.headers["content-type"]) == (200, HTML)
    assert run.encode() in page.body
    assert b'<form method="post">' in page.body
    assert alert_of(client, run)["acknowledged"] is False


def test_its_button_acknowledges(client: Client, incident) -> None:
    run, links = incident

    assert client.ask("POST", links["Acknowledge"]).status == 200

    alert = alert_of(client, run)
    assert (alert["acknowledged"], alert["acknowledged_by"]) == (True, "link")


def test_its_button_works_in_a_browser(client: Client, incident) -> None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("Chromium is not installed")
    run, links = incident

    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{client.port}{links['Acknowledge']}")
        page.get_by_role("button").click()
        page.get_by_text("Acknowledged").wait_for()
        browser.close()

    assert alert_of(client, run)["acknowledged"] is True


def test_its_button_silences_the_run_for_an_hour(client: Client, incident) -> None:
    run, links = incident

    client.ask("POST", links["Silence for an hour"])

    assert alert_of(client, run)["silenced"] is True
    silence = client.get("/silences").json["items"][0]
    assert {matcher["value"] for matcher in silence["matchers"]} == {run, "default"}


def test_an_answer_is_counted_for_its_rule_and_the_newest_counts(client: Client, incident) -> None:
    run, links = incident
    before = _answers(client)

    client.ask("POST", links["Right"])
    client.ask("POST", links["False alarm"])

    assert alert_of(client, run)["answer"] == "false alarm"
    after = _answers(client)
    assert after["false_alarms"] - before["false_alarms"] == 1
    assert after["right"] == before["right"]


def _answers(client: Client) -> dict:
    counts = client.get("/answers").json["items"]
    return next(
        (each for each in counts if each["rule"] == "GradHigh"), {"right": 0, "false_alarms": 0}
    )


def test_an_alert_is_answered_by_rest_and_shows_it(client: Client, incident) -> None:
    run, _ = incident
    alert = alert_of(client, run)

    answer = client.post(f"/alerts/{alert['id']}/answer", {"answer": "right", "by": "ann"})

    assert (answer.json["answer"], answer.json["answered_by"]) == ("right", "ann")
    kinds = [entry["kind"] for entry in client.get(f"/runs/{run}/timeline").json["items"]]
    assert "answered" in kinds
    assert client.post(f"/alerts/{alert['id']}/answer", {"answer": "maybe"}).status == 422


@pytest.mark.parametrize("part", ["run", "incident", "act", "until", "signature"])
def test_a_link_with_any_part_changed_does_nothing(client: Client, incident, part: str) -> None:
    run, links = incident
    parts = links["Acknowledge"].split("/")
    at = 2 + ["run", "incident", "act", "until", "signature"].index(part)
    other = {
        "run": "away1",
        "incident": "in_" + "0" * 20,
        "act": "silence",
        "until": str(int(parts[5]) + 1),
        "signature": "0" * 32,
    }
    parts[at] = other[part]

    for method in ("GET", "POST"):
        assert client.ask(method, "/".join(parts)).status == 404
    assert alert_of(client, run)["acknowledged"] is False


def test_a_form_of_another_site_is_refused(client: Client, incident) -> None:
    run, links = incident

    answer = client.ask("POST", links["Acknowledge"], headers={"Origin": "https://evil.example"})

    assert answer.status == 403
    assert alert_of(client, run)["acknowledged"] is False


def test_a_link_is_void_after_its_time(service: Running, client: Client, incident) -> None:
    _, links = incident
    run, incident_id = links["Acknowledge"].split("/")[2:4]
    key = _stored_key(service.folder / "data" / "watchstep.db")
    past = int(time.time()) - 60
    signature = LinkSigner(key, "")._signature(run, incident_id, "acknowledge", past)

    answer = client.ask("POST", f"/act/{run}/{incident_id}/acknowledge/{past}/{signature}")

    assert answer.status == 404
    assert "week old" in answer.json["detail"]


def _stored_key(path: Path) -> bytes:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as store:
        return bytes.fromhex(store.execute("SELECT value FROM keys").fetchone()[0])
