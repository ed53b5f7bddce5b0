"""`watchstep doctor` and its neighbours: what they find, and that they change nothing."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path

from service.http_kit import environment, served


def doctor(folder: Path, *words: str, **settings: str) -> tuple[int, dict[str, tuple[bool, str]]]:
    done = subprocess.run(
        [sys.executable, "-m", "watchstep", "doctor", "--json", *words],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment(**{"WATCHSTEP_PORT": "1", **settings}),
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    told = json.loads(done.stdout)
    assert told["ok"] is (done.returncode == 0)
    return done.returncode, {one["check"]: (one["ok"], one["says"]) for one in told["checks"]}


def test_an_empty_folder_is_fine_and_stays_empty(tmp_path: Path) -> None:
    code, found = doctor(tmp_path)

    assert code == 0
    assert "none yet" in found["store"][1]
    assert list(tmp_path.iterdir()) == []


def test_a_running_service_is_found_ready_and_its_store_in_use(tmp_path: Path) -> None:
    with served(tmp_path) as running:
        code, found = doctor(
            tmp_path, "--data-dir", "data", WATCHSTEP_PORT=str(running.client.port)
        )

    assert code == 0
    assert "in use by a running service" in found["store"][1]
    assert found["service"][1].startswith("ready at http://127.0.0.1:")


def test_everything_that_is_wrong_is_found_at_once(tmp_path: Path) -> None:
    with served(tmp_path):
        pass
    with sqlite3.connect(tmp_path / "data" / "watchstep.db") as raw:
        raw.execute("UPDATE alembic_version SET version_num = '9999'")
    raw.close()

    code, found = doctor(
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
    assert {name for name, (good, _) in found.items() if not good} == {
        "rules",
        "tokens",
        "store",
        "receiver ops",
        "receiver lost",
    }
    assert "newer" in found["store"][1]
    assert "private" in found["receiver ops"][1]
    assert "secret-part" not in str(found)


def test_a_damaged_store_is_found(tmp_path: Path) -> None:
    with served(tmp_path) as running:
        # A clean end brings everything from the log into the file.
        assert running.stop() == 0
    path = tmp_path / "data" / "watchstep.db"
    with path.open("r+b") as file:
        file.seek(path.stat().st_size - 4_096)
        file.write(b"\xa5" * 4_096)

    code, found = doctor(tmp_path, "--data-dir", "data")

    assert code == 1
    assert "damaged" in found["store"][1]


def test_every_setting_is_shown_unset_ones_too(tmp_path: Path) -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "watchstep", "config", "show", "--json"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment(WATCHSTEP_RETENTION__SIZE_BYTES="5"),
        timeout=60,
        check=True,
    )
    told = json.loads(shown.stdout)

    assert told["retention.size_bytes"] == {"value": 5, "origin": "environment"}
    assert told["retention.updates_s"] == {"value": None, "origin": "default"}
