"""What an answer means, and how long the next attempt waits."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest

from notify.kit import START, config
from watchstep.errors import SettingsError
from watchstep_monitor.notify.config import NotifyConfig, ReceiverConfig
from watchstep_monitor.notify.outcomes import (
    Refused,
    Taken,
    http_answer,
    outcome_of,
    retry_after_s,
)
from watchstep_monitor.notify.receiver_state import ReceiverState
from watchstep_monitor.service.ports import Dead, Delivered, ReceiverGone, Retry
from watchstep_monitor.settings import load_settings


def test_every_status_is_sorted():
    def kind(status):
        return type(outcome_of(http_answer(status, None, START), 1, START, config(), lambda: 0.5))

    for status in range(200, 600):
        if status < 300:
            wanted = Delivered
        elif status == 410:
            wanted = ReceiverGone
        elif status < 500 and status not in {408, 425, 429}:
            wanted = Dead
        else:
            wanted = Retry
        assert kind(status) is wanted, status


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("0", 0.0),
        (" 7 ", 7.0),
        ("Mon, 23 Nov 2026 04:13:05 GMT", 120.0),
        ("Mon, 23 Nov 2026 04:00:00 GMT", 0.0),
        ("soon", None),
        ("-3", None),
        ("1.5", None),
        ("٣", None),
        ("nan", None),
        ("", None),
        ("Mon, 99 Nov 2026 04:13:05 GMT", None),
    ],
)
def test_retry_after_is_read_in_both_its_forms(header, seconds):
    assert retry_after_s(header, START) == seconds


def test_a_retry_after_of_a_thousand_digits_is_capped():
    answer = http_answer(503, "9" * 1000, START)

    outcome = outcome_of(answer, 1, START, config(retry_max_s=300.0), lambda: 0.0)

    assert outcome == Retry(START + timedelta(seconds=300), "HTTP 503")


def test_waits_double_up_to_the_cap_and_are_jittered_over_the_whole_range():
    manners = config(retry_base_s=0.5, retry_max_s=10.0)

    def wait_s(attempt, chance):
        outcome = outcome_of(Refused("down"), attempt, START, manners, lambda: chance)
        return (outcome.at - START).total_seconds()

    assert [wait_s(n, 1.0) for n in range(1, 8)] == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    assert [wait_s(n, 0.0) for n in range(1, 8)] == [0.0] * 7
    assert wait_s(99, 0.5) == 5.0


def test_a_delivery_survives_a_night_before_it_is_given_up():
    manners = NotifyConfig()
    waited_s = 0.0

    for attempt in itertools.count(1):
        outcome = outcome_of(Refused("down"), attempt, START, manners, lambda: 0.5)
        if isinstance(outcome, Dead):
            break
        waited_s += (outcome.at - START).total_seconds()

    assert 7 < waited_s / 3600 < 9


def test_a_taken_notice_is_delivered_whatever_the_attempt():
    assert outcome_of(Taken(), 10**6, START, config(), lambda: 0.5) == Delivered()


def test_a_lane_opens_wide_only_after_a_success():
    lane = ReceiverState(ReceiverConfig("ops", "slack", "https://h.example.org"), 4, 60)

    before = lane.room(0.0)
    lane.healthy = True

    assert (before, lane.room(0.0)) == (1, 4)


def test_a_lane_counts_starts_over_the_last_sixty_seconds():
    lane = ReceiverState(
        ReceiverConfig("ops", "slack", "https://h.example.org"), 9, 2, healthy=True
    )
    lane.begin(10.0, START)
    lane.begin(30.0, START)

    assert lane.room(69.9) == 0
    assert lane.opens_in_s(69.0) == pytest.approx(1.0)
    assert lane.room(70.0) == 1
    assert lane.opens_in_s(70.0) is None


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"timeout_s": float("nan")}, "timeout_s"),
        ({"timeout_s": 0.0}, "timeout_s"),
        ({"retry_base_s": -1.0}, "retry_base_s"),
        ({"retry_base_s": float("nan")}, "retry_base_s"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"allow_private_cidrs": ("10.0.0.0/99",)}, "allow_private_cidrs"),
    ],
)
def test_manners_that_make_no_sense_are_refused_by_key(changes, key):
    overrides = {f"notify.{name}": value for name, value in changes.items()}

    with pytest.raises(SettingsError, match=f"notify.{key}"):
        load_settings(environ={}, overrides=overrides)


def test_a_receiver_never_shows_its_address_or_secret():
    ops = ReceiverConfig("ops", "webhook", "https://h.example.org/hush", secret="hush")

    assert "hush" not in repr(ops)
    assert "hush" not in repr(config(ops))
