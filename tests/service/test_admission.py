"""Who is let in while more batches come than can be committed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from service.kit import Bench, bench, grad
from watchstep_monitor.service.desk import CROWD, LONGEST_QUEUE_S
from watchstep_monitor.service.errors import OverCapError
from watchstep_monitor.service.ingest import Batch


@dataclass
class Queue:
    """A desk whose store commits when it is told to."""

    at: Bench
    waiting: list[Future[None]] = field(default_factory=list)

    def send(self) -> None:
        self.at.desk.accept(Batch("a", 1, [(0, grad(1, 1.0))]))

    def commit(self) -> None:
        self.waiting.pop(0).set_result(None)


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Queue]:
    with bench(tmp_path) as at:
        made = Queue(at)

        def write(run: str, job: Callable[..., object], updates: int = 0) -> Future[None]:
            made.waiting.append(Future())
            return made.waiting[-1]

        monkeypatch.setattr(at.opened.store, "write", write)
        yield made


def test_a_crowd_that_waits_too_long_grows_no_further_and_is_told_when_to_come_back(
    queue: Queue,
) -> None:
    for _ in range(CROWD + 2):
        queue.send()
    queue.at.clock.move(LONGEST_QUEUE_S + 1)
    queue.commit()

    with pytest.raises(OverCapError) as refusal:
        queue.send()

    assert refusal.value.retry_after_s == 1 + 2 * (LONGEST_QUEUE_S + 1)
    assert len(queue.waiting) == CROWD + 1


def test_it_is_let_in_again_when_the_crowd_has_gone(queue: Queue) -> None:
    for _ in range(CROWD + 2):
        queue.send()
    queue.at.clock.move(LONGEST_QUEUE_S + 1)
    queue.commit()
    queue.commit()

    queue.send()

    assert len(queue.waiting) == CROWD + 1


def test_a_few_are_never_turned_away_however_slow_the_disk_is(queue: Queue) -> None:
    for _ in range(CROWD):
        queue.send()
    queue.at.clock.move(60)
    queue.commit()

    queue.send()

    assert len(queue.waiting) == CROWD


def test_a_crowd_that_is_served_in_time_is_let_in(queue: Queue) -> None:
    for _ in range(3 * CROWD):
        queue.send()
    queue.at.clock.move(LONGEST_QUEUE_S / 2)
    queue.commit()

    queue.send()

    assert len(queue.waiting) == 3 * CROWD
