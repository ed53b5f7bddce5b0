"""What Prometheus scrapes, read back with the library's own parser."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families

from watchstep_monitor.gauges import (
    CONTENT_TYPE,
    Exposition,
    Instruments,
    ServiceState,
)
from watchstep_monitor.gauges.families import HEALTHS, STATUSES, fleet_families
from watchstep_monitor.gauges.text import clean, written
from watchstep_monitor.service.errors import StorageTroubleError
from watchstep_monitor.service.events import (
    AlertChanged,
    DeliveryAttempted,
    EventBus,
    OutboxTrouble,
    RulesRead,
)
from watchstep_monitor.service.ports import FiringAlert, RunGauge
from watchstep_monitor.settings.schema import GaugeSettings

LIMITS = GaugeSettings(max_runs=1_000, metrics_per_run=256)

NOW = datetime(2026, 11, 23, 4, 0, tzinfo=UTC)


class StoppedClock:
    def __init__(self):
        self.at = NOW

    def now(self):
        return self.at

    def monotonic(self):
        return self.at.timestamp()


class Fleet:
    def __init__(self, *runs):
        self.runs = runs

    def iter_runs(self):
        return iter(self.runs)


def run(name="ppo-7", **changes):
    plain = RunGauge(
        run=name,
        project="trading",
        status="running",
        health="exploded",
        step=2048,
        last_update_at=NOW.timestamp() - 3,
        last_heard_at=NOW.timestamp() - 1,
        lost_updates=2,
        readings={"train/grad_norm": 0.5, "train/policy_loss": math.nan},
        zones={"train/grad_norm": "critical"},
        firing=(FiringAlert("AdvantagesBeyondBound", "critical"),),
        ended_at=None,
    )
    return replace(plain, **changes)


STATE = ServiceState(
    outbox_depth=lambda: {"waiting": 3, "delivered": 5, "dead": 1},
    disabled_receivers=lambda: {"ops": True, "mail": False},
    store_failing=lambda: False,
    damaged=lambda: 2,
    free_bytes=lambda: 5_000_000,
)


def exposition(*runs, limits=None, clock=None, instruments=None, state=None):
    clock = clock or StoppedClock()
    return Exposition(
        instruments or Instruments(clock),
        Fleet(*runs),
        clock,
        state or STATE,
        limits or LIMITS,
    )


def samples(text):
    """Every sample of a scrape by name and labels; a series twice is an error, as in Prometheus."""
    values = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in values, key
            values[key] = sample.value
    return values


def one(scrape, name, **labels):
    return scrape[name, frozenset(labels.items())]


def same(left, right):
    return left == right or (math.isnan(left) and math.isnan(right))


def test_a_run_shows_under_the_contracts_names():
    scrape = samples(exposition(run()).render())

    who = {"run": "ppo-7", "project": "trading"}
    assert one(scrape, "watchstep_run_reading", **who, metric="train/grad_norm") == 0.5
    assert math.isnan(one(scrape, "watchstep_run_reading", **who, metric="train/policy_loss"))
    assert one(scrape, "watchstep_run_zone", **who, metric="train/grad_norm") == 3
    assert one(scrape, "watchstep_run_step", **who) == 2048
    updated = one(scrape, "watchstep_run_last_update_timestamp_seconds", **who)
    heard = one(scrape, "watchstep_run_last_heard_timestamp_seconds", **who)
    assert (updated, heard) == (NOW.timestamp() - 3, NOW.timestamp() - 1)
    healths = {word: one(scrape, "watchstep_run_health", **who, health=word) for word in HEALTHS}
    assert healths == {word: float(word == "exploded") for word in HEALTHS}
    states = {word: one(scrape, "watchstep_run_status", **who, status=word) for word in STATUSES}
    assert states == {word: float(word == "running") for word in STATUSES}
    labels = {"run": "ppo-7", "rule": "AdvantagesBeyondBound", "severity": "critical"}
    labels["metric"] = ""
    assert one(scrape, "watchstep_alert_firing", **labels) == 1
    assert one(scrape, "watchstep_run_lost_updates_total", **who) == 2
    assert one(scrape, "watchstep_runs", status="running") == 1


def test_the_service_shows_what_it_counts():
    clock = StoppedClock()
    instruments = Instruments(clock)
    instruments.updates_stored(7, 2, 1)
    instruments.ingest_took(0.004)
    instruments.commit_took(0.002, 7)
    bus = EventBus(clock)
    instruments.listen_to(bus)
    for event in (
        RulesRead(ok=True),
        RulesRead(ok=False),
        AlertChanged("critical", "firing"),
        DeliveryAttempted("ops", "delivered", 0.01),
        OutboxTrouble(),
    ):
        bus.publish(event)

    scrape = samples(exposition(clock=clock, instruments=instruments).render())

    assert one(scrape, "watchstep_updates_total") == 7
    assert one(scrape, "watchstep_updates_duplicate_total") == 2
    assert one(scrape, "watchstep_updates_rejected_total") == 1
    assert one(scrape, "watchstep_ingest_seconds_count") == 1
    assert one(scrape, "watchstep_ingest_seconds_bucket", le="0.005") == 1
    assert one(scrape, "watchstep_commit_seconds_sum") == 0.002
    assert one(scrape, "watchstep_commit_updates_sum") == 7
    assert one(scrape, "watchstep_rules_last_reload_successful") == 0
    at = one(scrape, "watchstep_rules_last_reload_success_timestamp_seconds")
    assert at == NOW.timestamp()
    assert one(scrape, "watchstep_alerts_total", severity="critical", state="firing") == 1
    assert one(scrape, "watchstep_deliveries_total", receiver="ops", result="delivered") == 1
    assert one(scrape, "watchstep_delivery_worker_errors_total") == 1
    assert one(scrape, "watchstep_outbox_depth", state="waiting") == 3
    assert one(scrape, "watchstep_receiver_disabled", receiver="ops") == 1
    assert one(scrape, "watchstep_receiver_disabled", receiver="mail") == 0
    assert one(scrape, "watchstep_store_failing") == 0
    assert one(scrape, "watchstep_store_damaged") == 2
    assert one(scrape, "watchstep_store_free_bytes") == 5_000_000


def test_a_scrape_is_whole_while_the_store_is_in_trouble():
    def unread():
        raise StorageTroubleError("the disk is gone")

    trouble = replace(
        STATE, outbox_depth=unread, store_failing=lambda: True, free_bytes=lambda: None
    )
    scrape = samples(exposition(run(), state=trouble).render())

    assert one(scrape, "watchstep_store_failing") == 1
    assert one(scrape, "watchstep_run_step", run="ppo-7", project="trading") == 2048
    assert not [
        name
        for name, _ in scrape
        if name in {"watchstep_outbox_depth", "watchstep_store_free_bytes"}
    ]


def test_an_empty_fleet_is_a_whole_scrape():
    scrape = samples(exposition().render())

    assert one(scrape, "watchstep_runs", status="running") == 0
    assert one(scrape, "watchstep_updates_total") == 0
    assert CONTENT_TYPE.startswith("text/plain; version=0.0.4")


def test_a_run_vanishes_some_time_after_its_end():
    clock = StoppedClock()
    shown = exposition(
        run(status="finished", ended_at=NOW.timestamp()),
        clock=clock,
        limits=GaugeSettings(keep_after_end_s=60.0),
    )
    names = []

    for passed_s in (0, 60, 61):
        clock.at = NOW + timedelta(seconds=passed_s)
        names.append(b'run="ppo-7"' in shown.render())

    assert names == [True, True, False]


def test_a_run_with_an_open_incident_stays_after_its_end() -> None:
    clock = StoppedClock()
    ended = run(status="failed", ended_at=NOW.timestamp(), has_incident=True)
    shown = exposition(ended, clock=clock, limits=GaugeSettings(keep_after_end_s=60.0))
    clock.at = NOW + timedelta(days=3)

    assert b'run="ppo-7"' in shown.render()


def test_runs_with_alerts_and_running_ones_come_first_under_the_cap():
    runs = (
        run("ended", status="finished", ended_at=NOW.timestamp(), firing=()),
        run("calm", firing=()),
        run("burning"),
    )

    text = exposition(*runs, limits=GaugeSettings(max_runs=2, metrics_per_run=256)).render()

    assert b'"burning"' in text
    assert b'"calm"' in text
    assert b'"ended"' not in text


def test_what_the_caps_leave_out_is_counted():
    clock = StoppedClock()
    instruments = Instruments(clock)
    many = run(readings={f"m{n:03}": 1.0 for n in range(300)}, zones={"m299": "ok"})
    shown = exposition(
        many,
        run("second"),
        clock=clock,
        instruments=instruments,
        limits=GaugeSettings(max_runs=1, metrics_per_run=100),
    )

    shown.render()
    scrape = samples(shown.render())

    kept = [key for key in scrape if key[0] == "watchstep_run_reading"]
    assert len(kept) == 100
    # The metric with a zone is kept although its name comes last.
    who = {"run": "ppo-7", "project": "trading"}
    assert one(scrape, "watchstep_run_zone", **who, metric="m299") == 0
    # 200 readings of the first run; of the second its 17 fixed series, 2 readings and 1 zone;
    # in each of two scrapes.
    assert instruments.series_dropped.collect()[0].samples[0].value == 2 * (200 + 20)


def test_the_cap_on_series_holds_whatever_the_runs_are():
    runs = [
        run(f"r{n}", readings={f"m{m}": 1.0 for m in range(n)}, zones={"m1": "ok"})
        for n in range(60)
    ]

    for cap in (0, 1, 9, 10, 11, 12, 100, 999):
        shown = fleet_families(runs, GaugeSettings.model_construct(max_series=cap), NOW.timestamp())
        # The count of runs by status is always there and no run's.
        assert shown.series - len(STATUSES) <= cap


class LibraryFleet:
    """The same families for the library's own writer."""

    def __init__(self, fleet):
        self.families = fleet.families

    def collect(self):
        for family in self.families:
            kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
            metric = kind(family.name, family.about, labels=family.labels)
            for values, value in family.rows:
                metric.add_metric(values, value)
            yield metric


