"""Runs can be closed, archived and deleted, and what was deleted does not rise again."""

from __future__ import annotations

from service.http_kit import Client, upd

END = {"event": {"kind": "finished"}}


def ended(client: Client, run: str) -> None:
    client.ask("PUT", f"/api/v1/runs/{run}", {"session": "first"})
    client.send(run, upd(1, train__grad_norm=50.0), {**upd(2), **END})


def patch(client: Client, run: str, **fields: object):
    return client.ask("PATCH", f"/api/v1/runs/{run}", fields)


def test_notes_and_tags_are_kept(client: Client) -> None:
    ended(client, "away1")

    answer = patch(client, "away1", notes="bad seed", tags={"keep": "yes"})

    assert answer.status == 200
    run = client.get("/runs/away1").json
    assert (run["notes"], run["tags"]) == ("bad seed", {"keep": "yes"})


def test_closing_ends_the_incident_and_the_alerts_for_good(client: Client) -> None:
    ended(client, "away2")

    closed = patch(client, "away2", closed=True)

    assert (closed.status, closed.json["alerts"], closed.json["incident"]) == (200, [], None)
    assert client.get("/incidents?run=away2").json["items"][0]["state"] == "resolved"
    client.ask("POST", "/-/reload")
    assert client.get("/alerts?run=away2&state=firing").json["items"] == []


def test_a_run_that_goes_on_is_neither_closed_nor_deleted(client: Client) -> None:
    client.send("away3", upd(1, train__grad_norm=50.0))

    assert patch(client, "away3", closed=True).status == 409
    assert client.ask("DELETE", "/api/v1/runs/away3").status == 409
    assert client.get("/runs/away3").json["counts"]["firing"] == 1


def test_an_archived_run_leaves_the_list_and_comes_back(client: Client) -> None:
    ended(client, "away4")

    def listed(query: str = "") -> bool:
        items = client.get(f"/runs?limit=500{query}").json["items"]
        return "away4" in {run["run"] for run in items}

    assert patch(client, "away4", archived=True).json["archived"] is True
    assert (listed(), listed("&archived=true")) == (False, True)
    patch(client, "away4", archived=False)
    assert listed()


def test_a_deleted_run_does_not_rise_again_and_its_name_is_free(client: Client) -> None:
    ended(client, "away5")

    gone = client.ask("DELETE", "/api/v1/runs/away5")
    late = client.send("away5", upd(3, a=1.0))
    again = client.ask("PUT", "/api/v1/runs/away5", {"session": "first"})

    assert (gone.status, late.status, again.status) == (204, 410, 410)
    assert client.get("/runs/away5").status == 404
    assert client.get("/alerts?run=away5").json["items"] == []
    new = client.ask("PUT", "/api/v1/runs/away5", {"session": "second"})
    sent = client.send("away5", upd(1, other__name=1.0))
    assert (new.status, new.json["attempt"], sent.status) == (200, 1, 202)
    assert list(client.get("/runs/away5").json["readings"]) == ["other/name"]
