"""The dashboards, as far as they can be judged without Grafana."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from itertools import combinations

import pytest

from deploy.kit import DASHBOARDS, DEPLOY, read_yaml
from watchstep_monitor.gauges import Exposition, Instruments, ServiceState
from watchstep_monitor.service.ports import FiringAlert, RunGauge
from watchstep_monitor.settings.schema import GaugeSettings

slow = pytest.mark.skipif(
    os.environ.get("WATCHSTEP_SLOW") != "1", reason="slow, installs packages: make test-packaging"
)


class StoppedClock:
    def now(self):
        return datetime(2026, 11, 23, tzinfo=UTC)

    def monotonic(self):
        return 0.0


class OneRun:
    def iter_runs(self):
        yield RunGauge(
            run="ppo-7",
            project="p",
            status="running",
            health="diverged",
            step=1,
            last_update_at=1.0,
            last_heard_at=1.0,
            lost_updates=0,
            readings={"train/loss": 1.0},
            zones={"train/loss": "ok"},
            firing=(FiringAlert("Rule", "critical"),),
            ended_at=None,
        )


def exposed():
    """Every name that Prometheus can ask for: exposed, recorded, or its own."""
    clock = StoppedClock()
    text = Exposition(
        Instruments(clock),
        OneRun(),
        clock,
        ServiceState(
            lambda: {"waiting": 0}, lambda: {"ops": False}, lambda: False, lambda: 0, lambda: 1
        ),
        GaugeSettings(),
    ).render()
    families = set(re.findall(r"^# TYPE (\S+)", text.decode(), re.MULTILINE))
    parts = {f"{family}{end}" for family in families for end in ("_bucket", "_count", "_sum")}
    recorded = {
        rule["record"]
        for group in read_yaml((DEPLOY / "prometheus" / "recording.rules.yml").read_text())[
            "groups"
        ]
        for rule in group["rules"]
    }
    return families | parts | recorded | {"up"}


def dashboards():
    return [pytest.param(json.loads(path.read_text()), id=path.stem) for path in DASHBOARDS]


def expressions(dashboard):
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"]
    for mark in dashboard["annotations"]["list"]:
        yield mark["target"]["expr"]


def test_the_dashboards_are_what_the_description_makes():
    done = subprocess.run(
        [sys.executable, DEPLOY / "grafana" / "generate.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )

    assert (done.returncode, done.stdout) == (0, "")
    assert len(DASHBOARDS) == 4


@pytest.mark.parametrize("dashboard", dashboards())
def test_panels_have_numbers_of_their_own_and_do_not_overlap(dashboard):
    panels = dashboard["panels"]
    places = [panel["gridPos"] for panel in panels]

    assert len({panel["id"] for panel in panels}) == len(panels)
    for left, right in combinations(places, 2):
        beside = left["x"] + left["w"] <= right["x"] or right["x"] + right["w"] <= left["x"]
        above = left["y"] + left["h"] <= right["y"] or right["y"] + right["h"] <= left["y"]
        assert beside or above
    assert all(place["x"] + place["w"] <= 24 for place in places)


@pytest.mark.parametrize("dashboard", dashboards())
def test_a_dashboard_can_be_imported_anywhere(dashboard):
    assert "id" not in dashboard
    assert "__inputs" not in dashboard
    for panel in dashboard["panels"]:
        targets = panel.get("targets", [])
        assert len({target["refId"] for target in targets}) == len(targets)
        for part in (panel, *targets) if targets else ():
            assert part["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


@pytest.mark.parametrize("dashboard", dashboards())
def test_every_panel_says_how_to_read_it(dashboard):
    assert [panel["title"] for panel in dashboard["panels"] if not panel["description"]] == []


@pytest.mark.parametrize("dashboard", dashboards())
def test_queries_ask_for_what_the_service_exposes(dashboard):
    names = {
        name
        for expr in expressions(dashboard)
        for name in re.findall(r"\b(?:watchstep[_:][a-z0-9_:]+|process_\w+|up)\b", expr)
    }

    # The process' own gauges come from the client library and exist on Linux only.
    process = {
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_start_time_seconds",
    }
    assert names
    assert names <= exposed() | process


@pytest.mark.parametrize("dashboard", dashboards())
def test_tables_join_rows_that_have_no_name_of_their_own(dashboard):
    """A bare selector carries `__name__`, which differs from query to query and parts the rows."""
    bare = [
        (panel["title"], target["expr"])
        for panel in dashboard["panels"]
        if panel["type"] == "table"
        for target in panel["targets"]
        if not re.match(r"(max|count|sum) by \(", target["expr"])
    ]

    assert bare == []


@pytest.mark.parametrize("dashboard", dashboards())
def test_variables_that_are_used_exist(dashboard):
    own = {variable["name"] for variable in dashboard["templating"]["list"]}
    used = set(re.findall(r"\$\{?([a-z]\w*)", json.dumps(dashboard)))

    assert used <= own | {"datasource"}


@pytest.mark.parametrize("dashboard", dashboards())
def test_links_lead_to_dashboards_that_exist_and_to_the_page(dashboard):
    uids = {json.loads(path.read_text())["uid"] for path in DASHBOARDS}
    text = json.dumps(dashboard)

    assert set(re.findall(r"/d/([\w-]+)", text)) <= uids
    assert "${watchstep}" in text


def test_the_alerts_links_lead_to_dashboards_that_exist():
    uids = {json.loads(path.read_text())["uid"] for path in DASHBOARDS}
    rules = (DEPLOY / "prometheus" / "alert.rules.yml").read_text()

    assert set(re.findall(r"/d/([\w-]+)", rules)) <= uids


@pytest.fixture(scope="session")
def published(tmp_path_factory):
    """JSON schemas made from the types that Grafana publishes."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    pytest.importorskip("jsonschema", reason="jsonschema is not installed (with check-jsonschema)")
    folder = tmp_path_factory.mktemp("grafana")
    (folder / "package.json").write_text("{}")
    wanted = ["@grafana/schema@13.2.3", "ts-json-schema-generator", "typescript"]
    subprocess.run([npm, "install", "--silent", *wanted], cwd=folder, check=True, timeout=300)

    def schema(types, name):
        made = subprocess.run(
            [folder / "node_modules/.bin/ts-json-schema-generator", "--no-type-check",
             "--path", folder / "node_modules/@grafana/schema/dist/types/raw" / types,
             "--type", name],
            cwd=folder, capture_output=True, text=True, check=True, timeout=120,
        )  # fmt: skip
        return json.loads(made.stdout)

    return schema


