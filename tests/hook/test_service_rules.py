"""Rules that only the service has halt the trainer that asked for halts."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from service.http_kit import served, until
from watchstep import Action, TrainingHalted

MINE = """
groups:
  - name: mine
    rules:
      - alert: LossAboveFive
        expr: train/loss > 5
        labels: {severity: critical}
        action: ACTION
        annotations: {summary: Loss above five.}
"""


@pytest.fixture
def service(tmp_path: Path) -> Any:
    (tmp_path / "mine.yaml").write_text(MINE.replace("ACTION", "halt"))
    with served(tmp_path / "service", "--rules", str(tmp_path / "mine.yaml")) as running:
        yield running


def url(service: Any) -> str:
    return f"http://127.0.0.1:{service.client.port}"


def train(watch: Any, *, updates: int = 400) -> int:
    """Updates with a high loss until one halts; the number of those that passed."""
    for step in range(updates):
        watch.log({"train/loss": 9.0}, step=step)
        time.sleep(0.05)
    return updates


def test_a_rule_of_the_service_halts_the_trainer_also_when_the_service_is_gone(
    service: Any, make: Any
) -> None:
    watch = make(url=url(service), rules="pretrain", on_critical="halt")
    with pytest.raises(TrainingHalted, match="LossAboveFive"):
        train(watch)

    offline = make(rules="pretrain", on_critical="halt", mode="offline")
    with pytest.raises(TrainingHalted, match="LossAboveFive"):
        train(offline, updates=1)


def test_who_obeys_no_commands_obeys_no_rules_either(service: Any, make: Any) -> None:
    watch = make(url=url(service), rules="pretrain", on_critical="halt", obey_commands=False)
    watch.log({"train/loss": 9.0})
    assert watch.flush(60)

    assert train(watch, updates=3) == 3


def test_rules_that_are_reloaded_reach_a_trainer_that_is_at_work(
    service: Any, make: Any, tmp_path: Path
) -> None:
    watch = make(url=url(service), rules="pretrain", on_critical="halt")
    watch.log({"train/loss": 4.0})
    assert watch.flush(60)
    (tmp_path / "mine.yaml").write_text(
        MINE.replace("ACTION", "halt").replace("train/loss > 5", "train/loss > 3")
    )
    assert service.client.ask("POST", "/-/reload").status in (200, 204)

    with pytest.raises(TrainingHalted, match="LossAboveFive"):
        until(lambda: watch.log({"train/loss": 4.0}).action >= Action.HALT, 60)
