"""Small files that claim to be large: each costs what its size explains, and gets a plain word."""

from __future__ import annotations

import math
import pickle
import resource
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from watchstep.checkpoint import CheckpointKeeper, untrusted, verify
from watchstep.checkpoint.untrusted import bounded
from watchstep.errors import CheckpointError


def saved(path: Path, state: Any) -> Path:
    torch.save(state, path)
    return path


def laughing() -> Any:
    lists: list[Any] = [torch.ones(1)]
    for _ in range(60):
        lists = [lists, lists]
    return lists


def holding_itself() -> Any:
    mapping: dict[str, Any] = {"w": torch.ones(1)}
    mapping["again"] = mapping
    return mapping


def deep() -> Any:
    nested: Any = torch.ones(1)
    for _ in range(400):
        nested = [nested]
    return nested


def one_storage_in_many_views() -> Any:
    numbers = torch.ones(1 << 20)
    return [numbers[:-at] for at in range(1, 400)]


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "a NaN repeated": (lambda: {"w": torch.tensor([math.nan]).expand(10**10)}, "w is not finite"),
    "windows": (lambda: torch.full((9,), math.nan).as_strided((10**6, 10**6), (0, 0)), "finite"),
    "deep": (deep, "nested deeper than"),
    "many views": (one_storage_in_many_views, "its tensors claim 1,673,"),
}
TAKEN: dict[str, Callable[[], Any]] = {
    "a number repeated": lambda: {"w": torch.zeros(1).expand(10**12)},
    "repeated on two axes": lambda: torch.ones(3, 1, 1).expand(3, 10**6, 10**6),
    "laughing": laughing,
    "holding itself": holding_itself,
    "tied": lambda: [torch.ones(1 << 20).t()] * 900,
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_claims_more_than_it_holds_is_refused_with_a_reason(kind: str, tmp_path: Path) -> None:
    make, reason = REFUSED[kind]

    with pytest.raises(CheckpointError, match=reason):
        verify(saved(tmp_path / "a.pt", make()))


@pytest.mark.parametrize("kind", TAKEN)
def test_what_only_repeats_itself_is_looked_at_once(kind: str, tmp_path: Path) -> None:
    assert verify(saved(tmp_path / "a.pt", TAKEN[kind]())).finite


def test_the_keeper_takes_a_state_that_repeats_itself(tmp_path: Path) -> None:
    keeper = CheckpointKeeper(tmp_path)

    checkpoint = keeper.save({"mask": {"m": torch.zeros(1).expand(10**10)}}, step=1)
    spoilt = keeper.save({"mask": {"m": torch.tensor([math.inf]).expand(10**10)}}, step=2)

    assert checkpoint is not None
    assert checkpoint.finite
    assert spoilt is not None
    assert not spoilt.finite


@pytest.mark.parametrize("name", ["model.zip", "model.pt"])
def test_a_zip_that_unpacks_a_thousandfold_is_not_unpacked(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    member = "policy.pth" if name.endswith(".zip") else "archive/data/0"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl" if name.endswith(".pt") else "data", b"")
        with archive.open(member, "w") as stream:
            for _ in range(24):
                stream.write(bytes(1 << 23))

    with pytest.raises(CheckpointError, match="claims 201,326,592 bytes unpacked"):
        verify(path)


def test_a_command_on_a_file_that_asks_for_memory_ends_with_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            "archive/data.pkl",
            b"\x80\x02cbuiltins\nbytearray\n" + pickle.dumps((10**12,), 2)[2:-1] + b"R.",
        )
        archive.writestr("archive/version", b"3")
        archive.writestr("archive/byteorder", b"little")

    done = subprocess.run(
        [sys.executable, "-m", "watchstep", "checkpoint", "verify", str(path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert str(path) in done.stderr
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 4 << 20


def test_a_block_over_its_time_ends_with_a_sentence_and_the_limits_are_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(untrusted, "SECONDS", 0.05)
    before = resource.getrlimit(resource.RLIMIT_DATA)

    def for_ever() -> None:
        with bounded(tmp_path):
            while True:
                pass

    with pytest.raises(CheckpointError, match="not done within 0 s"):
        for_ever()

    assert resource.getrlimit(resource.RLIMIT_DATA) == before
