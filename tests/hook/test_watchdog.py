"""A loop that hangs says where, and one that works does not."""

from __future__ import annotations

import hashlib
import json
import os
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from watchstep.hook import progress, stacks, watchdog


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Late after half a second."""
    monkeypatch.setattr(progress, "LEAST_S", 0.5)
    monkeypatch.setattr(progress, "MEDIANS", 1.0)
    monkeypatch.setattr(progress, "LONGEST", 1.0)
    monkeypatch.setattr(watchdog, "_LOOK_S", 0.05)
    monkeypatch.setattr(stacks, "_APART_S", 0.02)


class Trainer:
    """Twenty updates in a thread of its own, and then what hangs."""

    def __init__(self, watch: Any, hang: Callable[[threading.Event], None]) -> None:
        self.go_on = threading.Event()
        self.told: queue.Queue[dict[str, Any]] = queue.Queue()
        self.watch = watch
        put = watch._stream.outbound.put

        def listening(update: Any) -> None:
            put(update)
            if update.event is not None and update.event["kind"] == "hung":
                self.told.put(dict(update.event))

        watch._stream.outbound.put = listening
        self.thread = threading.Thread(target=self.train, args=(hang,), name="trainer")
        self.thread.start()

    def train(self, hang: Callable[[threading.Event], None]) -> None:
        for step in range(20):
            self.watch.log({"train/loss": 1.0}, step=step)
            time.sleep(0.01)
        hang(self.go_on)
        self.watch.log({"train/loss": 1.0}, step=20)

    def end(self) -> None:
        self.go_on.set()
        self.thread.join(30)
        assert not self.thread.is_alive()


def waits_for_a_lock(go_on: threading.Event) -> None:
    go_on.wait()


def polls_a_queue(go_on: threading.Event) -> None:
    empty: queue.Queue[None] = queue.Queue()
    while not go_on.is_set():
        try:
            empty.get(timeout=5.0 if go_on.is_set() else 0.5)
        except queue.Empty:
            continue


def reads_a_pipe(go_on: threading.Event) -> None:
    reader, writer = os.pipe()
    threading.Thread(target=lambda: (go_on.wait(), os.close(writer))).start()
    os.read(reader, 1)
    os.close(reader)


def works(go_on: threading.Event) -> None:
    while not go_on.is_set():
        json.loads(json.dumps([[str(n) for n in range(20)] for _ in range(20)]))


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("hang", [waits_for_a_lock, reads_a_pipe, polls_a_queue])
def test_a_loop_that_hangs_says_where_every_thread_stands(
    hang: Callable[[threading.Event], None], make: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = Trainer(make(), hang)

    event = trainer.told.get(timeout=60)
    trainer.end()

    assert (event["severity"], event["moving"], event["phase"]) == ("warning", False, "")
    assert event["since_s"] >= 0.4
    assert event["stacks"].startswith("thread trainer:")
    assert hang.__name__ in event["stacks"]
    assert "MainThread" in event["stacks"]
    assert "watchstep-" not in event["stacks"]
    assert len(event["stacks"]) <= stacks.STACKS_BYTES
    line = capsys.readouterr().err.splitlines()[0]
    assert "watchstep: warning at step" in line
    assert "the training stands still at" in line
    assert line.endswith(hang.__name__)
    assert event["own_line"].endswith(hang.__name__)


@pytest.mark.usefixtures("quick")
def test_a_usual_update_that_stands_after_long_work_is_no_hang(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stacks, "_APART_S", 0.004)

    def works_then_stands(go_on: threading.Event) -> None:
        end = time.monotonic() + 0.9
        while time.monotonic() < end:
            time.sleep(0.006)
            time.sleep(0.005)
            time.sleep(0.007)
        time.sleep(0.2)

    trainer = Trainer(make(), works_then_stands)
    trainer.thread.join(60)

    assert not trainer.thread.is_alive()
    assert trainer.told.empty()


@pytest.mark.usefixtures("quick")
def test_a_hang_inside_log_is_told_too(make: Any) -> None:
    class Reading:
        def __init__(self, go_on: threading.Event) -> None:
            self.go_on = go_on

        def __float__(self) -> float:
            self.go_on.wait()
            return 2.0

    watch = make()

    def logs_what_hangs(go_on: threading.Event) -> None:
        watch.log({"train/loss": Reading(go_on)}, step=20)

    trainer = Trainer(watch, logs_what_hangs)
    event = trainer.told.get(timeout=60)
    trainer.end()
    watch.log({"train/loss": 1.0}, step=22)

    assert (event["severity"], event["moving"]) == ("warning", False)
    assert "Reading.__float__" in event["own_line"]
    assert watch.errors == {}
    assert watch._stream.seq >= 24


@pytest.mark.usefixtures("quick")
def test_a_hang_becomes_critical_and_is_told_once_each(make: Any) -> None:
    trainer = Trainer(make(), waits_for_a_lock)

    severities = [trainer.told.get(timeout=60)["severity"] for _ in range(2)]
    trainer.end()

    assert severities == ["warning", "critical"]
    assert trainer.told.empty()


def work_in_one_kernel(go_on: threading.Event) -> None:
    def kernel() -> None:
        time.sleep(0.01)

    while not go_on.is_set():
        kernel()
        kernel()
        kernel()
        kernel()


def works_and_waits(go_on: threading.Event) -> None:
    piece = bytes(4 << 20)
    while not go_on.is_set():
        hashlib.sha256(piece)
        time.sleep(0.004)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("work", [works, work_in_one_kernel, works_and_waits])
def test_slow_work_is_told_only_after_five_times_as_long(
    work: Callable[[threading.Event], None], make: Any
) -> None:
    trainer = Trainer(make(), work)

    event = trainer.told.get(timeout=60)
    trainer.end()

    assert (event["severity"], event["moving"]) == ("warning", True)
    assert event["since_s"] >= 2.4


@pytest.mark.usefixtures("quick")
def test_a_marked_phase_has_time_and_is_named_when_it_hangs(make: Any) -> None:
    watch = make(first_update_s=1.5)

    def evaluates(go_on: threading.Event) -> None:
        with watch.pause("evaluating"):
            go_on.wait()

    trainer = Trainer(watch, evaluates)
    event = trainer.told.get(timeout=60)
    trainer.end()

    assert event["phase"] == "evaluating"
    assert event["since_s"] >= 1.4


@pytest.mark.usefixtures("quick")
def test_a_hang_after_a_hang_is_told_again(make: Any) -> None:
    watch = make()
    first = threading.Event()

    def hangs_twice(go_on: threading.Event) -> None:
        first.wait()
        watch.log({"train/loss": 1.0})
        go_on.wait()

    trainer = Trainer(watch, hangs_twice)
    trainer.told.get(timeout=60)
    first.set()
    again = trainer.told.get(timeout=60)
    while again["severity"] != "warning":
        again = trainer.told.get(timeout=60)
    trainer.end()

    assert "go_on.wait" in again["stacks"] or "hangs_twice" in again["stacks"]


def test_a_pause_of_a_disabled_watch_is_nothing(make: Any) -> None:
    before = threading.active_count()

    with make(mode="disabled").pause("evaluating"):
        during = threading.active_count()

    assert during <= before
