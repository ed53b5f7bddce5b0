"""What fails inside, or in a stranger's object, never reaches the training loop."""

from __future__ import annotations

import logging
import math
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

import watchstep
from watchstep import TrainingHalted
from watchstep.boundary import Boundary
from watchstep.errors import CheckpointError
from watchstep.hook import captured_logs


class Unsayable:
    def __str__(self) -> str:
        raise ZeroDivisionError("no text")


class UnsayableError(Exception):
    def __str__(self) -> str:
        raise ZeroDivisionError("no text")


class UnsayableWarning(UserWarning):
    def __str__(self) -> str:
        raise ZeroDivisionError("no text")


def told(watch: Any) -> list[Any]:
    """The events that a watch sends from now on."""
    events: list[Any] = []
    watch._stream.outbound.put = lambda update: events.append(update.event)
    return events


@pytest.mark.parametrize("arguments", [(Unsayable(),), ("loss %s", Unsayable()), ("%d", "x")])
def test_a_log_line_that_cannot_be_formatted_is_heard_as_far_as_it_can_be(
    arguments: tuple[Any, ...], make: Any
) -> None:
    watch = make()
    events = told(watch)
    watch.log({"train/loss": 0.5})
    logger = logging.Logger("trainer")
    logger.addHandler(logging.NullHandler())

    logger.warning(*arguments)
    watch.log({"train/loss": 0.5})

    text = arguments[0] if isinstance(arguments[0], str) else "Unsayable"
    assert events[1] == {"kind": "log", "level": "warning", "text": text}
    assert watch.errors == {}


def test_a_warning_that_cannot_be_formatted_is_heard_by_its_kind(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed_on: list[Any] = []
    # Another test may have left a watch open, which would have wrapped another function.
    monkeypatch.setattr(captured_logs, "_listeners", [])
    monkeypatch.setattr(captured_logs, "_before", [])
    monkeypatch.setattr(warnings, "showwarning", lambda *given: passed_on.append(given))
    watch = make()
    events = told(watch)
    watch.log({"train/loss": 0.5})

    warnings.showwarning(UnsayableWarning(), UnsayableWarning, "train.py", 1)
    watch.log({"train/loss": 0.5})

    assert events[1]["text"] == "UnsayableWarning"
    assert len(passed_on) == 1


def test_an_error_inside_that_cannot_say_what_it_is_is_counted_all_the_same(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = make()

    def fail(*_: Any) -> None:
        raise UnsayableError

    monkeypatch.setattr(watch._updates._coercer, "readings", fail)
    with pytest.warns(UserWarning, match="goes on after UnsayableError"):
        watch.log({"train/loss": 0.5})

    assert watch.errors == {"UnsayableError": 1}


def test_a_training_that_died_of_an_error_without_a_text_is_told_by_its_kind(make: Any) -> None:
    watch = make()
    events = told(watch)
    watch.finish(UnsayableError())

    assert events[-1]["kind"] == "failed"
    assert events[-1]["error"] == "UnsayableError"


@pytest.mark.parametrize(
    "wrong", [{"url": 5}, {"tags": 3, "rules": "ppo"}, {"run": b"x"}, {"rules": "a\0b"}]
)
def test_whatever_is_wrong_with_an_argument_training_is_watched_all_the_same(
    wrong: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.warns(UserWarning, match="watchstep"):
        watch = watchstep.init(**{"run": "wrong", "directory": tmp_path, **wrong})

    assert watch.log({"train/loss": 0.5}).action == watchstep.Action.NONE
    assert "LossNonFinite" in watch.log({"train/loss": math.nan}).firing
    watch.finish()


def test_a_restore_that_cannot_even_look_raises_the_one_error_that_it_may(
    tmp_path: Path, make: Any
) -> None:
    (tmp_path / "a-file").write_text("")
    watch = make(checkpoints=tmp_path / "a-file")

    with pytest.raises(CheckpointError, match="FileExistsError"):
        watch.restore({"model": torch.nn.Linear(2, 2)})


def test_an_end_that_fails_half_way_still_lets_go_of_everything(make: Any) -> None:
    watch = make()
    model = torch.nn.Linear(2, 2)
    guard = watch.guard(torch.optim.SGD(model.parameters(), lr=0.1))
    watch._updates.vitals.readings = lambda *_: 1 / 0

    with pytest.warns(UserWarning, match="ZeroDivisionError"):
        watch.finish()

    assert watch._stream.ended
    assert guard._hooks == []


def test_a_halt_and_an_interrupt_cross_the_boundary_and_nothing_else_does() -> None:
    boundary = Boundary()

    def raising(error: BaseException) -> None:
        raise error

    for passes in (TrainingHalted("stop"), KeyboardInterrupt(), SystemExit(3)):
        with pytest.raises(type(passes)):
            boundary.survive(raising, passes)
    with pytest.warns(UserWarning, match="watchstep goes on after ValueError: bad"):
        assert boundary.survive(raising, ValueError("bad")) is None

    assert boundary.errors == {"ValueError": 1}
