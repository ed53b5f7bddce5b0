"""Agents ask a real service through the protocol package's own client, over stdio and HTTP."""

from __future__ import annotations

import asyncio
import json
import math
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

pytest.importorskip("mcp", reason="needs the extra mcp")

import httpx
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from service.http_kit import Client as Rest
from service.http_kit import accepts, environment, made_token, served, until, upd
from watchstep.cli import agent_answers
from watchstep_monitor.store.opening import StoreOptions

TOOLS = {
    "list_runs",
    "run_status",
    "incident",
    "series",
    "alerts",
    "postmortem",
    "halt",
    "acknowledge",
}
UPDATES = 60


@dataclass
class Place:
    """A service with two healthy runs and one that went bad, and who may do what there."""

    url: str
    admin: Rest
    tokens: dict[str, str]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("agents")
    (folder / "data").mkdir()
    store = StoreOptions(folder / "data")
    tokens = {
        "admin": made_token(store, "admin", ["admin", "ingest", "read"]),
        "reader": made_token(store, "reader", ["read"]),
        "other": made_token(store, "other", ["admin", "read"], ["another-project"]),
    }
    with served(folder, "--rules", "generic") as running:
        admin = Rest(running.client.port, tokens["admin"])
        for run in ("plateau", "healthy", "bad"):
            admin.ask("PUT", f"/api/v1/runs/{run}", {"project": "trials"})
            losses = [2.0 - 0.01 * min(step, 20) + 0.01 * math.sin(step) for step in range(UPDATES)]
            updates = [
                upd(number, train__loss=loss, train__grad_norm=1.0, my__own=3.0)
                for number, loss in enumerate(losses, 1)
            ]
            if run == "bad":
                for update in updates[40:]:
                    update["metrics"] |= {"train/loss": "NaN", "train/grad_norm": "NaN"}
            assert admin.send(run, *updates).status == 202
        until(lambda: admin.get("/runs/bad").json["incident"])
        yield Place(f"http://127.0.0.1:{admin.port}", admin, tokens)


@asynccontextmanager
async def over_stdio(place: Place, token: str) -> Any:
    command = StdioServerParameters(
        command=sys.executable,
        args=["-m", "watchstep", "mcp", "--url", place.url],
        env=environment(WATCHSTEP_TOKEN=token),
    )
    async with Client(command) as client:
        yield client


