"""Each row of docs/endings.md, with real processes and the real service: half a minute."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from hook.endings import ENDINGS
from service.http_kit import Client, environment, served, until
from watchstep.checkpoint import CheckpointKeeper, verify

PAGE = Path(__file__).parents[2] / "docs" / "endings.md"
SCRIPT = Path(__file__).with_name("endings.py")


def rows() -> dict[str, list[str]]:
    """The table's cells, by the ending in the first of them."""
    lines = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]
    return {row[0]: row[1:] for row in cells}


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A folder, the exit codes, and what the service says of each run."""
    folder = tmp_path_factory.mktemp("endings")
    settings = {"WATCHSTEP_STALL__TIMEOUT_S": "1"}
    with served(folder / "service", "--rules", "generic", **settings) as running:
        client = running.client
        person = threading.Thread(target=halt_when_it_is_there, args=(client,), daemon=True)
        person.start()
        subprocess.run(
            [sys.executable, str(SCRIPT), f"http://127.0.0.1:{client.port}"],
            cwd=folder,
            env=environment(OMP_NUM_THREADS="1"),
            capture_output=True,
            text=True,
            timeout=240,
            check=True,
        )
        wanted = {name: rows()[label][1] for name, (label, _, _) in ENDINGS.items()}
        runs = {name: settled(client, name, status) for name, status in wanted.items()}
        last = {name: last_event(client, name) for name in ENDINGS}
    codes = json.loads((folder / "codes").read_text())
    return folder, codes, runs, last


def halt_when_it_is_there(client: Client) -> None:
    until(lambda: (client.get("/runs/commanded").json.get("step") or 0) > 6, 200)
    client.post("/runs/commanded/commands", {"kind": "halt", "reason": "seen enough"})


def settled(client: Client, run: str, status: str) -> Any:
    def told() -> Any:
        return client.get(f"/runs/{run}").json

    # Only silence takes its time to be noticed.
    if status == "lost":
        until(lambda: told()["status"] == "lost", 20)
    return told()


def last_event(client: Client, run: str) -> dict[str, Any]:
    timeline = client.get(f"/runs/{run}/timeline").json["items"]
    ends = ("finished", "failed", "halted", "preempted")
    events = [entry for entry in timeline if entry.get("event", {}).get("kind") in ends]
    return events[-1]["event"] if events else {}


def test_the_page_has_a_row_for_every_ending_and_no_other() -> None:
    assert list(rows()) == [label for label, _, _ in ENDINGS.values()]


@pytest.mark.parametrize("name", ENDINGS)
def test_a_run_ends_as_its_row_says(name: str, ended: Any) -> None:
    folder, codes, runs, last = ended
    code, status, event, pin = rows()[ENDINGS[name][0]]

    assert (codes[name], runs[name]["status"]) == (int(code), status)
    kind, _, text = event.partition(": ")
    assert last[name].get("kind", "none") == kind.strip("`")
    assert text in f"{last[name].get('rule')} {last[name].get('reason')} {last[name].get('error')}"
    pinned = CheckpointKeeper(folder / f"ckpt-{name}").pinned
    assert pinned is not None
    assert pinned.step >= 4
    assert verify(pinned.path).finite
    assert ("checkpoint" in last[name]) == (pin == "kept, and named")
