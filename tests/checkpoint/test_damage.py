"""Whatever is done to a file, it is found; whenever a save is killed, the last one is there."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from watchstep.checkpoint import Checkpoint, CheckpointKeeper, verify
from watchstep.checkpoint.record import manifest_path
from watchstep.errors import CheckpointError

PAGE = 4096


@pytest.fixture
def saved(tmp_path: Path) -> Checkpoint:
    torch.manual_seed(0)
    model = torch.nn.Linear(64, 64)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 64)).sum().backward()
    optimizer.step()
    state = {"model": model, "optimizer": optimizer}
    checkpoint = CheckpointKeeper(tmp_path).save(state, step=1)
    assert checkpoint is not None
    verify(checkpoint.path)
    return checkpoint


def is_found(path: Path) -> bool:
    try:
        verify(path)
    except CheckpointError:
        return True
    return False


@pytest.mark.parametrize("part", ["file", "manifest"])
def test_every_flipped_bit_is_found(saved: Checkpoint, part: str) -> None:
    path = saved.path if part == "file" else manifest_path(saved.path)
    body = path.read_bytes()
    places = random.Random(1).sample(range(len(body) * 8), 300)

    missed = []
    for place in places:
        spoilt = bytearray(body)
        spoilt[place // 8] ^= 1 << place % 8
        path.write_bytes(spoilt)
        if not is_found(saved.path):
            missed.append(place)

    assert missed == []


@pytest.mark.parametrize("part", ["file", "manifest"])
def test_every_truncation_is_found(saved: Checkpoint, part: str) -> None:
    path = saved.path if part == "file" else manifest_path(saved.path)
    body = path.read_bytes()

    for length in [0, 1, len(body) - 1, *random.Random(2).sample(range(len(body)), 80)]:
        path.write_bytes(body[:length])

        assert is_found(saved.path), length


def test_every_zeroed_page_is_found(saved: Checkpoint) -> None:
    body = saved.path.read_bytes()

    for start in range(0, len(body), PAGE):
        page = body[start : start + PAGE]
        if page.count(0) == len(page):
            continue
        saved.path.write_bytes(body[:start] + bytes(len(page)) + body[start + PAGE :])

        assert is_found(saved.path), start


def test_appended_bytes_and_a_missing_file_are_found(saved: Checkpoint) -> None:
    body = saved.path.read_bytes()

    saved.path.write_bytes(body + b"\0")
    longer = is_found(saved.path)
    saved.path.unlink()

    assert longer
    with pytest.raises(CheckpointError, match="there is nothing"):
        verify(saved.path)


def test_a_manifest_of_another_file_is_found(saved: Checkpoint) -> None:
    other = saved.path.with_name("step-000000000009-00000000.pt")
    shutil.copy(saved.path, other)
    shutil.copy(manifest_path(saved.path), manifest_path(other))

    with pytest.raises(CheckpointError, match="describes"):
        verify(other)


def test_a_manifest_that_vouches_for_numbers_that_are_not_finite_is_not_believed(
    saved: Checkpoint,
) -> None:
    import dataclasses
    import hashlib

    from watchstep.checkpoint.record import manifest_bytes

    torch.save({"state": {"w": torch.tensor([float("nan")])}}, saved.path)
    body = saved.path.read_bytes()
    lying = dataclasses.replace(
        saved, size_bytes=len(body), sha256=hashlib.sha256(body).hexdigest()
    )
    manifest_path(saved.path).write_bytes(manifest_bytes(lying))

    with pytest.raises(CheckpointError, match="w is not finite"):
        verify(saved.path)


def test_a_killed_save_never_costs_the_last_one_that_returned() -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "checkpoint_kills.py"

    ended = subprocess.run(
        [sys.executable, str(script), "--kills", "20"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    outcome = json.loads(ended.stdout)
    assert (outcome["kills"], outcome["failures"], outcome["litter"]) == (20, [], [])
    assert outcome["killed_with_a_file_unfinished"] > 0
    assert ended.returncode == 0


def test_the_manifest_is_readable_by_people(saved: Checkpoint) -> None:
    fields = json.loads(manifest_path(saved.path).read_text())

    assert fields["step"] == 1
    assert fields["sha256"] == saved.sha256
    assert fields["finite"] is True
