"""A token that is limited to projects sees and does nothing of others, whichever door it tries."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from service.http_kit import Client, made_token, served, until, upd
from watchstep_monitor.http import action_routes, admin_routes, docs_page
from watchstep_monitor.http.application import MODULES, PREFIX, framework
from watchstep_monitor.http.calls import CheckedRoute
from watchstep_monitor.store.opening import StoreOptions
from watchstep_monitor.web import page_routes

OPEN = {
    "/healthz", "/readyz", "/openapi.json", "/docs", "/docs/{name}", "/favicon.ico",
    "/static/{fingerprint}/{name}",
}  # fmt: skip
"""Open to everyone, and about nobody's runs."""
SIGNED = {"/act/{run}/{incident}/{act}/{until}/{signature}"}
"""Whose address carries a signature; see test_links."""
SHELLS = {
    "/", "/alerts", "/rules", "/receivers", "/compare", "/postmortem", "/runs/{run}",
    "/runs/{run}/postmortem",
}  # fmt: skip
"""The page without any data; a name in their address is read by the script alone."""
SECRET = "foreign-secret"


def all_routes() -> dict[tuple[str, str], Any]:
    """Every route of the service by its path and method, those of the page too."""
    pages = page_routes(None, None, "0")  # type: ignore[arg-type]
    routers = [(PREFIX, module.routes) for module in MODULES]
    routers += [
        ("", router)
        for router in (admin_routes.root_routes, action_routes.routes, docs_page.routes, pages)
    ]
    routes = {
        (method, prefix + route.path): route
        for prefix, router in routers
        for route in router.routes
        for method in sorted(route.methods - {"HEAD"})
    }
    assert len(framework("0", [pages]).routes) == 1 + len(routers), "a router is missing here"
    return routes


def doors() -> list[tuple[str, str]]:
    """Method and path of every route that is not open to everyone."""
    return sorted(key for key in all_routes() if key[1] not in OPEN | SHELLS | SIGNED)


def dead(admin: Client) -> list[dict[str, Any]]:
    return admin.get("/deliveries?state=dead").json["items"]


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Client, Client, dict]]:
    """A limited administrator, an unlimited one, and what there is of the other project."""
    folder = tmp_path_factory.mktemp("doors")
    (folder / "data").mkdir()
    store = StoreOptions(folder / "data")
    mine = made_token(store, "mine", ["admin", "ingest", "read"], ["mine"])
    boss = made_token(store, "boss", ["admin", "ingest", "read"])
    receiver = {
        "WATCHSTEP_RECEIVERS__OPS__KIND": "webhook",
        "WATCHSTEP_RECEIVERS__OPS__URL": "http://127.0.0.1:9/hook",
        "WATCHSTEP_NOTIFY__ALLOW_PRIVATE_CIDRS": "127.0.0.0/8",
        "WATCHSTEP_NOTIFY__MAX_ATTEMPTS": "1",
    }
    with served(folder, **receiver) as running:
        limited, admin = Client(running.client.port, mine), Client(running.client.port, boss)
        admin.ask("PUT", f"/api/v1/runs/{SECRET}", {"project": "theirs", "tags": {"t": SECRET}})
        admin.send(SECRET, upd(1, train__grad_norm=50.0))
        silence = {"matchers": [f'run="{SECRET}"', 'project="theirs"'], "duration_s": 60}
        there = {
            "run": SECRET,
            "alert_id": admin.get(f"/alerts?run={SECRET}").json["items"][0]["id"],
            "silence_id": admin.post("/silences", silence).json["id"],
            "delivery_id": until(lambda: admin.get("/deliveries?state=dead").json["items"])[0][
                "id"
            ],
            "name": "ops",
        }
        yield limited, admin, there


BODIES: dict[str, Any] = {
    "/api/v1/runs/{run}": {"notes": SECRET},
    "/api/v1/runs/{run}/updates": {"attempt": 1, "updates": [upd(2, a=1.0)]},
    "/api/v1/runs/{run}/commands": {"kind": "halt"},
    "/api/v1/alerts/{alert_id}/answer": {"answer": "right"},
    "/api/v1/silences": {"matchers": ['rule=~".*"'], "duration_s": 1},
    "/api/v1/postmortem": b"loss 1\nloss 2\n",
}
QUERIES = {
    "/api/v1/runs/{run}/series": "?metric=train/grad_norm",
    "/page/previews": f"?run={SECRET}",
}


