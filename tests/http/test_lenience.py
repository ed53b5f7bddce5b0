"""Nothing that a user logs is refused for being too much or oddly named: it is cut, and counted."""

from __future__ import annotations

import json

from service.http_kit import Client, upd
from watchstep_monitor.http.batches import shortened

WIDE = {f"m{n:03}": 1.0 for n in range(300)}


def stored(client: Client, run: str) -> dict[str, object]:
    return {name: got["value"] for name, got in client.get(f"/runs/{run}").json["readings"].items()}


def test_of_more_readings_than_fit_an_update_the_loss_stays_and_is_judged(client: Client) -> None:
    answer = client.send("wide", upd(1, **WIDE, train__loss="NaN"))

    assert (answer.status, answer.json["accepted"], answer.json["left_out"]) == (202, 1, 45)
    assert len(stored(client, "wide")) == 256
    firing = client.get("/runs/wide").json["alerts"]
    assert "LossGone" in {alert["rule"] for alert in firing}


def test_sent_again_such_an_update_is_a_duplicate(client: Client) -> None:
    first = client.send("wide2", upd(1, **WIDE, train__loss=1.0))
    again = client.send("wide2", upd(1, **WIDE, train__loss=1.0))

    assert (first.json["accepted"], again.json["duplicates"]) == (1, 1)


def test_a_run_with_more_names_than_it_may_have_keeps_the_first_and_goes_on(
    client: Client,
) -> None:
    for at in range(9):
        names = {f"n{at}/{n}": 1.0 for n in range(250)}
        answer = client.send("names", upd(at + 1, **names, train__loss=float(at)))
        assert answer.status == 202
    again = client.send("names", upd(10, train__loss="NaN", late=1.0))

    # 8 x 250 and the loss are 2,001 names: one of the eighth update, and all new ones of the ninth.
    assert answer.json["left_out"] == 250
    assert again.json["left_out"] == 1
    assert len(stored(client, "names")) == 2_000
    assert stored(client, "names")["train/loss"] == "NaN"


def test_a_name_that_is_none_is_mapped_and_two_never_become_the_same(client: Client) -> None:
    answer = client.send("odd", upd(1, **{"a b": 1.0, "a_b": 2.0, "a?b": 3.0, "\u00e9" * 300: 4.0}))

    assert (answer.status, answer.json["accepted"]) == (202, 1)
    assert sorted(stored(client, "odd").values()) == [1.0, 2.0, 3.0, 4.0]


def test_an_event_that_is_too_long_is_cut_and_keeps_its_kind(client: Client) -> None:
    event = {"kind": "failed", "error": "boom", "traceback": "x" * 50_000, "rank": 3}
    answer = client.send("long", {**upd(1), "event": event})

    (kept,) = [
        entry["event"]
        for entry in client.get("/runs/long/timeline").json["items"]
        if entry["kind"] == "event"
    ]
    assert answer.json["accepted"] == 1
    assert (kept["kind"], kept["error"], kept["rank"], kept["cut"]) == ("failed", "boom", 3, True)
    assert client.get("/runs/long").json["status"] == "failed"


def test_shortening_never_gives_more_than_there_is_room_for() -> None:
    event = {"kind": "log", "text": "\u20ac" * 9_000, "more": ["y"] * 9_000, "last": 1}

    cut = shortened(event, 1_000)

    assert len(json.dumps(cut)) <= 1_000
    assert (cut["kind"], cut["last"]) == ("log", 1)


def test_tags_and_configurations_of_any_kind_and_size_are_taken(client: Client) -> None:
    begun = client.ask(
        "PUT",
        "/api/v1/runs/described",
        {
            "project": "my project \u00e9",
            "tags": {"git branch": "a\tb", "lr": 0.1, "amp": True, "odd": {"x": 1}, "n": None},
            "config": {"seed": 1, "notes": "z" * 90_000, "table": [1.0] * 90_000},
            "trainer": "t" * 300,
        },
    )

    assert begun.status == 200
    assert begun.json["config_left_out"] == 1
    run = client.get("/runs/described").json
    assert sorted(run["tags"].values()) == ["0.1", "a b", "null", "true"]
    assert (run["config"]["seed"], len(run["config"]["notes"])) == (1, 1_000)
    assert len(run["trainer"]) == 64


def test_an_attempt_far_beyond_the_last_is_refused_where_it_comes_in(client: Client) -> None:
    client.send("jump", upd(1, a=1.0))

    far = client.send("jump", upd(1, a=1.0), attempt=900_000)
    begun = client.ask("PUT", "/api/v1/runs/jump", {"attempt": 900_000})

    assert (far.status, begun.status) == (422, 422)
    assert client.get("/runs/jump").json["attempt"] == 1


def test_where_a_trainer_runs_is_shown_from_what_its_hook_records(client: Client) -> None:
    config = {"environment": {"host": "gpu-12", "user": "ann"}}
    client.ask("PUT", "/api/v1/runs/placed", {"config": config})

    run = client.get("/runs/placed").json
    assert (run["host"], run["user"]) == ("gpu-12", "ann")
