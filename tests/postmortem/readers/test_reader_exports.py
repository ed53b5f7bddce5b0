"""Exported histories: W&B's Parquet, and MLflow's database as MLflow itself writes it."""

from __future__ import annotations

import math
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from watchstep.errors import LogUnreadableError
from watchstep.postmortem.readers import open_logs


def exported(path: Path, **columns: list[Any]) -> Path:
    pyarrow = pytest.importorskip("pyarrow", reason="needs pyarrow")
    from pyarrow import parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.table(columns), path)
    return path


HISTORY: dict[str, list[Any]] = {
    "_step": list(range(40)),
    "_timestamp": [1_700_000_000.0 + step for step in range(40)],
    "train/loss": [math.nan if step >= 30 else 2.0 - step / 100 for step in range(40)],
    "eval/loss": [1.0 if step % 10 == 0 else None for step in range(40)],
    "note": ["text"] * 40,
}


def test_a_history_in_parquet_is_read_by_its_own_steps_and_times(tmp_path: Path) -> None:
    path = exported(tmp_path / "history.parquet", **HISTORY)

    (log,) = open_logs([path])
    updates = list(log.updates)

    assert (log.format, log.unit, len(updates)) == ("parquet", "step", 40)
    assert updates[7].readings == {"train/loss": 1.93}
    assert updates[10].readings == {"train/loss": 1.9, "eval/loss": 1.0}
    assert (updates[7].step, updates[7].time) == (7, 1_700_000_007.0)
    assert math.isnan(updates[39].readings["train/loss"])


def test_a_folder_of_histories_is_read_run_by_run_and_other_tables_are_passed_over(
    tmp_path: Path,
) -> None:
    exported(tmp_path / "runs" / "run-a-history" / "0000.parquet", **HISTORY)
    exported(tmp_path / "runs" / "run-b-history" / "0000.parquet", **HISTORY)
    exported(tmp_path / "runs" / "corpus" / "0000.parquet", text=["a", "b"], length=[1, 1])

    logs = list(open_logs([tmp_path / "runs"]))

    assert [log.run for log in logs] == ["run-a-history", "run-b-history"]


def test_a_damaged_table_says_so(tmp_path: Path) -> None:
    path = exported(tmp_path / "history.parquet", **HISTORY)
    path.write_bytes(path.read_bytes()[:500])

    with pytest.raises(LogUnreadableError, match="reading the table stopped"):
        list(open_logs([path]))


def test_runs_in_mlflows_database_are_read_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mlflow.db"
    with sqlite3.connect(path) as made:
        made.executescript(
            """
            CREATE TABLE experiments (experiment_id INTEGER, name TEXT);
            CREATE TABLE runs (run_uuid TEXT, name TEXT, lifecycle_stage TEXT, start_time INTEGER);
            CREATE TABLE metrics (key TEXT, value REAL, timestamp INTEGER, run_uuid TEXT,
                step INTEGER, is_nan BOOLEAN);
            INSERT INTO runs VALUES ('b2', 'second', 'active', 2), ('a1', 'first', 'active', 1),
                ('c3', 'gone', 'deleted', 3);
            """
        )
        for run in ("a1", "b2", "c3"):
            for step in range(5):
                point = (run, step, 1_700_000_000_000 + 1000 * step)
                rows = [("loss", 2.0 - step / 10, 0), ("val/loss", 0.0, step == 4)]
                made.executemany(
                    "INSERT INTO metrics VALUES (?, ?, ?, ?, ?, ?)",
                    [(key, value, point[2], run, step, is_nan) for key, value, is_nan in rows],
                )
        made.execute(
            "UPDATE metrics SET value = -1.7976931348623157e308 WHERE step = 3 AND key = 'loss'"
        )
    made.close()

    logs = {log.run: list(log.updates) for log in open_logs([tmp_path])}

    assert list(logs) == ["first", "second"]
    updates = logs["first"]
    assert [(update.step, update.time) for update in updates] == [
        (step, 1_700_000_000.0 + step) for step in range(5)
    ]
    assert updates[3].readings["loss"] == -math.inf
    assert math.isnan(updates[4].readings["val/loss"])
