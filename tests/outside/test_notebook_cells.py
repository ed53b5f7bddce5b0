"""`%load_ext watchstep` in a real notebook: what a cell prints is watched; a halt ends the cell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hook.test_notebook import run_cells
from watchstep.postmortem.readers import open_logs

TRAIN = """
import math
for step in range(30):
    loss = math.nan if step >= POISONED else 2.0 / (step + 1)
    print(f"step {step}: loss {loss:.4f}")
print("trained")
"""
HEALTHY = TRAIN.replace("POISONED", "99")


@pytest.fixture(autouse=True)
def _spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHSTEP_MODE", "offline")
    monkeypatch.setenv("WATCHSTEP_DIR", str(tmp_path / "spool"))


def ends(folder: Path) -> list[str]:
    return [
        next(str(update.event["kind"]) for update in list(log.updates)[::-1] if update.event)
        for log in open_logs([folder / "spool"])
    ]


def errors(outputs: list[Any]) -> list[str]:
    return [each["ename"] for each in outputs if each["output_type"] == "error"]


def text(outputs: list[Any]) -> str:
    return "".join(each["text"] for each in outputs if each["output_type"] == "stream")


def test_a_cell_that_trains_is_watched_and_its_halt_ends_the_cell(tmp_path: Path) -> None:
    _, plain, _, halted, after = run_cells(
        "%load_ext watchstep",
        "print('no training')",
        "%watchstep run=cells on_critical=halt",
        TRAIN.replace("POISONED", "12"),
        HEALTHY,
    )

    assert (text(plain), errors(plain)) == ("no training\n", [])
    assert errors(halted) == ["TrainingHalted"]
    assert "trained" not in text(halted)
    assert (errors(after), text(after).endswith("trained\n")) == ([], True)
    assert sorted(ends(tmp_path)) == ["finished", "halted"]


def test_without_being_asked_for_nothing_is_halted_and_a_failure_is_told(tmp_path: Path) -> None:
    _, poisoned, failed = run_cells(
        "%load_ext watchstep", TRAIN.replace("POISONED", "12"), HEALTHY + "raise OSError('gone')"
    )

    assert text(poisoned).endswith("trained\n")
    assert errors(poisoned) == []
    assert errors(failed) == ["OSError"]
    assert sorted(ends(tmp_path)) == ["failed", "finished"]


def test_a_cell_that_watches_by_itself_speaks_for_itself(tmp_path: Path) -> None:
    hook = "import watchstep\nwatch = watchstep.init(run='own')\nwatch.log({'train/loss': 1.0})\n"

    *_, own = run_cells("%load_ext watchstep", hook + HEALTHY + "watch.finish()")

    assert errors(own) == []
    assert [log.run for log in open_logs([tmp_path / "spool"])] == ["own"]
