"""Prometheus' and Alertmanager's files, held against their own tools."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from types import ModuleType

import pytest

from deploy.kit import DEPLOY, ROOT, read_yaml

PROMETHEUS = DEPLOY / "prometheus"
RULE_FILES = [PROMETHEUS / "recording.rules.yml", PROMETHEUS / "alert.rules.yml"]
TESTS = sorted((PROMETHEUS / "tests").glob("*.test.yml"))

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)"
)
needs_amtool = pytest.mark.skipif(
    shutil.which("amtool") is None,
    reason="amtool is not installed (Debian: prometheus-alertmanager)",
)


def run(*command: object) -> str:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def alerts() -> list[dict[str, str]]:
    groups = read_yaml(RULE_FILES[1].read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


@needs_promtool
def test_prometheus_takes_its_configuration_and_rules(tmp_path):
    # Everything else in the configuration is taken as it is; only the secret lies elsewhere.
    token = tmp_path / "prometheus_token"
    token.write_text("x")
    config = tmp_path / "prometheus.yml"
    text = (PROMETHEUS / "prometheus.yml").read_text()
    config.write_text(text.replace("/run/secrets/prometheus_token", str(token)))
    for file in RULE_FILES:
        shutil.copy(file, tmp_path)

    run("promtool", "check", "config", config)


@needs_promtool
@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.name)
def test_rules_do_what_their_tests_say(file):
    run("promtool", "test", "rules", file)


def test_every_alert_is_tried_by_a_rule_test():
    tried = set(re.findall(r"alertname: (\w+)", "".join(file.read_text() for file in TESTS)))

    assert {rule["alert"] for rule in alerts()} <= tried


def test_no_alert_compares_a_reading_since_nan_would_resolve_it():
    assert [
        rule["alert"]
        for rule in alerts()
        if re.search(r"watchstep_run_(reading|zone)", rule["expr"])
    ] == []


def test_every_alert_has_a_severity_and_says_what_it_means():
    for rule in alerts():
        assert {"summary", "description"} <= set(rule["annotations"]), rule["alert"]
        from_series = rule["alert"] == "WatchstepTrainingAlert"
        assert from_series or rule["labels"]["severity"] in {"info", "warning", "critical"}


@needs_amtool
def test_alertmanager_takes_its_configuration():
    assert "SUCCESS" in run("amtool", "check-config", DEPLOY / "alertmanager" / "alertmanager.yml")


@needs_amtool
@pytest.mark.parametrize(
    ("severity", "receiver"), [("critical", "people"), ("warning", "people"), ("info", "nobody")]
)
def test_alertmanager_routes_by_severity(severity, receiver):
    file = DEPLOY / "alertmanager" / "alertmanager.yml"

    chosen = run(
        "amtool", "config", "routes", "test", f"--config.file={file}", f"severity={severity}"
    )

    assert chosen.strip() == receiver


@needs_amtool
def test_the_receiver_that_the_docs_offer_to_copy_is_taken(tmp_path):
    page = (ROOT / "docs" / "operate" / "prometheus.md").read_text()
    offered = re.search(r"```yaml\n(  - name: people\n.*?)```", page, re.DOTALL)
    assert offered is not None
    config = (DEPLOY / "alertmanager" / "alertmanager.yml").read_text()
    edited = tmp_path / "alertmanager.yml"
    edited.write_text(config.replace("  - name: people\n", offered[1]))

    assert "SUCCESS" in run("amtool", "check-config", edited)


def kubernetes_generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "generate_prometheus_rule", DEPLOY / "kubernetes" / "generate.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_operators_rules_are_prometheus_own():
    generator = kubernetes_generator()

    assert generator.TARGET.read_text() == generator.rendered()
    spec = read_yaml(generator.TARGET.read_text())["spec"]
    assert spec["groups"] == [
        group for file in RULE_FILES for group in read_yaml(file.read_text())["groups"]
    ]
