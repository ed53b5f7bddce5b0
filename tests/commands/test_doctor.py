"""`watchstep doctor` and its neighbours: what they find, and that they change nothing."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import socket
import sqlite3
from pathlib import Path

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from service.http_kit import served
from service.kit import bench, grad
from watchstep.cli.main import build
from watchstep.core import engine_kind
from watchstep_monitor.service.errors import StorageTroubleError


@functools.cache
def application() -> typer.Typer:
    return build()


def command(folder: Path, *words: str, **settings: str) -> Result:
    """The command in this process: start-up costs more than all that it does."""
    none = {name: None for name in os.environ if name.startswith("WATCHSTEP_")}
    with contextlib.chdir(folder):
        return CliRunner().invoke(application(), words, env={**none, **settings})


def doctor(folder: Path, *words: str, **settings: str) -> tuple[int, dict[str, tuple[bool, str]]]:
    done = command(folder, "doctor", "--json", *words, **{"WATCHSTEP_PORT": "1", **settings})
    assert done.stderr == ""
    document = json.loads(done.stdout)
    assert document["ok"] is (done.exit_code == 0)
    return done.exit_code, {
        check["check"]: (check["ok"], check["says"]) for check in document["checks"]
    }


def test_an_empty_folder_is_fine_and_stays_empty(tmp_path: Path) -> None:
    code, checks = doctor(tmp_path)

    assert code == 0
    assert "none yet" in checks["store"][1]
    assert checks["engine"][1].startswith(engine_kind())
    assert list(tmp_path.iterdir()) == []


def test_a_running_service_is_found_ready_and_its_store_in_use(tmp_path: Path) -> None:
    with served(tmp_path) as running:
        code, checks = doctor(
            tmp_path, "--data-dir", "data", WATCHSTEP_PORT=str(running.client.port)
        )

    assert code == 0
    assert "in use by a running service" in checks["store"][1]
    assert checks["service"][1].startswith("ready at http://127.0.0.1:")


def test_everything_that_is_wrong_is_found_at_once(tmp_path: Path) -> None:
    with served(tmp_path):
        pass
    with sqlite3.connect(tmp_path / "data" / "watchstep.db") as raw:
        raw.execute("UPDATE alembic_version SET version_num = '9999'")
    raw.close()

    code, checks = doctor(
        tmp_path,
        "--data-dir",
        "data",
        WATCHSTEP_HOST="0.0.0.0",
        WATCHSTEP_RULES__PATHS="nowhere.yaml",
        WATCHSTEP_RECEIVERS__OPS__KIND="webhook",
        WATCHSTEP_RECEIVERS__OPS__URL="http://10.1.2.3/secret-part",
        WATCHSTEP_RECEIVERS__LOST__KIND="slack",
        WATCHSTEP_RECEIVERS__LOST__URL="https://no-such-host.invalid/secret-part",
    )

    assert code == 1
    assert {name for name, (good, _) in checks.items() if not good} == {
        "rules",
        "tokens",
        "store",
        "receiver ops",
        "receiver lost",
    }
    assert "newer" in checks["store"][1]
    assert "private" in checks["receiver ops"][1]
    assert "secret-part" not in str(checks)


def test_a_damaged_store_is_found(tmp_path: Path) -> None:
    with served(tmp_path) as running:
        # A clean end brings everything from the log into the file.
        assert running.stop() == 0
    path = tmp_path / "data" / "watchstep.db"
    with path.open("r+b") as file:
        file.seek(path.stat().st_size - 4_096)
        file.write(b"\xa5" * 4_096)

    code, checks = doctor(tmp_path, "--data-dir", "data")

    assert code == 1
    assert "damaged" in checks["store"][1]


def test_every_setting_is_shown_unset_ones_too(tmp_path: Path) -> None:
    words = ("config", "show", "--json")
    shown = command(tmp_path, *words, WATCHSTEP_RETENTION__SIZE_BYTES="5")
    settings = json.loads(shown.stdout)

    assert settings["retention.size_bytes"] == {"value": 5, "origin": "environment"}
    assert settings["retention.updates_s"] == {"value": None, "origin": "default"}


def test_a_receiver_that_takes_no_connection_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        settings = {
            "WATCHSTEP_NOTIFY__ALLOW_PRIVATE_CIDRS": "127.0.0.0/8",
            "WATCHSTEP_RECEIVERS__UP__KIND": "webhook",
            "WATCHSTEP_RECEIVERS__UP__URL": f"http://127.0.0.1:{port}/secret-part",
            "WATCHSTEP_RECEIVERS__DOWN__KIND": "webhook",
            "WATCHSTEP_RECEIVERS__DOWN__URL": "http://127.0.0.1:1/secret-part",
        }
        code, checks = doctor(tmp_path, **settings)

    assert code == 1
    assert checks["receiver up"][1].startswith("webhook, takes connections")
    assert checks["receiver down"] == (False, "cannot be connected to: connection refused")


def test_a_database_that_is_damaged_under_the_running_service_is_noticed(tmp_path: Path) -> None:
    with bench(tmp_path) as at:
        for seq in range(1, 200):
            at.send(grad(seq, 50.0 if seq % 2 else 1.0))
        store = at.opened.store
        store.check_structure()
        before = store.ready()
        with sqlite3.connect(tmp_path / "data" / "watchstep.db") as raw:
            raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        raw.close()
        with (tmp_path / "data" / "watchstep.db").open("r+b") as file:
            for page in range(2, 40):
                file.seek(page * 4_096)
                file.write(b"\xa5" * 4_096)
        store.check_structure()
        damaged = store.ready()

    assert before is None
    assert damaged is not None
    assert "damaged" in damaged


def test_a_database_that_was_cut_is_noticed_at_the_next_use(tmp_path: Path) -> None:
    with bench(tmp_path) as at:
        at.send(grad(1, 50.0))
        with sqlite3.connect(tmp_path / "data" / "watchstep.db") as raw:
            raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        raw.close()
        assert at.opened.store.run("a") is not None
        os.truncate(tmp_path / "data" / "watchstep.db", 8_192)

        with pytest.raises(StorageTroubleError, match="was cut from"):
            at.opened.store.run("a")
