"""The real service, Prometheus and Alertmanager, with real data between them.

Every rule must evaluate, every panel's query must find series for each value of its variables,
and the alert must arrive at a webhook. The files are those of `deploy/`; only addresses, places
of secrets and waiting times are changed, and one receiver is added.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.kit import (
    DASHBOARDS,
    DEPLOY,
    ROOT,
    answers,
    ask,
    free_port,
    running,
    tell,
    wait_until,
)
from story.postgres_kit import Inbox, inbox

pytestmark = pytest.mark.skipif(
    shutil.which("prometheus") is None or shutil.which("prometheus-alertmanager") is None,
    reason="prometheus or prometheus-alertmanager is not installed (Debian packages)",
)

BAD, HEALTHY, GAPPED = "ppo-diverged", "ppo-healthy", "ppo-gapped"
RATE_INTERVAL = "15s"
"""What Grafana would put for `$__rate_interval`, at a scrape a second."""

MAY_BE_EMPTY = ("watchstep_alert_firing", "> 0")
"""Queries that find nothing for a run that is well."""


@dataclass
class Stack:
    """Where everything is."""

    service: str
    prometheus: str
    alertmanager: str
    inbox: Inbox

    def series(self, expr: str) -> list[dict[str, object]]:
        answer = ask(f"{self.prometheus}/api/v1/query", query=expr)
        return answer["data"]["result"]

    def series_over_time(self, expr: str) -> list[dict[str, object]]:
        now = time.time()
        answer = ask(
            f"{self.prometheus}/api/v1/query_range",
            query=expr, start=str(now - 30), end=str(now), step="1",
        )  # fmt: skip
        return answer["data"]["result"]

    def values(self, label_values: str) -> list[str]:
        """What a variable may be, as Grafana asks for it."""
        selector, label = re.fullmatch(r"label_values\((.+), (\w+)\)", label_values).groups()
        answer = ask(f"{self.prometheus}/api/v1/label/{label}/values", **{"match[]": selector})
        return answer["data"]


@pytest.fixture(scope="module")
def stack(tmp_path_factory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("stack")
    sys.path.insert(0, str(DEPLOY))
    try:
        from make_secrets import main as make_secrets
    finally:
        sys.path.remove(str(DEPLOY))
    make_secrets(folder / "secrets")
    ports = {name: free_port() for name in ("service", "prometheus", "alertmanager")}
    urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    with (
        inbox() as received,
        running(*_service(folder, ports["service"], received.url)),
        running(*_alertmanager(folder, ports["alertmanager"], received.url)),
        running(*_prometheus(folder, ports)),
    ):
        wait_until(lambda: answers(f"{urls['service']}/readyz"), "the service is ready")
        wait_until(lambda: answers(f"{urls['prometheus']}/-/ready"), "Prometheus is ready")
        wait_until(lambda: answers(f"{urls['alertmanager']}/-/ready"), "Alertmanager is ready")
        token = (folder / "secrets" / "trainer_token").read_text()
        admin = (folder / "secrets" / "admin_token").read_text()
        assert tell(f"{urls['service']}/-/reload", {}, admin) == 200
        ended = threading.Event()
        pump = threading.Thread(target=_train, args=(urls["service"], token, ended))
        pump.start()
        try:
            yield Stack(**urls, inbox=received)
        finally:
            ended.set()
            pump.join(20)


def _service(folder: Path, port: int, webhook: str):
    config = folder / "watchstep.yaml"
    text = (DEPLOY / "docker" / "watchstep.yaml").read_text()
    receiver = {"pager": {"kind": "webhook", "url": webhook, "secret": "whsec_c2VjcmV0c2VjcmV0"}}
    text = text.replace("receivers: {}", f"receivers: {json.dumps(receiver)}")
    text = text.replace("group_wait_s: 2", "group_wait_s: 0")
    config.write_text(text + '\nnotify: {allow_private_cidrs: ["127.0.0.0/8"]}\n')
    command = [sys.executable, "-m", "watchstep", "serve", "--config", config]
    command += ["--port", port, "--data-dir", folder / "data"]
    env = {
        "PATH": os.environ["PATH"],
        "WATCHSTEP_AUTH__TOKENS_FILE": str(folder / "secrets" / "tokens.json"),
    }
    return command, folder / "service.log", env


def _alertmanager(folder: Path, port: int, webhook: str):
    text = (DEPLOY / "alertmanager" / "alertmanager.yml").read_text()
    page = (ROOT / "docs" / "operate" / "prometheus.md").read_text()
    offered = re.search(r"```yaml\n(  - name: people\n.*?)```", page, re.DOTALL)[1]
    text = text.replace("  - name: people\n", re.sub(r"url: \S+", f"url: {webhook}", offered))
    config = folder / "alertmanager.yml"
    config.write_text(text.replace("group_wait: 10s", "group_wait: 1s"))
    command = [
        "prometheus-alertmanager",
        f"--config.file={config}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    return command, folder / "alertmanager.log"


def _prometheus(folder: Path, ports: dict[str, int]):
    text = (DEPLOY / "prometheus" / "prometheus.yml").read_text()
    for old, new in (
        ("scrape_interval: 5s", "scrape_interval: 1s"),
        ("scrape_timeout: 4s", "scrape_timeout: 1s"),
        ("evaluation_interval: 5s", "evaluation_interval: 1s"),
        ("/run/secrets/prometheus_token", str(folder / "secrets" / "prometheus_token")),
        ("monitor:8420", f"127.0.0.1:{ports['service']}"),
        ("alertmanager:9093", f"127.0.0.1:{ports['alertmanager']}"),
        ("localhost:9090", f"127.0.0.1:{ports['prometheus']}"),
    ):
        assert old in text, old
        text = text.replace(old, new)
    (folder / "prometheus.yml").write_text(text)
    for rules in DEPLOY.glob("prometheus/*.rules.yml"):
        shutil.copy(rules, folder)
    command = [
        "prometheus",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{ports['prometheus']}",
    ]
    return command, folder / "prometheus.log"


def _train(service: str, token: str, ended: threading.Event) -> None:
    """Three runs: one well, one that diverges at its 20th update, one that loses updates."""
    for seq in itertools.count(1):
        _send(service, token, HEALTHY, seq, 0.1 + 0.01 * math.sin(seq))
        _send(service, token, BAD, seq, 0.1 if seq < 20 else math.nan)
        _send(service, token, GAPPED, 3 * seq, 0.1)
        if ended.wait(0.1):
            return


def _send(service: str, token: str, run: str, seq: int, loss: float) -> None:
    finite = math.isfinite(loss)
    update = {
        "seq": seq,
        "step": seq * 2048,
        "time": time.time(),
        "metrics": {
            "train/policy_loss": loss if finite else "NaN",
            "train/approx_kl": 0.01,
            "train/entropy_loss": -1.2,
            "train/grad_norm": 0.4 if finite else 2847.3,
            "train/explained_variance": 0.6,
            "train/advantages_std_raw": 0.9,
            "system/memory_used_share": 0.4,
            "system/gpu0/temperature_celsius": 61.0,
        },
    }
    tell(f"{service}/api/v1/runs/{run}/updates", {"attempt": 1, "updates": [update]}, token)


@pytest.fixture(scope="module")
def scraped(stack: Stack) -> Stack:
    """The stack once the alert fires and enough was scraped for rates."""
    wait_until(
        lambda: stack.series(f'ALERTS{{alertname="WatchstepTrainingAlert", run="{BAD}"}}'),
        "the alert fires in Prometheus",
    )
    wait_until(
        lambda: stack.series("watchstep_deliveries_total"), "the service has told its receiver"
    )
    wait_until(
        lambda: stack.series(
            f'count_over_time(watchstep_run_step{{run="{GAPPED}"}}[30s]) >= 5'
            " and on () count(watchstep:run_lost_updates:increase15m) >= 3"
        ),
        "five scrapes",
    )
    return stack


def test_every_target_is_scraped(scraped):
    up = scraped.series("up")

    assert {sample["metric"]["job"] for sample in up} == {"watchstep", "prometheus", "alertmanager"}
    assert [sample["metric"] for sample in up if sample["value"][1] != "1"] == []


def test_every_rule_evaluates(scraped):
    groups = ask(f"{scraped.prometheus}/api/v1/rules")["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]

    assert len(rules) == sum(
        len(re.findall(r"^      - (?:record|alert): ", file.read_text(), re.MULTILINE))
        for file in DEPLOY.glob("prometheus/*.rules.yml")
    )
    assert {rule["name"]: rule.get("lastError") for rule in rules if rule["health"] != "ok"} == {}


def test_every_recorded_series_is_there(scraped):
    rules = "".join(file.read_text() for file in DEPLOY.glob("prometheus/recording.rules.yml"))
    recorded = re.findall(r"- record: (\S+)", rules)

    assert [name for name in recorded if not scraped.series(name)] == []


def test_nothing_alerts_on_the_run_that_is_well(scraped):
    assert scraped.series(f'ALERTS{{run="{HEALTHY}"}}') == []


def test_the_alert_holds_although_the_reading_is_nan(scraped):
    (reading,) = scraped.series(f'watchstep_run_reading{{run="{BAD}", metric="train/policy_loss"}}')

    assert reading["value"][1] == "NaN"
    assert scraped.series(
        f'ALERTS{{alertname="WatchstepTrainingAlert", alertstate="firing", run="{BAD}",'
        ' severity="critical"}'
    )


def test_the_alert_arrives_at_a_webhook_with_links(scraped):
    def arrived():
        return [
            alert
            for _, body in scraped.inbox.got
            if "watchstep" not in body
            for alert in body["alerts"]
            if alert["labels"]["alertname"] == "WatchstepTrainingAlert"
            and alert["labels"]["run"] == BAD
        ]

    alert = wait_until(arrived, "Alertmanager's message")[0]

    assert alert["status"] == "firing"
    assert alert["annotations"]["page"] == f"http://localhost:8420/runs/{BAD}"
    assert "watchstep_url" not in alert["labels"]


def _choices(stack: Stack, dashboard) -> list[dict[str, str]]:
    """Every value of every variable, one variable after the other, and "all" where it may be."""
    chosen = [{"run": BAD, "project": ".+", "metric": ".+"}]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] != "query":
            continue
        query = _filled(variable["query"]["query"], {"run": BAD, "project": ".+"})
        values = stack.values(query)
        assert values, f"{variable['name']} has no values"
        several = [variable["allValue"]] if variable["includeAll"] else []
        chosen += [chosen[0] | {variable["name"]: value} for value in [*values, *several]]
    return chosen


def _filled(expr: str, choice: dict[str, str]) -> str:
    expr = expr.replace("$__rate_interval", RATE_INTERVAL)
    for name, value in choice.items():
        expr = expr.replace(f"${name}", value)
    assert "$" not in expr, expr
    return expr


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_query_of_a_dashboard_finds_series(scraped, path):
    dashboard = json.loads(path.read_text())
    queries = [
        (panel["title"], target["expr"], target["instant"])
        for panel in dashboard["panels"]
        for target in panel.get("targets", ())
    ]
    queries += [
        (mark["name"], mark["target"]["expr"], False) for mark in dashboard["annotations"]["list"]
    ]
    empty, panels_asked = [], 0
    for choice in _choices(scraped, dashboard):
        for title, expr, instant in queries:
            filled = _filled(expr, choice)
            series = scraped.series(filled) if instant else scraped.series_over_time(filled)
            panels_asked += 1
            well = choice["run"] not in {BAD, ".+"}
            if not series and not (well and any(part in expr for part in MAY_BE_EMPTY)):
                empty.append((title, filled))

    assert panels_asked >= len(queries) > 0
    assert empty == []
