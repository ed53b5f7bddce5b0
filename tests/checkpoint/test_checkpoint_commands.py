"""`watchstep checkpoint verify|list|restore`: exit 0 only for what can be trusted."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from watchstep.checkpoint import CheckpointKeeper, verify
from watchstep.checkpoint.commands import app


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    keeper = CheckpointKeeper(tmp_path / "ckpt")
    for step in (1, 2, 3):
        keeper.observe(healthy=True, update=step)
        keeper.save({"model": {"w": torch.full((8,), float(step))}}, step=step, update=step)
    return tmp_path / "ckpt"


def spoil(path: Path) -> None:
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)


def newest(directory: Path) -> Path:
    return CheckpointKeeper(directory).list()[0].path


def test_verify_names_the_pin_of_a_directory(folder: Path) -> None:
    answer = call("verify", folder, "--json")

    assert answer.exit_code == 0
    fields = json.loads(answer.stdout)
    assert (fields["ok"], fields["step"], fields["pinned"], fields["finite"]) == (
        True,
        2,
        True,
        True,
    )


def test_verify_of_one_file_reads_well(folder: Path) -> None:
    answer = call("verify", newest(folder))

    assert answer.exit_code == 0
    assert "intact, complete, finite (step 3" in answer.stdout


def test_verify_fails_for_anything_that_cannot_be_trusted(folder: Path, tmp_path: Path) -> None:
    torch.save({"w": torch.tensor(math.nan)}, tmp_path / "nan.pt")
    spoil(newest(folder))

    answers = [call("verify", path) for path in (folder, tmp_path / "nan.pt", tmp_path / "none")]

    assert [answer.exit_code for answer in answers] == [1, 1, 1]
    assert "sha256" in answers[0].stderr
    assert "w is not finite" in answers[1].stderr
    assert "there is nothing" in answers[2].stderr


def test_wrong_usage_is_told_from_a_bad_checkpoint() -> None:
    assert call("verify").exit_code == 2
    assert call("verify", "x", "--wrong").exit_code == 2


def test_list_shows_every_checkpoint_and_which_is_bad(folder: Path) -> None:
    before = call("list", folder, "--json")
    spoil(newest(folder))
    after = call("list", folder, "--json")
    table = call("list", folder)

    rows = json.loads(before.stdout)["checkpoints"]
    assert before.exit_code == 0
    assert [(row["step"], row["pinned"]) for row in rows] == [(3, False), (2, True), (1, False)]
    assert after.exit_code == table.exit_code == 1
    assert [bool(row["bad"]) for row in json.loads(after.stdout)["checkpoints"]] == [
        True, False, False,
    ]  # fmt: skip
    assert "BAD" in table.stdout


def test_list_of_something_else_fails(tmp_path: Path) -> None:
    assert call("list", tmp_path).exit_code == 1


def test_restore_copies_the_newest_good_one(folder: Path, tmp_path: Path) -> None:
    answer = call("restore", folder, "--to", tmp_path / "out", "--json")

    assert answer.exit_code == 0
    fields = json.loads(answer.stdout)
    assert fields["step"] == 2
    assert verify(fields["path"]).sha256 == fields["sha256"]
    assert call("restore", folder, "--to", tmp_path / "out").exit_code == 1


def test_restore_goes_past_a_bad_pin_and_changes_nothing(folder: Path) -> None:
    pin = CheckpointKeeper(folder).pinned
    assert pin is not None
    spoil(pin.path)
    before = sorted(folder.rglob("*"))

    answer = call("restore", folder, "--json")

    assert json.loads(answer.stdout)["step"] == 1
    assert sorted(folder.rglob("*")) == before


def test_restore_without_anything_good_fails(folder: Path) -> None:
    for checkpoint in CheckpointKeeper(folder).list():
        spoil(checkpoint.path)

    answer = call("restore", folder, "--json")

    assert answer.exit_code == 1
    assert "no good checkpoint" in json.loads(answer.stdout)["reason"]