@asynccontextmanager
async def over_http(place: Place, token: str) -> Any:
    """The server has no token of its own: what the client sends is passed on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "watchstep", "mcp", "--url", place.url, "--http", str(port)]
    process = subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL)
    try:
        until(lambda: accepts(port))
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with httpx.AsyncClient(headers=headers, timeout=30) as http:
            address = f"http://127.0.0.1:{port}/mcp"
            async with Client(streamable_http_client(address, http_client=http)) as client:
                yield client
    finally:
        process.terminate()
        process.wait(20)


async def told(client: Any, tool: str, **arguments: Any) -> Any:
    """What a tool answers, which is never longer than promised."""
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content[0].text
    assert len(result.content[0].text.encode()) <= agent_answers.MOST_BYTES
    return json.loads(result.content[0].text)


async def refused(client: Any, tool: str, **arguments: Any) -> str:
    result = await client.call_tool(tool, arguments)
    assert result.is_error
    return str(result.content[0].text)


@pytest.mark.parametrize("transport", [over_stdio, over_http])
def test_an_agent_finds_the_bad_run_and_why_in_five_calls_and_8_kb(
    place: Place, transport: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    heard: list[str] = []

    async def script() -> None:
        async with transport(place, place.tokens["admin"]) as client:

            async def ask(tool: str, **arguments: Any) -> Any:
                answer = await told(client, tool, **arguments)
                heard.append(json.dumps(answer, separators=(",", ":"), ensure_ascii=False))
                return answer

            runs = (await ask("list_runs"))["runs"]
            (bad,) = [run["run"] for run in runs if run["health"] not in ("healthy", "unjudged")]
            status = await ask("run_status", run=bad)
            why = await ask("incident", run=bad)
            done = await ask("acknowledge", alert_or_run=bad)

            assert bad == "bad"
            assert status["alerts"][0]["severity"] == "critical"
            assert status["alerts"][0]["evidence"]
            assert why["first_bad_update"] == 41
            assert why["causes"][0]["evidence"]
            assert 0 <= why["confidence"] <= 1
            assert isinstance(why["enough_evidence"], bool)
            assert done["alerts"] >= len(done["acknowledged"]) > 0
            assert all({"last_heard", "not_judged"} <= answer.keys() for answer in (status, why))

    asyncio.run(script())

    size = sum(len(answer.encode()) for answer in heard)
    with capsys.disabled():
        sys.stdout.write(f"\n{transport.__name__}: {len(heard)} calls, {size} bytes\n")
    assert len(heard) <= 5
    assert size <= 8_000
    alerts = place.admin.get("/alerts?run=bad&state=firing").json["items"]
    assert {alert["acknowledged_by"] for alert in alerts} == {"agent"}


def test_every_tool_has_a_schema_and_says_whether_it_changes_anything(place: Place) -> None:
    async def script() -> Any:
        async with over_stdio(place, place.tokens["reader"]) as client:
            return (await client.list_tools()).tools

    tools = {tool.name: tool for tool in asyncio.run(script())}

    assert set(tools) == TOOLS
    assert all(tool.input_schema["type"] == "object" for tool in tools.values())
    assert "context" not in str([tool.input_schema for tool in tools.values()])
    changing = {name for name, tool in tools.items() if not tool.annotations.read_only_hint}
    assert changing == {"halt", "acknowledge"}
    assert tools["halt"].annotations.destructive_hint


def test_a_run_on_a_plateau_is_not_halted_unless_a_person_asks(place: Place) -> None:
    async def script() -> None:
        async with over_stdio(place, place.tokens["admin"]) as client:
            status = await told(client, "run_status", run="plateau")
            answer = await refused(client, "halt", run="plateau", reason="it is flat")
            assert status["health"] == "healthy"
            assert "plateau" in status["advice"]
            assert status["not_judged"] == {"metrics": 1, "such_as": ["my/own"]}
            assert "not halted" in answer
            assert place.admin.get("/runs/plateau").json["commands"] == []
            done = await told(
                client, "halt", run="plateau", reason="asked for", without_critical_alert=True
            )
            assert done["asked"] == "halt"

    asyncio.run(script())

    (command,) = place.admin.get("/runs/plateau").json["commands"]
    assert (command["kind"], command["reason"]) == ("halt", "asked for")


@pytest.mark.parametrize("transport", [over_stdio, over_http])
def test_the_token_decides_who_may_halt_and_see(place: Place, transport: Any) -> None:
    async def script() -> None:
        async with transport(place, place.tokens["reader"]) as client:
            assert "HTTP 403" in await refused(client, "halt", run="bad", reason="NaN")
            assert "HTTP 403" in await refused(client, "acknowledge", alert_or_run="bad")
        async with transport(place, place.tokens["other"]) as client:
            assert (await told(client, "list_runs"))["runs"] == []
            assert "HTTP 404" in await refused(client, "run_status", run="bad")
            assert "HTTP 404" in await refused(client, "halt", run="bad", reason="NaN")
        async with transport(place, "") as client:
            assert "HTTP 401" in await refused(client, "list_runs")

    asyncio.run(script())

    assert place.admin.get("/runs/bad").json["commands"] == []


def test_a_course_keeps_its_nan_and_comes_in_pages(place: Place) -> None:
    async def script() -> list[Any]:
        points, cursor = [], ""
        async with over_stdio(place, place.tokens["reader"]) as client:
            while True:
                page = await told(client, "series", run="bad", metric="train/loss", cursor=cursor)
                points += page["points"]
                cursor = page["next_cursor"]
                if cursor is None:
                    break
            missing = await told(client, "series", run="bad", metric="no/such")
            assert missing["metrics_there_are"] == ["my/own", "train/grad_norm", "train/loss"]
        return points

    points = asyncio.run(script())

    assert points[0][0] == 10
    assert [400, "NaN"] not in points
    assert [410, "NaN"] in points


def test_a_post_mortem_says_what_it_rests_on(place: Place) -> None:
    async def script() -> Any:
        async with over_stdio(place, place.tokens["reader"]) as client:
            return await told(client, "postmortem", run="bad")

    examined = asyncio.run(script())

    assert examined["verdict"] == "diverged"
    assert (examined["first_bad_update"], examined["unit"]) == (410, "step")
    assert isinstance(examined["enough_evidence"], bool)
    assert isinstance(examined["not_judged"], list)
    assert examined["last_heard"].endswith("ago")


def test_all_runs_are_listed_over_pages(place: Place) -> None:
    for number in range(45):
        place.admin.send(f"many-{number:02}-{'x' * 80}", upd(1, train__loss=1.0))

    async def script() -> list[str]:
        names, cursor = [], ""
        async with over_stdio(place, place.tokens["reader"]) as client:
            while cursor is not None:
                page = await told(client, "list_runs", cursor=cursor)
                assert page["runs"]
                names += [run["run"] for run in page["runs"]]
                cursor = page["next_cursor"]
            assert "cursor" in await refused(client, "list_runs", cursor="nonsense")
        return names

    names = asyncio.run(script())

    assert len(names) == len(set(names)) == 48


def test_a_run_of_which_nothing_is_heard_is_called_neither_good_nor_bad() -> None:
    run = {"status": "lost", "health": "healthy", "last_update_at": "2026-01-01T00:00:00Z"}

    assert "nothing is known" in agent_answers.advice({**run, "alerts": []})


@pytest.mark.parametrize("length", [10, 1_000, 100_000])
def test_no_answer_is_longer_than_promised(length: int) -> None:
    items = [{"evidence": ["é" * length] * 6, "cause": "x" * length} for _ in range(30)]

    text = agent_answers.answer({"error": "é" * length}, "causes", items)

    assert len(text.encode()) <= agent_answers.MOST_BYTES
    shown = json.loads(text)
    assert shown["causes"]
    assert shown["next_cursor"] == f"{len(shown['causes'])}."
