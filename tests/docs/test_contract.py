"""docs/contract.md against the code: each fails when one knows something the other does not."""

from __future__ import annotations

import importlib.util
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

import watchstep
from service.http_kit import Client, served, until, upd
from watchstep.cli.main import build
from watchstep.core.updates import EVENT_KINDS
from watchstep_monitor.http.calls import _REFUSALS
from watchstep_monitor.service.ports import RunStatus
from watchstep_monitor.settings import Settings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "contract.md").read_text("utf-8")


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_contract", ROOT / "docs/make_contract.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def first_column(name: str) -> set[str]:
    """What stands in code in the first column of a table."""
    match = re.search(rf"<!-- made: {name} -->\n(.*?)<!-- end -->", PAGE, re.DOTALL)
    assert match is not None
    return set(re.findall(r"^\| `([^`]+)`", match[1], re.MULTILINE))


def test_the_tables_are_as_the_code_makes_them(maker: ModuleType) -> None:
    assert maker.made(PAGE) == PAGE, "run: python docs/make_contract.py"


def test_every_setting_is_there_and_no_other() -> None:
    names = set()

    def walk(schema: dict, above: str) -> None:
        for name, part in schema["properties"].items():
            target = part.get("$ref", "").rpartition("/")[2]
            if target:
                walk(definitions[target], f"{above}{name}.")
            elif name == "receivers":
                walk(definitions["ReceiverSettings"], "receivers.<name>.")
            else:
                names.add(above + name)
                if above + name == "auth.tokens":
                    walk(definitions["TokenSettings"], "auth.tokens[].")

    whole = Settings.model_json_schema()
    definitions = whole["$defs"]
    walk(whole, "")

    assert first_column("settings") == names


def test_every_setting_says_what_it_is_for(maker: ModuleType) -> None:
    unsaid = [key for key, field, _ in maker.settings_rows() if not field.description]

    assert unsaid == []


def test_every_environment_name_that_it_promises_is_read(maker: ModuleType) -> None:
    from watchstep_monitor.settings import load_settings

    written = re.findall(r"\| `(WATCHSTEP_[A-Z_]+)`", PAGE.split("## Settings of a trainer")[0])
    values = {"number": "7", "whole number": "7", "path": "x"}
    rows = {f"`{row[0]}`": row for row in maker.settings_rows()}
    assert len(written) == sum("[]" not in key for key in rows)
    for key, field, annotation in maker.settings_rows():
        kind = maker._kind(annotation)
        if "[]" in key or key in {"auth.tokens"} or "<name>" in key or kind not in values:
            continue
        name = maker._variable(key).split("`")[1]

        loaded = load_settings(environ={name: values[kind]})

        assert loaded.origins == {key: "environment"}, field


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """With a run that alerts, and a receiver that will not answer, so that all gauges show."""
    settings = {
        "WATCHSTEP_RECEIVERS__OPS__KIND": "webhook",
        "WATCHSTEP_RECEIVERS__OPS__URL": "http://127.0.0.1:9/",
        "WATCHSTEP_NOTIFY__MAX_ATTEMPTS": "1",
    }
    with served(tmp_path_factory.mktemp("contract"), "--rules", "generic", **settings) as running:
        running.client.send("a", upd(1, train__loss="NaN"), upd(1, train__loss="NaN"))
        running.client.send("a", upd(3, train__grad_norm=50.0))
        running.client.ask("POST", "/-/reload")
        until(lambda: b"watchstep_deliveries_total{" in metrics(running.client))
        yield running.client


def metrics(client: Client) -> bytes:
    return client.ask("GET", "/metrics").body


def test_every_call_is_there_and_no_other(service: Client) -> None:
    paths = service.ask("GET", "/openapi.json").json["paths"]

    routes = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    assert first_column("calls") == routes


def test_every_call_answers_as_something_other_than_unknown(service: Client) -> None:
    for call in sorted(first_column("calls") - {"GET /api/v1/events"}):
        method, path = call.split(" ")
        filled = re.sub(r"\{run\}", "a", path).replace("{name}", "ops")
        filled = re.sub(r"\{\w+\}", "al_" + "0" * 20, filled)

        answer = service.ask(method, filled, {} if method in {"PUT", "POST"} else None)

        assert answer.status < 500, call
        assert answer.status != 405, call
        assert answer.status != 404 or "0000" in filled, call


def test_the_gauges_and_their_labels_are_those_of_a_scrape(service: Client) -> None:
    text = metrics(service).decode()
    names = {
        name
        for name in re.findall(r"^# TYPE (watchstep_\w+) ", text, re.MULTILINE)
        if not name.endswith("_created")
    }
    page = {
        name: set(re.findall(r"`(\w+)`", labels))
        for name, labels in re.findall(r"^\| `(watchstep_\w+)` \| \w+ \| (.*?) \|", PAGE, re.M)
    }

    assert first_column("gauges") == names == set(page)
    for name, labels in page.items():
        sample = re.search(rf"^{name}(?:_bucket)?(?:{{(.*?)}})? ", text, re.MULTILINE)
        if sample is None:
            assert name == "watchstep_run_zone", name
            continue
        assert set(re.findall(r'(\w+)="', sample[1] or "")) - {"le"} == labels, name


def test_answers_have_the_fields_that_the_page_names(service: Client) -> None:
    until(lambda: service.get("/alerts").json["items"])
    for thing, shown in (
        ("A run", service.get("/runs/a").json),
        ("An alert", service.get("/alerts").json["items"][0]),
    ):
        match = re.search(rf"\*\*{thing}\*\* answers `(.*?)`", PAGE, re.DOTALL)
        assert match is not None
        words = re.sub(r"\{.*?\}", "", " ".join(match[1].split())).split(",")
        assert {word.strip() for word in words} == set(shown), thing


def test_refusals_statuses_and_events_are_those_of_the_code() -> None:
    refusals = PAGE.split("### Limits and errors")[1].split("## Prometheus")[0]
    cells = re.findall(r"^\| ([\d, ]+) \|", refusals, re.MULTILINE)
    statuses = {status for cell in cells for status in cell.split(", ")}

    assert statuses == {str(status) for status in _REFUSALS} | {"405", "408"}
    for word in typing.get_args(RunStatus):
        assert f"`{word}`" in PAGE
    events = PAGE.split("**Events** are")[1].split("**Commands**")[0]
    for kind in EVENT_KINDS:
        assert f"`{kind}`" in events, kind


def test_every_public_name_of_the_package_is_there(maker: ModuleType) -> None:
    written = {name.partition("(")[0] for name in first_column("python")}

    assert {f"watchstep.{name}" for name in watchstep.__all__} <= written
    assert written == {name for name, _ in maker.python_names()}


def test_the_help_names_the_commands_that_the_page_does() -> None:
    words = {command.split(" ")[1] for command in first_column("commands")}
    wide = {"NO_COLOR": "1", "COLUMNS": "200", "TERM": "dumb"}
    help_text = CliRunner().invoke(build(), ["--help"], env=wide).stdout
    listed = help_text.split("Commands", 1)[1]

    assert words == set(re.findall(r"^\W*([a-z][a-z-]*)(?=  |$)", listed, re.MULTILINE))