HOSTILE = st.text(
    st.characters(categories=("Lu", "Cs", "Cc", "Zl", "Po", "Sm"), include_characters='"\\\n{}=,')
)
NUMBERS = st.floats() | st.sampled_from([5e-324, -0.0, 1e308, math.nan, math.inf, -math.inf])


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(HOSTILE, HOSTILE, st.dictionaries(HOSTILE, NUMBERS, max_size=5)), max_size=5)
)
def test_both_writers_say_the_same_of_the_most_hostile_runs(drawn):
    runs = [
        run(
            name,
            project=project,
            readings=readings,
            zones=dict.fromkeys(readings, "info"),
            firing=(FiringAlert(project, "critical"),) * 2,
        )
        for name, project, readings in drawn
    ]
    fleet = fleet_families(runs, LIMITS, NOW.timestamp())
    registry = CollectorRegistry()
    registry.register(LibraryFleet(fleet))

    quick, library = samples(written(fleet.families)), samples(generate_latest(registry))

    assert quick.keys() == library.keys()
    assert all(same(quick[key], library[key]) for key in quick)


def test_a_lone_surrogate_breaks_neither_this_scrape_nor_the_next():
    shown = exposition(run("bad-\ud800"), run("good"))

    first, second = samples(shown.render()), samples(shown.render())

    for scrape in (first, second):
        assert one(scrape, "watchstep_run_step", run="good", project="trading") == 2048
        assert one(scrape, "watchstep_run_step", run="bad-\ufffd", project="trading") == 2048


