"""What every test of the hook starts from: no settings of the machine, and watches that end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import watchstep
from watchstep import Watch


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("WATCHSTEP_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Any]:
    made: list[Watch] = []

    def make_watch(**given: Any) -> Watch:
        given.setdefault("run", "test")
        given.setdefault("directory", tmp_path / "spool")
        watch = watchstep.init(**given)
        made.append(watch)
        return watch

    yield make_watch
    for watch in made:
        watch.finish()
