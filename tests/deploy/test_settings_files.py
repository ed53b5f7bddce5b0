"""The configuration files that a deployment mounts, read as the service reads them."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from deploy.kit import DEPLOY, ROOT, answers, ask, free_port, running, tell, wait_until
from service.kit import postgres_database
from watchstep_monitor.settings import load_settings


@pytest.mark.parametrize("file", ["docker/watchstep.yaml", "kubernetes/base/watchstep.yaml"])
def test_the_mounted_configuration_is_good(file):
    loaded = load_settings(DEPLOY / file, environ={})

    assert loaded.settings.rules.paths == ("ppo", "generic")


def test_the_receivers_that_the_docs_offer_are_taken(tmp_path):
    page = (ROOT / "docs" / "operate" / "install.md").read_text()
    (offered,) = re.findall(r"```yaml\n(receivers:\n.*?)```", page, re.DOTALL)
    file = tmp_path / "watchstep.yaml"
    mounted = (DEPLOY / "docker" / "watchstep.yaml").read_text()
    file.write_text(mounted.replace("receivers: {}\n", offered))

    receivers = load_settings(file, environ={}).settings.receivers

    assert {name: receiver.kind for name, receiver in receivers.items()} == {
        "slack": "slack",
        "pager": "webhook",
    }


def test_without_a_database_url_the_service_uses_sqlite():
    environ = {"WATCHSTEP_PUBLIC_URL": "http://localhost:8420"}

    assert load_settings(None, environ=environ).settings.database_url is None


@pytest.fixture
def database():
    with postgres_database() as url:
        yield url


def test_replicas_share_what_the_secret_database_url_names(tmp_path: Path, database: str):
    """As the overlay on PostgreSQL starts them: no volume, the URL in a file."""
    (tmp_path / "url").write_text(database)
    ports = [free_port(), free_port()]
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    env = {"PATH": os.environ["PATH"], "WATCHSTEP_DATABASE_URL_FILE": str(tmp_path / "url")}

    def replica(port):
        command = [sys.executable, "-m", "watchstep", "serve", "--port", port]
        command += ["--config", DEPLOY / "kubernetes" / "base" / "watchstep.yaml"]
        command += ["--data-dir", tmp_path / str(port)]
        return command, tmp_path / f"{port}.log", env

    update = {"seq": 1, "step": 7, "time": 1795409730.0, "metrics": {"train/loss": 0.5}}
    with running(*replica(ports[0])), running(*replica(ports[1])):
        for url in urls:
            wait_until(lambda url=url: answers(f"{url}/readyz"), "a replica is ready")
        batch = {"attempt": 1, "updates": [update]}
        assert tell(f"{urls[0]}/api/v1/runs/ppo-7/updates", batch) == 202
        seen = ask(f"{urls[1]}/api/v1/runs/ppo-7")

    assert seen["last_seq"] == 1
    assert not list(tmp_path.rglob("*.db"))
