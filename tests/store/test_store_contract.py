"""One contract for the store, over SQLite and over PostgreSQL."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from service.kit import START, Bench, bench, grad, postgres_database, update
from store.kit_runs import one_run_a_transaction
from watchstep.core.updates import Update
from watchstep_monitor.service.alerting.notice import notice_to_json
from watchstep_monitor.service.alerting.notifications import Route
from watchstep_monitor.service.errors import StaleRunError, StorageTroubleError
from watchstep_monitor.service.ingest.batch import Batch
from watchstep_monitor.service.ports import Dead, Delivered, ReceiverGone, Retry
from watchstep_monitor.service.run_state.records import NewDelivery
from watchstep_monitor.service.run_state.storage import AlertFilter, DeliveryFilter, RunFilter


@pytest.fixture(params=["sqlite", "postgresql"])
def at(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    if request.param == "sqlite":
        with bench(tmp_path, routes=ROUTES) as made:
            yield made
        return
    with (
        postgres_database() as url,
        bench(tmp_path, database_url=url, routes=ROUTES) as made,
        one_run_a_transaction(url),
    ):
        yield made


ROUTES = (Route("ops"), Route("pager"))


def test_readings_come_back_as_they_were_sent_bit_for_bit(at: Bench) -> None:
    values = [0.1, -0.0, 5e-324, 1.7976931348623157e308, math.inf, -math.inf, math.nan]
    at.send(*[update(n, x=value) for n, value in enumerate(values, 1)])

    points, _ = at.run_service.series("a", "x", (None, None), 100)

    assert [repr(point.value) for point in points] == [repr(value) for value in values]


def test_updates_of_many_shapes_with_events_and_gaps_are_replayed_in_order(at: Bench) -> None:
    sent = [
        update(1, a=1.0, b=2.0),
        update(2, b=2.0, a=1.0),
        update(4, a=math.nan),
        update(5),
        update(6, event={"kind": "log", "text": "\x00 \U0001f600"}, a=1.0),
        update(7, a=3.0),
    ]
    at.send(*sent)

    def replay(transaction) -> list[Update]:
        return list(transaction.updates_after("a", "training", 1, 1))

    assert repr(at.opened.store.write("a", replay).result(10)) == repr(sent[1:])


def test_a_stored_update_is_found_in_the_middle_of_a_long_stretch(at: Bench) -> None:
    at.send(*[grad(n, float(n)) for n in range(1, 701)])

    result = at.opened.store.write(
        "a", lambda t: t.stored("a", "training", 1, [1, 256, 257, 700])
    ).result(10)

    assert {seq: stored.readings["train/grad_norm"] for seq, stored in result.items()} == {
        1: 1.0,
        256: 256.0,
        257: 257.0,
        700: 700.0,
    }


def test_all_updates_of_a_run_come_back_whole_and_in_order(at: Bench) -> None:
    sent = [update(n, x=n / 3, y=math.inf) for n in range(1, 700)]
    sent.append(update(700, event={"kind": "log", "level": "info", "text": "z"}, other=1.0))
    at.send(*sent[:400])
    at.send(*sent[400:])

    updates = list(at.opened.store.updates("a"))

    assert updates == sent
    assert list(at.opened.store.updates("none")) == []


def test_steps_narrow_a_series_at_both_ends_inclusively(at: Bench) -> None:
    at.send(*[grad(n, float(n)) for n in range(1, 11)])

    points, _ = at.run_service.series("a", "train/grad_norm", (30, 50), 100)

    assert [point.step for point in points] == [30, 40, 50]


def test_a_writer_that_is_behind_is_told_so_and_nothing_of_it_stays(at: Bench) -> None:
    at.send(grad(1, 1.0))
    seen = at.run_service.view("a", None).record
    at.send(grad(2, 1.0))

    def stale(transaction) -> None:
        transaction.append("a", [grad(9, 1.0)])
        transaction.advance(replace(seen, last_seq=9), seen)

    with pytest.raises((StaleRunError, StorageTroubleError)):
        at.opened.store.write("a", stale).result(10)

    assert at.opened.store.run("a").last_seq == 2
    assert at.send(grad(9, 1.0)).accepted == 1


def test_what_one_job_raises_leaves_the_others_of_its_commit_alone(at: Bench) -> None:
    def fail(_) -> None:
        raise ValueError("only mine")

    futures = [at.run_service.accept(Batch(f"r{n}", 1, [(0, grad(1, 1.0))])) for n in range(5)]
    failed = at.opened.store.write("r2", fail)

    assert [future.result(10).accepted for future in futures] == [1] * 5
    with pytest.raises(ValueError, match="only mine"):
        failed.result(10)


def test_lists_are_walked_page_by_page_without_gap_or_repetition(at: Bench) -> None:
    for n in range(7):
        at.clock.move(1)
        at.send(grad(1, 50.0), run=f"r{n}")

    seen, cursor = [], None
    while True:
        page = at.opened.store.alerts(AlertFilter(), 3, cursor)
        seen += [alert.run for alert in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break

    assert seen == [f"r{n}" for n in reversed(range(7))]


def test_runs_are_found_by_status_and_project(at: Bench) -> None:
    at.send(grad(1, 1.0), run="lives")
    at.send(update(1, event={"kind": "finished"}), run="done")
    at.clock.move(400)
    at.send(grad(1, 1.0), run="fresh")
    before = at.clock.now() - timedelta(seconds=300)

    def named(status: str) -> list[str]:
        page = at.opened.store.runs(RunFilter(status=status, lost_before=before), 10, None)
        return [record.run for record in page.items]

    assert (named("running"), named("lost"), named("finished")) == (
        ["fresh"],
        ["lives"],
        ["done"],
    )
    assert at.opened.store.runs(RunFilter(("other",)), 10, None).items == ()


def test_a_claimed_delivery_is_nobody_elses_until_its_lease_ends(at: Bench) -> None:
    at.send(grad(1, 50.0))
    outbox, now = at.opened.outbox, at.clock.now()

    first = outbox.claim(now, 10, 60, [])
    meanwhile = outbox.claim(now, 10, 60, [])
    later = outbox.claim(now + timedelta(seconds=61), 10, 60, [])

    assert {each.receiver for each in first} == {"ops", "pager"}
    assert meanwhile == []
    assert {each.id for each in later} == {each.id for each in first}


def test_a_renewed_lease_goes_on_and_what_was_settled_is_leased_no_more(at: Bench) -> None:
    at.send(grad(1, 50.0))
    outbox, now = at.opened.outbox, at.clock.now()
    first, second = outbox.claim(now, 10, 5, [])
    outbox.settle(second, Retry(now, "HTTP 503"), now)

    outbox.renew([first, second], now + timedelta(seconds=4), 5)

    soon = outbox.claim(now + timedelta(seconds=6), 10, 5, [])
    assert [delivery.id for delivery in soon] == [second.id]
    late = outbox.claim(now + timedelta(seconds=10), 10, 60, [second.receiver])
    assert [delivery.id for delivery in late] == [first.id]


def test_busy_receivers_are_left_alone(at: Bench) -> None:
    at.send(grad(1, 50.0))

    claimed = at.opened.outbox.claim(at.clock.now(), 10, 60, ["ops"])

    assert [each.receiver for each in claimed] == ["pager"]


def test_resolved_never_overtakes_opened_even_while_opened_is_retried(at: Bench) -> None:
    at.send(grad(1, 50.0), grad(2, 1.0))
    outbox, now = at.opened.outbox, at.clock.now()
    opened = outbox.claim(now, 10, 60, ["pager"])
    outbox.settle(opened[0], Retry(now + timedelta(seconds=5), "HTTP 503"), now)

    blocked = outbox.claim(now + timedelta(seconds=1), 10, 60, ["pager"])
    retried = outbox.claim(now + timedelta(seconds=5), 10, 60, ["pager"])
    outbox.settle(retried[0], Delivered(), now)
    then = outbox.claim(now + timedelta(seconds=5), 10, 60, ["pager"])

    assert [each.notice.edge for each in opened] == ["opened"]
    assert blocked == []
    assert [(each.notice.edge, each.attempt) for each in retried] == [("opened", 2)]
    assert retried[0].notice == opened[0].notice
    assert [each.notice.edge for each in then] == ["resolved"]


def test_dead_deliveries_stay_visible_and_can_be_sent_again(at: Bench) -> None:
    at.send(grad(1, 50.0))
    outbox, now = at.opened.outbox, at.clock.now()
    claimed = outbox.claim(now, 10, 60, ["pager"])[0]
    outbox.settle(claimed, Dead("HTTP 404"), now)

    dead = at.opened.store.deliveries(DeliveryFilter(state="dead", run="a"), 10, None).items
    assert [(each.receiver, each.reason) for each in dead] == [("ops", "HTTP 404")]
    other = DeliveryFilter(projects=("another",))
    assert at.opened.store.deliveries(other, 10, None).items == ()
    assert not outbox.resend(claimed.id, now, ("another",))
    assert outbox.resend(claimed.id, now, ("default",))
    assert [each.id for each in outbox.claim(now, 10, 60, ["pager"])] == [claimed.id]
    assert not outbox.resend("dl_" + "0" * 20, now, None)


def test_a_receiver_that_is_gone_takes_all_that_waits_for_it_along(at: Bench) -> None:
    at.send(grad(1, 50.0), run="a")
    at.send(grad(1, 50.0), run="b")
    outbox, now = at.opened.outbox, at.clock.now()
    claimed = outbox.claim(now, 1, 60, ["pager"])[0]

    outbox.settle(claimed, ReceiverGone(), now)

    assert outbox.outbox_depth() == {"waiting": 2, "delivered": 0, "dead": 2}


def test_a_run_with_hundreds_due_does_not_keep_the_others_waiting(at: Bench) -> None:
    outbox, now = at.opened.outbox, at.clock.now()
    at.send(grad(1, 50.0), run="hog")
    first = outbox.claim(now, 1, 60, ["pager"])[0]
    notice = notice_to_json(first.notice)
    many = [NewDelivery(f"dl_{n}", "hog", f"in_{n}", "ops", 1, notice, now) for n in range(300)]
    at.opened.store.write("hog", lambda t: t.enqueue(many)).result(10)
    at.clock.move(1)
    for run in ("x", "y", "z"):
        at.send(grad(1, 50.0), run=run)

    claimed = [outbox.claim(at.clock.now(), 1, 60, ["pager"])[0] for _ in range(8)]

    assert [each.notice.run for each in claimed] == [
        "hog",
        "x",
        "y",
        "z",
        "hog",
        "hog",
        "hog",
        "hog",
    ]


def test_all_that_is_due_is_claimed_once_however_many_runs_it_is_of(at: Bench) -> None:
    for n in range(60):
        at.send(grad(1, 50.0), run=f"r{n}")

    claimed = []
    while deliveries := at.opened.outbox.claim(at.clock.now(), 7, 60, []):
        claimed += deliveries

    assert len(claimed) == len({each.id for each in claimed}) == 120


def test_next_due_is_none_when_nothing_waits(at: Bench) -> None:
    assert at.opened.outbox.next_due() is None

    at.send(grad(1, 50.0))

    assert at.opened.outbox.next_due() == START


def test_retention_keeps_the_updates_around_an_incident(at: Bench) -> None:
    from watchstep_monitor.service.retention import Retention
    from watchstep_monitor.settings.schema import RetentionSettings

    for n in range(1, 31):
        at.send(grad(n, 50.0 if n == 15 else 1.0))
    at.send(update(31, event={"kind": "finished"}))
    at.clock.move(100)

    removed = Retention(
        at.run_service, RetentionSettings(updates_s=50.0, incident_window_updates=2)
    ).look()

    points, _ = at.run_service.series("a", "train/grad_norm", (None, None), 100)
    assert removed == 31 - 5
    assert [point.seq for point in points] == [13, 14, 15, 16, 17]
    assert at.opened.store.ended_with_updates(at.clock.now(), 10) == []


def test_two_replicas_advance_one_run_in_strict_order(replica_pair: tuple[Bench, Bench]) -> None:
    first, second = replica_pair
    for n in range(1, 21, 2):
        first.send(grad(n, 500.0 if n > 10 else 1.0))
        second.send(grad(n + 1, 500.0 if n > 10 else 1.0))

    entries = first.opened.store.timeline("a", 100, None).items
    fired = [
        (entry.detail["rule"], entry.seq)
        for entry in entries
        if entry.detail.get("change") == "firing"
    ]
    assert fired == [("GradHigh", 11), ("GradExploded", 12)]
    assert second.run_service.view("a", None).record.updates == 20
    assert len(first.notices()) == 2


def long_run(at: Bench, last: int) -> None:
    """One run of many batches, its `x` with a leap, a dip and every kind of non-finite number."""
    odd = {5_003: math.nan, 7_007: math.inf, 7_008: -math.inf, 9_001: 1e30, 11_111: -1e30}
    for first in range(1, last + 1, 500):
        seqs = range(first, min(first + 500, last + 1))
        at.send(*[update(n, x=odd.get(n, math.sin(n / 50)), y=float(n)) for n in seqs])


def test_a_long_series_is_drawn_from_roll_ups_and_loses_nothing_worth_seeing(at: Bench) -> None:
    long_run(at, 20_100)

    coarse = at.opened.store.series("a", "x", None, None, 60)
    kept, thinned = at.run_service.series("a", "x", (None, None), 60)

    seen = {point.seq: repr(point.value) for point in coarse.points}
    assert not coarse.whole
    assert thinned
    assert len(seen) < 20_100 / 20
    assert {1, 20_100} <= seen.keys()
    wanted = {5_003: "nan", 7_007: "inf", 7_008: "-inf", 9_001: "1e+30", 11_111: "-1e+30"}
    assert wanted.items() <= seen.items()
    assert set(wanted) <= {point.seq for point in kept}
    assert [point.step for point in kept] == sorted(point.step for point in kept)


def test_what_a_roll_up_says_of_an_update_is_what_was_sent(at: Bench) -> None:
    long_run(at, 5_000)

    whole = {point.seq: point for point in at.opened.store.series("a", "y", None, None).points}
    coarse = list(at.opened.store.series("a", "y", 10_000, 30_000, 10).points)

    assert [point.value for point in coarse if point != whole[point.seq]] == []
    assert (coarse[0].step, coarse[-1].step) == (10_000, 30_000)
    assert len(coarse) < 1_200


def test_a_short_series_comes_whole_however_few_points_are_wanted(at: Bench) -> None:
    long_run(at, 600)

    assert at.opened.store.series("a", "x", None, None, 60).whole


def test_roll_ups_leave_no_hole_where_updates_were_lost_or_attempts_changed(at: Bench) -> None:
    for n in range(1, 2_000, 7):
        at.send(update(n, x=float(n)), update(n + 1, x=float(n)))
    at.send(*[update(n, attempt=2, x=-float(n)) for n in range(1, 900)], attempt=2)

    coarse = list(at.opened.store.series("a", "x", None, None, 2).points)

    places = [(point.attempt, point.seq) for point in coarse]
    assert places == sorted(set(places))
    assert {(1, 1), (1, 1_997), (2, 1), (2, 899)} <= set(places)
    assert at.opened.store.run("a").lost > 0


def test_singles_among_many_non_finite_points_survive_a_long_series(at: Bench) -> None:
    for first in range(1, 20_001, 500):
        seqs = range(first, first + 500)
        values = {n: math.nan if 5_000 < n < 5_600 and n % 2 else float(n) for n in seqs}
        at.send(*[update(n, x=values[n]) for n in seqs])

    kept, _ = at.run_service.series("a", "x", (None, None), 60)

    nan = [point.seq for point in kept if math.isnan(point.value)]
    assert nan == list(range(5_001, 5_600, 2))
