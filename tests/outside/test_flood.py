"""Output that comes faster than it can be read: what is read of it, and what is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from watchstep.hook.options import Options
from watchstep.outside import observer
from watchstep.outside.observer import Observer, Watching

LINE = b"INFO worker 3 fetched shard 1234\n"


def test_what_cannot_be_read_is_left_out_by_whole_lines_and_the_end_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observer, "_MOST_WAITING_BYTES", 10 * len(LINE))
    watched = Observer(watching(tmp_path), print)

    for chunk in (LINE * 10, b"step 1: loss 0.5\nstep 2: loss 0.2", b"5\n" + LINE, b"the last"):
        watched.heard(chunk, 1)
    read = [data for data, _ in watched._taken(0.0)]
    watched.heard(b" line\nstep 3: loss 0.1\n", 1)
    read += [data for data, _ in watched._taken(0.0)]

    assert b"".join(read) == LINE * 10 + b"step 1: loss 0.5\n" + b"step 3: loss 0.1\n"
    assert watched.last_lines.texts()[-2:] == ["the last line", "step 3: loss 0.1"]


def test_what_waits_when_the_command_ends_is_read_for_a_limited_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(observer, "_LAST_READ_S", -1.0)
    watched = Observer(watching(tmp_path), print)
    for _ in range(20):
        watched.heard(LINE * 1_000, 1)

    watched.start()
    watched.finish()

    assert "bytes of output came too fast to be read" in capsys.readouterr().err


def watching(folder: Path) -> Watching:
    return Watching(Options(run="r", directory=folder), (), 600.0)
