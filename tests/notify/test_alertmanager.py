"""The push to Alertmanager, against a real one."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta

import pytest

from notify.kit import PATIENCE_S, MemoryOutbox, alert, config, http_receiver, notice, running
from watchstep_monitor.notify import ReceiverConfig, Worker
from watchstep_monitor.service.clock import SystemClock
from watchstep_monitor.service.ports import Delivered

ALERTMANAGER = shutil.which(
    os.environ.get("WATCHSTEP_ALERTMANAGER", "prometheus-alertmanager")
) or shutil.which("alertmanager")

CONFIG = """
route: {receiver: none, group_by: [run], group_wait: 0s, group_interval: 1s}
receivers: [{name: none}]
"""


def get(url):
    with urllib.request.urlopen(url, timeout=5) as answer:
        return json.load(answer)


def until(probe, what):
    """Ask another process until it says yes; it has no way to wake us."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            if answer := probe():
                return answer
        except OSError:
            pass
        time.sleep(0.05)
    raise AssertionError(f"not in time: {what}")


@pytest.fixture
def alertmanager(tmp_path):
    if ALERTMANAGER is None:
        pytest.skip("needs alertmanager (Debian package prometheus-alertmanager)")
    (tmp_path / "am.yml").write_text(CONFIG)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [
            ALERTMANAGER,
            f"--config.file={tmp_path / 'am.yml'}",
            f"--storage.path={tmp_path / 'store'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--cluster.listen-address=",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        until(lambda: urllib.request.urlopen(f"{url}/-/ready", timeout=5).close() or True, "ready")
        yield url
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def test_a_real_alertmanager_shows_the_alert_while_it_fires_and_drops_it_after(alertmanager):
    outbox, now = MemoryOutbox(), datetime.now(UTC)
    am = ReceiverConfig("am", "alertmanager", alertmanager)
    since = now - timedelta(minutes=2)
    with running(Worker(outbox, config(am), SystemClock())) as worker:
        outbox.put("am", notice(alerts=(alert(since=since),), at=now), now)
        worker.wake()
        outbox.until_settled(1)
        shown = until(lambda: get(f"{alertmanager}/api/v2/alerts"), "the alert")
        over = alert(since=since, state="resolved", resolved_at=now)
        outbox.put("am", notice(edge="resolved", alerts=(over,), at=now), now)
        worker.wake()
        outbox.until_settled(2)
        until(lambda: get(f"{alertmanager}/api/v2/alerts") == [], "its end")

    assert outbox.outcomes() == [Delivered(), Delivered()]
    assert shown[0]["labels"] == {
        "alertname": "AdvantagesBeyondBound",
        "project": "trading",
        "run": "ppo-7",
        "severity": "critical",
    }
    assert shown[0]["status"]["state"] == "active"
    ends = datetime.fromisoformat(shown[0]["endsAt"])
    assert ends - now > timedelta(hours=23)


@pytest.mark.parametrize("tail", ["", "/", "/api/v2/alerts"])
def test_the_path_of_the_api_is_added_to_the_base_address(tail):
    outbox = MemoryOutbox()
    with http_receiver() as server:
        base = f"http://127.0.0.1:{server.port}/am"
        am = ReceiverConfig("am", "alertmanager", base + tail, secret="hush")
        outbox.put("am", notice(at=datetime.now(UTC)))

        with running(Worker(outbox, config(am), SystemClock())):
            outbox.until_settled(1)

        assert server.requests[0].path == "/am/api/v2/alerts"
        assert server.requests[0].headers["authorization"] == "Bearer hush"
