"""What a signal handler of the user's raises is meant for the program, wherever it strikes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import watchstep


class TimeIsUpError(Exception):
    """Raised by a handler, as a job's own time limit would."""


def by_function(_number: int, _frame: Any) -> None:
    raise TimeIsUpError


class ByObject:
    """A handler that is an object."""

    def __call__(self, _number: int, _frame: Any) -> None:
        raise TimeIsUpError


def by_arguments(*_: Any) -> None:
    raise TimeIsUpError


@pytest.fixture(params=[by_function, ByObject(), by_arguments], ids=["function", "object", "star"])
def _handler(request: pytest.FixtureRequest) -> Iterator[None]:
    handler: Callable[[int, Any], None] = request.param
    before = signal.signal(signal.SIGUSR1, handler)
    yield
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.usefixtures("_handler")
def test_it_leaves_log_and_the_next_update_is_judged_as_ever(tmp_path: Path) -> None:
    watch = watchstep.init(run="signals", directory=tmp_path, mode="offline", rules="pretrain")

    with pytest.raises(TimeIsUpError):
        watch._boundary.survive(lambda: signal.raise_signal(signal.SIGUSR1))
    with pytest.raises(TimeIsUpError), watch._boundary:
        os.kill(os.getpid(), signal.SIGUSR1)
    verdict = watch.log({"train/loss": float("nan")})
    watch.finish()

    assert "LossNonFinite" in verdict.firing
    assert watch.errors == {}


def test_an_error_of_a_reading_itself_does_not(tmp_path: Path) -> None:
    watch = watchstep.init(run="signals", directory=tmp_path, mode="offline", rules="pretrain")

    def fail() -> None:
        raise TimeIsUpError

    with pytest.warns(UserWarning, match="TimeIsUpError"):
        watch._boundary.survive(fail)
    watch.finish()

    assert watch.errors == {"TimeIsUpError": 1}
