"""Folders of runs: what belongs together, what is read, and what is never opened."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import sqlite3
from pathlib import Path

import pytest

from postmortem.kit_postmortem import open_log
from service.kit import bench, update
from watchstep.core.updates import Update
from watchstep.postmortem.readers import NothingReadableError, open_logs
from watchstep.wire.packed import HEADER, Packer, frame
from watchstep.wire.text import to_json

LOGS = Path(__file__).parents[1] / "logs"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def rows(*losses: float) -> str:
    return "".join(
        json.dumps({"step": step, "loss": loss}) + "\n" for step, loss in enumerate(losses, 1)
    )


def state(steps: int) -> str:
    history = [{"step": step, "loss": 1.0} for step in range(1, steps + 1)]
    return json.dumps({"log_history": history}, indent=1)


def test_a_folder_of_runs_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    for name in ("b", "a", "c/deep"):
        write(tmp_path / name / "progress.csv", "step,loss\n1,2\n")

    runs = [log.run for log in open_logs([tmp_path])]

    assert runs == ["a", "b", "deep"]


def test_a_truth_beside_a_log_is_not_even_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "truth.json", json.dumps([{"loss": 1}, {"loss": 2}]))
    write(tmp_path / "updates.jsonl", rows(1, 2))
    opened: list[str] = []
    real_open = Path.open
    monkeypatch.setattr(
        Path,
        "open",
        lambda self, *rest, **more: opened.append(self.name) or real_open(self, *rest, **more),
    )

    (log,) = open_logs([tmp_path])

    assert len(list(log.updates)) == 2
    assert "updates.jsonl" in opened
    assert "truth.json" not in opened


def test_the_richest_format_of_a_run_is_read_and_the_others_named(tmp_path: Path) -> None:
    shutil.copytree(LOGS / "noeps_constreward", tmp_path / "run")
    formats = []

    for _ in range(3):
        (log,) = open_logs([tmp_path])
        formats.append((log.format, len([note for note in log.notes if "not read" in note])))
        log.files[0].unlink()

    assert formats == [("jsonl", 1), ("tensorboard", 1), ("sb3_csv", 0)]


def test_several_logs_of_one_format_are_a_run_each(tmp_path: Path) -> None:
    write(tmp_path / "fleet" / "seed0.jsonl", rows(1))
    write(tmp_path / "fleet" / "seed1.jsonl", rows(1, 2))

    lengths = {log.run: len(list(log.updates)) for log in open_logs([tmp_path])}

    assert lengths == {"fleet/seed0.jsonl": 1, "fleet/seed1.jsonl": 2}


def test_of_checkpoints_beside_each_other_only_the_last_state_is_a_run(tmp_path: Path) -> None:
    for step in (5, 10, 100):
        write(tmp_path / "out" / f"checkpoint-{step}" / "trainer_state.json", state(step))

    (log,) = open_logs([tmp_path])

    assert log.run == "out"
    assert len(list(log.updates)) == 100


def test_a_state_above_its_checkpoints_stands_for_them(tmp_path: Path) -> None:
    write(tmp_path / "out" / "checkpoint-5" / "trainer_state.json", state(5))
    write(tmp_path / "out" / "trainer_state.json", state(7))

    (log,) = open_logs([tmp_path])

    assert len(list(log.updates)) == 7


def test_what_is_no_training_log_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path / "run" / "updates.jsonl", rows(1))
    write(
        tmp_path / "run" / "vocabulary.jsonl", '{"token": "a", "id": 1}\n{"token": "b", "id": 2}\n'
    )
    write(tmp_path / "run" / "people.csv", "name,age\nx,3\ny,4\n")
    write(tmp_path / "run" / "notes.txt", "remember to set seed=3 and width=4\n")
    write(tmp_path / "run" / "weights.pt", "step=1 loss=2\n")
    write(tmp_path / ".hidden" / "updates.jsonl", rows(1))

    logs = [(log.run, log.notes) for log in open_logs([tmp_path])]

    assert logs == [("run", [])]


def test_an_unreadable_file_in_a_fleet_is_reported_and_the_rest_read(tmp_path: Path) -> None:
    write(tmp_path / "a" / "updates.jsonl", rows(1))
    write(tmp_path / "b" / "log.gz", "")
    (tmp_path / "b" / "log.gz").write_bytes(b"\x1f\x8b\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")
    bad: list[str] = []

    runs = [
        log.run for log in open_logs([tmp_path], unreadable=lambda path, _: bad.append(path.name))
    ]

    assert runs == ["a"]
    assert bad == ["log.gz"]


def test_a_spool_folder_is_one_run_with_the_hooks_own_numbers(tmp_path: Path) -> None:
    packer = Packer()
    header = frame(HEADER, to_json({"run": "ppo-7", "project": "", "tags": {"env": "x"}}))
    names, segments = header, [header, header]
    for seq in range(1, 7):
        event = {"kind": "failed", "error": "x"} if seq == 6 else None
        packed, table = packer.pack(Update(seq, seq * 10, 1e9, {"loss": float("nan")}, event))
        names += table
        segments[seq > 3] += table + packed
    folder = tmp_path / "0001764000000-session"
    folder.mkdir()
    (folder / "names").write_bytes(names)
    (folder / "lock").touch()
    for number, segment in enumerate(segments):
        (folder / f"{number:06d}.seg").write_bytes(segment[: -1 if number == 1 else None])

    (log,) = open_logs([tmp_path])
    updates = list(log.updates)

    assert (log.run, log.tags, log.format) == ("ppo-7", {"env": "x"}, "watchstep_spool")
    assert [(update.seq, update.step) for update in updates] == [(n, n * 10) for n in range(1, 6)]


def test_a_file_that_names_nothing_is_named_after_its_folder(tmp_path: Path) -> None:
    write(tmp_path / "ppo-7" / "progress.csv", "step,loss\n1,2\n")
    write(tmp_path / "ppo-7" / "pendulum.csv", "step,loss\n1,2\n")

    assert open_log(tmp_path / "ppo-7" / "progress.csv").run == "ppo-7"
    assert open_log(tmp_path / "ppo-7" / "pendulum.csv").run == "pendulum"


def test_a_fleet_is_opened_run_by_run(tmp_path: Path) -> None:
    for number in range(300):
        write(tmp_path / f"{number:03d}" / "updates.jsonl", rows(1, 2))

    logs = open_logs([tmp_path])
    first = next(logs)
    shutil.rmtree(tmp_path / "299")

    assert first.run == "000"
    assert sum(1 for _ in logs) == 298


def test_the_services_own_database_gives_a_log_for_each_run(tmp_path: Path) -> None:
    with bench(tmp_path) as stored:
        for run in ("first", "second"):
            early = [update(seq, train__loss=1.0 / seq, kl=0.5) for seq in (1, 2)]
            stored.send(*early, update(3, train__loss=math.nan), run=run)
            stored.send(update(1, train__loss=2.0, attempt=2), run=run, attempt=2)
            died = {"kind": "failed", "error": "x"}
            stored.send(update(2, event=died, attempt=2), run=run, attempt=2)

    logs = list(open_logs([tmp_path / "data" / "watchstep.db"]))
    updates = list(logs[1].updates)

    assert [(log.run, log.format) for log in logs] == [
        (run, "watchstep_database") for run in ("first", "second")
    ]
    places = [(update.attempt, update.seq, update.step) for update in updates]
    assert places == [(1, 1, 10), (1, 2, 20), (1, 3, 30), (2, 1, 10), (2, 2, 20)]
    assert updates[1].readings == {"train/loss": 0.5, "kl": 0.5}
    assert math.isnan(updates[2].readings["train/loss"])
    assert updates[4].event == {"kind": "failed", "error": "x"}


def test_another_programs_database_is_no_log(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "other.db")) as database:
        database.execute("PRAGMA application_id = 7")
        database.execute("CREATE TABLE runs (run_key, run, tags, created_us)")

    with pytest.raises(NothingReadableError, match="without any run of ours"):
        open_log(tmp_path / "other.db")


def test_what_is_written_beside_a_checkpoint_is_no_log(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", rows(2.0, 1.5, 1.2))
    write(tmp_path / "ckpt" / "step-3.pt.json", json.dumps({"step": 3, "update": 3, "bytes": 99.0}))
    write(tmp_path / "ckpt" / "step-3.safetensors.json", json.dumps({"step": 3, "loss": 1.2}))

    logs = list(open_logs([tmp_path]))

    assert [log.path.name for log in logs] == ["train.jsonl"]