@pytest.mark.parametrize(("method", "path"), doors())
def test_no_door_shows_or_changes_what_is_another_projects(
    foreign: tuple[Client, Client, dict], method: str, path: str
) -> None:
    limited, admin, there = foreign
    if path == "/api/v1/events":
        pytest.skip("a stream: see the test below")
    before = state(admin)
    address = path.format(**there) + QUERIES.get(path, "")
    body = BODIES.get(path) if method in {"POST", "PUT", "PATCH"} else None
    if path == "/api/v1/runs/{run}" and method == "PUT":
        body = {}

    answer = limited.ask(method, address, body)

    assert answer.status < 500
    if "{" in path:
        assert answer.status in {403, 404}, answer.body
    assert SECRET not in answer.body.decode("utf-8", "replace")
    assert "theirs" not in answer.body.decode("utf-8", "replace")
    assert state(admin) == before


def state(admin: Client) -> str:
    """All that is the other project's."""
    paths = (f"/runs/{SECRET}", f"/runs/{SECRET}/timeline", "/deliveries", "/incidents")
    answers = [admin.get(path).json for path in paths]
    silences = [each for each in admin.get("/silences").json["items"] if "run" in str(each)]
    alerts = admin.get(f"/alerts?run={SECRET}").json
    kept = [each for each in silences if SECRET in json.dumps(each)]
    return json.dumps([*answers, alerts, kept])


def test_every_route_but_the_open_ones_asks_for_a_token(
    foreign: tuple[Client, Client, dict],
) -> None:
    limited, _, there = foreign
    nobody = Client(limited.port)

    for method, path in doors():
        answer = nobody.ask(method, path.format(**there), {} if method != "GET" else None)
        # The page's own answers look at their parameters first.
        wanted = {401, 422} if path.startswith("/page/") else {401}
        assert answer.status in wanted, (method, path)
    for (_, path), route in all_routes().items():
        if isinstance(route, CheckedRoute) and path not in OPEN | SIGNED:
            assert route.scope in {"ingest", "read", "admin"}, path


def test_a_limited_token_hears_of_its_own_runs_alone(
    foreign: tuple[Client, Client, dict],
) -> None:
    limited, admin, _ = foreign
    head = (
        f"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {limited.token}"
    )
    heard = b""
    with socket.create_connection(("127.0.0.1", limited.port), timeout=20) as stream:
        stream.sendall(f"{head}\r\n\r\n".encode())
        while b"retry:" not in heard:
            heard += stream.recv(65_536)
        admin.send(SECRET, upd(7, train__loss="NaN"))
        limited.send("heard-run", upd(1, train__loss="NaN"))
        while b"heard-run" not in heard:
            heard += stream.recv(65_536)

    assert SECRET.encode() not in heard


def test_gauges_of_a_limited_token_are_those_of_its_runs_alone(
    foreign: tuple[Client, Client, dict],
) -> None:
    limited, admin, _ = foreign
    limited.send("own-run", upd(1, train__loss=1.0))

    mine = limited.ask("GET", "/metrics").body.decode()

    assert 'run="own-run"' in mine
    assert SECRET not in mine
    assert "watchstep_updates_total" not in mine
    assert "watchstep_updates_total" in admin.ask("GET", "/metrics").body.decode()


def test_what_concerns_everyone_is_not_for_a_limited_administrator(
    foreign: tuple[Client, Client, dict],
) -> None:
    limited, admin, _ = foreign

    assert limited.ask("POST", "/-/reload").status == 403
    assert limited.post("/receivers/ops/test", b"").status == 403
    shown = limited.get("/receivers").json["items"][0]
    assert (shown["name"], shown["dead"], shown["last_error"]) == ("ops", 0, "")
    assert admin.get("/receivers").json["items"][0]["dead"] >= 1