def test_two_names_that_come_out_the_same_are_shown_once():
    scrape = samples(exposition(run("x\ud800"), run("x\udfff", step=1)).render())

    assert one(scrape, "watchstep_run_step", run="x\ufffd", project="trading") == 2048


def test_a_step_of_four_hundred_digits_is_infinite_and_no_error():
    scrape = samples(exposition(run(step=10**400)).render())

    assert one(scrape, "watchstep_run_step", run="ppo-7", project="trading") == math.inf


def test_clean_text_can_be_encoded_and_stays_on_its_line():
    for code in [*range(0x2100), *range(0xD7F0, 0xE010)]:
        text = clean(chr(code))

        assert len(text.splitlines() or [""]) == 1
        assert text.encode().decode() == text


def test_scrapes_in_several_threads_are_each_whole():
    shown = exposition(*(run(f"r{n}") for n in range(50)))
    texts = []

    threads = [
        threading.Thread(target=lambda: texts.append(samples(shown.render()))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {sum(key[0] == "watchstep_run_step" for key in text) for text in texts} == {50}


def fleet_of(series):
    metrics = {f"train/metric_{n:03}": n * 1.2345678e-3 for n in range(115)}
    return [run(f"run-{n:04}", readings=metrics, zones={}) for n in range(series // 132)]


def test_twenty_five_thousand_series_are_rendered_between_two_scrapes():
    shown = exposition(*fleet_of(25_000))
    shown.render()
    took_s = []

    for _ in range(5):
        # Of this thread alone: other tests may have the processors meanwhile.
        started = time.thread_time()
        text = shown.render()
        took_s.append(time.thread_time() - started)

    assert text.count(b"\nwatchstep_run_reading{") == 189 * 115
    assert min(took_s) < 1.0


def test_the_quick_writer_is_used_when_it_has_to_be_and_reads_the_same():
    fleet = fleet_of(25_000)

    scrape = samples(exposition(*fleet).render())

    assert sum(key[0] == "watchstep_run_reading" for key in scrape) == 189 * 115
    who = {"run": "run-0188", "project": "trading"}
    value = one(scrape, "watchstep_run_reading", **who, metric="train/metric_114")
    assert value == 114 * 1.2345678e-3


PROMTOOL = shutil.which(os.environ.get("WATCHSTEP_PROMTOOL", "promtool"))


@pytest.mark.skipif(PROMTOOL is None, reason="needs promtool (Debian package prometheus)")
@pytest.mark.parametrize("runs", [1, 250])
def test_promtool_finds_nothing_to_say(runs):
    clock = StoppedClock()
    instruments, bus = Instruments(clock), EventBus(clock)
    instruments.listen_to(bus)
    bus.publish(DeliveryAttempted('o"ps', "delivered", 0.1))
    bus.publish(RulesRead(ok=True))
    text = exposition(
        *(run(f'r"{n}\\', project="a\nb\ud800") for n in range(runs)), instruments=instruments
    ).render()

    checked = subprocess.run(
        [PROMTOOL, "check", "metrics"], input=text, capture_output=True, check=False
    )

    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