def without_what_a_datasource_adds(dashboard):
    """The published type of an annotation knows Grafana's own only, not Prometheus' fields."""
    copy = json.loads(json.dumps(dashboard))
    for mark in copy["annotations"]["list"]:
        for name in ("target", "titleFormat", "textFormat", "tagKeys", "useValueForTime"):
            del mark[name]
    return copy


def problems(document, schema):
    import jsonschema

    errors = jsonschema.Draft7Validator(schema).iter_errors(document)
    return [f"{'/'.join(map(str, error.absolute_path))}: {error.message[:200]}" for error in errors]


@slow
def test_dashboards_fit_the_schema_that_grafana_publishes(published):
    schema = published("dashboard/x/types.gen.d.ts", "Dashboard")

    for path in DASHBOARDS:
        dashboard = without_what_a_datasource_adds(json.loads(path.read_text()))
        assert problems(dashboard, schema) == [], path.name
    # The schema must be able to say no.
    assert problems({"schemaVersion": 41, "titel": "x"}, schema) != []


@slow
@pytest.mark.parametrize("kind", ["stat", "timeseries", "state-timeline", "table", "text"])
def test_panels_options_fit_the_schemas_that_grafana_publishes(published, kind):
    types = f"composable/{kind.replace('-', '')}/panelcfg/x/types.gen.d.ts"
    options = published(types, "Options")
    custom = published(types, "FieldConfig") if kind in {"timeseries", "state-timeline"} else None

    for path in DASHBOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            if panel["type"] != kind:
                continue
            assert problems(panel["options"], options) == [], panel["title"]
            if custom is not None:
                used = panel["fieldConfig"]["defaults"]["custom"]
                assert problems(used, custom) == [], panel["title"]
