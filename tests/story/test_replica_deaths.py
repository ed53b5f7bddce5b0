"""Three replicas behind nginx, of which one or another is always dying, stopped or coming back."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from service.http_kit import Client, until
from service.kit import postgres_database
from story.postgres_kit import inbox
from story.replica_kit import (
    LENGTH,
    Replica,
    Trainer,
    nginx,
    progress,
    standing,
    tally,
    to_any,
    training,
)

pytestmark = pytest.mark.long

DEATHS = round(3 * LENGTH)
RUNS = 6


def test_replicas_that_are_killed_and_stopped_at_random_cost_nothing_behind_nginx(
    tmp_path: Path,
) -> None:
    chance = random.Random(8)
    with postgres_database() as url, inbox() as received:
        places = [Replica(tmp_path / f"r{at}", url, **received.settings()) for at in range(3)]
        with standing(places), nginx(tmp_path / "nginx", [place.port for place in places]) as port:
            trainers = [
                Trainer(f"run-{at}", to_any([Client(port)], at), 0.04) for at in range(RUNS)
            ]
            with training(trainers):
                progress(trainers, 100)
                for _ in range(DEATHS):
                    _kill_one_and_stop_another(chance, places, trainers)
                progress(trainers, 100)
            totals = tally(Client(port), trainers, received)

    assert [trainer.problems for trainer in trainers] == [[]] * RUNS
    assert totals.acknowledged >= RUNS * 1_200
    assert totals.edges >= RUNS * 3
    assert totals.clean(), totals
    assert max(trainer.longest_wait_s for trainer in trainers) < 5.0
    assert sum(trainer.without_retry_after for trainer in trainers) == 0


def test_when_no_replica_is_left_nginx_asks_trainers_to_come_back(tmp_path: Path) -> None:
    with postgres_database() as url:
        place = Replica(tmp_path / "r", url)
        with standing([place]), nginx(tmp_path / "nginx", [place.port]) as port:
            trainer = Trainer("a", to_any([Client(port)], 0))
            with training([trainer]):
                progress([trainer], 100)
                place.kill()
                until(lambda: trainer.refusals[503] > 3)
                place.start()
                progress([trainer], 100)
            totals = tally(Client(port), [trainer])

    assert trainer.without_retry_after == 0
    assert trainer.unanswered == 0
    assert totals.clean(), totals


def _kill_one_and_stop_another(
    chance: random.Random, places: list[Replica], trainers: list[Trainer]
) -> None:
    """Each for a while, so that at the worst moment one of three is left."""
    dies, stops, _ = chance.sample(places, 3)
    dies.kill()
    # Sleeps are the story's own course here; nothing is waited for.
    time.sleep(chance.uniform(0.0, 0.5))
    stops.pause()
    time.sleep(chance.uniform(0.2, 3.0))
    stops.resume()
    dies.start()
    progress(trainers, 50)
