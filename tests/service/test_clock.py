"""One clock for all who share a database, whatever their own say."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from watchstep_monitor.service.clock import SharedClock, SystemClock

HOUR = timedelta(hours=1)
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the clock shows that nobody sets."""
    shown = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: shown[0])
    return shown


def gap(moment: datetime, other: datetime) -> float:
    return abs((moment - other).total_seconds())


def test_before_anybody_was_asked_it_is_the_wall_clock() -> None:
    assert gap(SharedClock().now(), datetime.now(UTC)) < 1


def test_it_goes_on_from_what_it_was_told_by_a_clock_that_nobody_sets(
    ticks: list[float],
) -> None:
    clock = SharedClock()
    clock.told(NOON, 99.9, 100.0)
    ticks[0] = 160.0

    assert gap(clock.now(), NOON + timedelta(seconds=60.05)) < 0.001


def test_an_answer_that_took_long_does_not_push_a_clock_that_may_be_right(
    ticks: list[float],
) -> None:
    clock = SharedClock()
    clock.told(NOON, 100.0, 100.0)
    ticks[0] = 110.0

    clock.told(NOON + timedelta(seconds=6), 105.0, 110.0)

    assert clock.now() == NOON + timedelta(seconds=10)


def test_it_follows_a_database_whose_clock_was_set(ticks: list[float]) -> None:
    clock = SharedClock()
    clock.told(NOON, 100.0, 100.0)

    clock.told(NOON - HOUR, 100.0, 100.0)

    assert clock.now() == NOON - HOUR


def test_a_machine_whose_clock_is_wrong_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    clock = SharedClock()
    for _ in range(3):
        now = time.monotonic()
        clock.told(datetime.now(UTC) - HOUR, now, now)

    assert [record.message for record in caplog.records] == [
        "this machine's clock differs from the database's, which counts"
    ]
    assert caplog.records[0].__dict__["ahead_s"] == pytest.approx(3_600, abs=60)


class Machine:
    """Two clocks that tests set."""

    def __init__(self) -> None:
        self.wall, self.running = 1_700_000_000.0, 50.0

    def pass_by(self, seconds: float) -> None:
        self.wall += seconds
        self.running += seconds


def test_a_clock_that_is_set_back_goes_on_and_one_that_is_set_forward_is_followed() -> None:
    machine = Machine()
    clock = SystemClock(lambda: machine.wall, lambda: machine.running)
    begun = clock.now()
    machine.pass_by(10.0)
    machine.wall -= 3_600.0
    machine.pass_by(10.0)
    after_back = clock.now()
    machine.wall += 3_600.0 + 7_200.0
    after_forward = clock.now()

    assert (after_back - begun).total_seconds() == 20.0
    assert (after_forward - begun).total_seconds() == 20.0 + 7_200.0


def test_a_machine_that_slept_has_the_time_of_now() -> None:
    machine = Machine()
    clock = SystemClock(lambda: machine.wall, lambda: machine.running)
    clock.now()
    machine.wall += 28_800.0

    assert clock.now().timestamp() == machine.wall
