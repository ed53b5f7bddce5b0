"""Which data spoilt a step, and where a step's time goes."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest
import torch

from hook.kit_hook import updates_of


def test_the_ids_of_a_batch_ride_on_a_loss_that_is_not_finite_and_are_known_after_a_restart(
    make: Any,
) -> None:
    watch = make(mode="offline")
    updates = updates_of(watch)

    for step, loss in enumerate([1.0, math.nan, 1.0]):
        watch.batch([10 * step, 10 * step + 1])
        watch.log({"train/loss": loss}, step=step)
    watch.finish()
    again = make(mode="offline")

    events = [update.event or {} for update in updates]
    assert [event.get("batch") for event in events[:3]] == [None, ["10", "11"], None]
    assert [again.is_bad(number) for number in (1, 10, 11, 20)] == [False, True, True, False]
    assert again.is_bad(torch.tensor([20, 11]))


def test_the_ids_of_all_batches_of_a_skipped_step_ride_on_its_update(make: Any) -> None:
    watch = make(mode="offline")
    updates = updates_of(watch)
    layer = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    watch.guard(optimizer)

    for name in ("a", "b"):
        watch.batch(name)
    (layer(torch.ones(1, 1)) * math.nan).sum().backward()
    optimizer.step()
    watch.log({"train/loss": 1.0})

    assert updates[0].event["verdict"] == "skip"
    assert updates[0].event["batch"] == ["a", "b"]
    assert watch.is_bad("b")


def test_a_metric_that_is_no_loss_makes_no_batch_bad(make: Any) -> None:
    watch = make(mode="offline")

    watch.batch("a")
    watch.log({"train/loss": 1.0, "train/explained_variance": math.nan})

    assert not watch.is_bad("a")


def test_half_a_line_left_by_a_kill_hides_no_other(make: Any) -> None:
    watch = make(mode="offline")
    watch.batch("a")
    watch.log({"train/loss": math.nan})
    path = watch._updates.batches._path
    path.write_text(path.read_text() + '{"step": 3, "ids": ["b')

    again = make(mode="offline")

    assert again.is_bad("a")
    assert not again.is_bad("b")


def test_the_parts_of_a_step_are_shares_of_its_time(make: Any) -> None:
    watch = make(mode="offline")
    updates = updates_of(watch)

    for _ in range(3):
        with watch.phase("data"):
            time.sleep(0.02)
        with watch.phase("the rest"):
            pass
        watch.log({"train/loss": 1.0})

    readings = updates[-1].readings
    (rest,) = [name for name in readings if name.startswith("phase/the_rest_share-")]
    assert 0.5 < readings["phase/data_share"] <= 1.0
    assert readings[rest] < 0.5


def test_an_error_inside_a_phase_leaves_it(make: Any) -> None:
    watch = make(mode="offline")

    with pytest.raises(ZeroDivisionError), watch.phase("data"), watch.pause("evaluating"):
        raise ZeroDivisionError

    assert watch._progress.silence(time.monotonic()).phase == ""
