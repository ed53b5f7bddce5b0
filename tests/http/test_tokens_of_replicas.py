"""Tokens in a database that replicas share: made and revoked once, good and void everywhere."""

from __future__ import annotations

from pathlib import Path

from service.http_kit import Client, made_token, until
from service.kit import RULES, postgres_database
from story.replica_kit import replicas
from watchstep_monitor.service.clock import SystemClock
from watchstep_monitor.store.offline_tokens import tokens_of
from watchstep_monitor.store.opening import StoreOptions

EXTRA = """
      - alert: Extra
        expr: my/own > 1
        labels: {severity: warning}
        annotations: {summary: "Too much."}
"""


def reload(client: Client) -> int:
    return client.ask("POST", "/-/reload").status


def test_a_token_made_once_reloads_every_replica_and_revoked_once_reloads_none(
    tmp_path: Path,
) -> None:
    with postgres_database() as url:
        options = StoreOptions(tmp_path / "elsewhere", url)
        boss = made_token(options, "boss", ["admin"])
        with replicas(tmp_path, 2, url, WATCHSTEP_HOST="0.0.0.0") as running:
            reader = made_token(options, "reader", ["read", "ingest"])
            ports = [each.client.port for each in running]
            bosses, readers = ([Client(port, who) for port in ports] for who in (boss, reader))
            until(lambda: all(each.get("/rules").status == 200 for each in readers))
            for each in running:
                (each.folder / "rules.yaml").write_text(RULES + EXTRA)

            refused = [reload(Client(ports[0])), reload(readers[0])]
            before = [len(each.get("/rules").json["items"]) for each in readers]
            taken = reload(bosses[0])
            more = before[0] + 1
            until(lambda: all(len(each.get("/rules").json["items"]) == more for each in readers))

            with tokens_of(options) as tokens:
                tokens.revoke("boss", SystemClock().now())
            until(lambda: [reload(each) for each in bosses] == [401, 401])

    assert refused == [401, 403]
    assert before[0] == before[1]
    assert taken == 200
