"""Several sources of one run, over SQLite and over PostgreSQL: each has its own stream."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from service.kit import Bench, bench, grad, postgres_database, update
from store.kit_runs import one_run_a_transaction
from watchstep.core.updates import TRAINING, Update
from watchstep_monitor.service.errors import ConflictError
from watchstep_monitor.service.ingest.batch import Beginning
from watchstep_monitor.service.run_state.records import RunRecord
from watchstep_monitor.service.run_state.status import shown_status
from watchstep_monitor.store.blocks import source_and_attempt, stored_attempt
from watchstep_monitor.store.rollups import UPDATES_A_ROLLUP

SOURCES = (TRAINING, "outside", "machine", "otlp", "rank-0", "rank-1999")


def of(source: str, made: Update) -> Update:
    return made._replace(source=source)


def otlp(seq: int, **readings: float) -> Update:
    return of("otlp", update(seq, **readings))


def failed(seq: int = 1, kind: str = "failed", **fields: object) -> Update:
    return of("outside", update(seq, event={"kind": kind, **fields}))


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> Iterator[str | None]:
    if request.param == "sqlite":
        yield None
        return
    with postgres_database() as url:
        yield url


@pytest.fixture
def stored(database: str | None, tmp_path: Path) -> Iterator[Bench]:
    """Over both stores."""
    with bench(tmp_path, database_url=database) as made:
        if database is None:
            yield made
        else:
            with one_run_a_transaction(database):
                yield made


@pytest.fixture
def at(tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path) as made:
        yield made


def record(at: Bench) -> RunRecord:
    return at.run_service.view("a", None).record


def last_seqs(at: Bench) -> dict[str, int]:
    return dict(at.run_service.view("a", None).last_seqs)


def values(at: Bench, metric: str) -> list[float]:
    points, _ = at.run_service.series("a", metric, (None, None), 10_000)
    return [point.value for point in points]


def alerts(at: Bench) -> dict[tuple[str, str], str]:
    return {
        (alert.rule, alert.source): alert.state for alert in at.run_service.view("a", None).alerts
    }


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("attempt", [1, 2, 1_000_000])
def test_the_stored_number_tells_the_source_and_the_attempt(source: str, attempt: int) -> None:
    stored = stored_attempt(source, attempt)

    assert source_and_attempt(stored) == (source, attempt)
    assert -(2**31) < stored < 2**31
    assert (stored > 0) == (source == TRAINING)


def test_each_source_counts_its_own_numbers_and_a_batch_may_mix_them(stored: Bench) -> None:
    first = stored.send(
        grad(1, 1.0), otlp(1, gpu=60.0), grad(2, 2.0), of("rank-3", update(5, x=1.0))
    )
    second = stored.send(otlp(2, gpu=61.0))

    assert (first.accepted, first.last_seq) == (4, 2)
    assert first.last_seqs == {"otlp": 1, "rank-3": 5}
    assert (second.accepted, second.last_seq) == (1, 2)
    assert second.last_seqs == {"otlp": 2, "rank-3": 5}
    assert values(stored, "gpu") == [60.0, 61.0]
    assert (record(stored).updates, record(stored).lost) == (5, 4)


def test_sending_a_sources_updates_again_has_no_second_effect(stored: Bench) -> None:
    stored.send(grad(1, 1.0), otlp(1, gpu=60.0), otlp(2, gpu=math.nan))

    again = stored.send(otlp(1, gpu=60.0), otlp(2, gpu=math.nan), otlp(3, gpu=62.0))

    assert (again.accepted, again.duplicates, again.last_seqs) == (1, 2, {"otlp": 3})
    assert len(values(stored, "gpu")) == 3


def test_one_number_of_a_source_with_two_contents_is_a_conflict_and_nothing_is_kept(
    at: Bench,
) -> None:
    at.send(grad(1, 1.0), otlp(1, gpu=60.0))

    with pytest.raises(ConflictError) as caught:
        at.send(grad(2, 1.0), otlp(1, gpu=99.0))

    assert caught.value.last_seq == 1
    assert (record(at).last_seq, values(at, "gpu")) == (1, [60.0])


def test_one_that_comes_behind_its_successors_is_rejected(at: Bench) -> None:
    at.send(otlp(3, gpu=60.0))

    late = at.send(otlp(2, gpu=61.0))

    assert [each.kind for each in late.rejected] == ["late"]
    assert last_seqs(at) == {"otlp": 3}


def test_a_nan_of_another_source_opens_the_runs_incident(stored: Bench) -> None:
    stored.send(grad(1, 1.0))

    stored.send(otlp(1, train__loss=math.nan))

    view = stored.run_service.view("a", None)
    assert alerts(stored) == {("LossGone", "otlp"): "firing"}
    assert view.incident is not None
    assert stored.notices() == [("ops", "opened")]
    assert view.record.health == "diverged"

    stored.send(otlp(2, train__loss=1.0))

    assert alerts(stored) == {}
    assert stored.notices() == [("ops", "opened"), ("ops", "resolved")]


def test_what_the_training_has_told_another_source_does_not_tell_again(at: Bench) -> None:
    at.send(update(1, train__loss=math.nan))

    at.send(of("outside", update(1, train__loss=math.nan)))

    assert alerts(at) == {("LossGone", TRAINING): "firing"}


def test_a_streak_of_one_source_is_none_of_another(at: Bench) -> None:
    at.send(grad(1, 200.0))

    at.send(of("rank-1", grad(1, 200.0)))

    assert "GradExploded" not in {
        rule for (rule, _), state in alerts(at).items() if state == "firing"
    }


def test_other_sources_are_no_progress_and_no_sign_of_life(at: Bench) -> None:
    at.send(grad(1, 1.0))
    before = record(at)

    for seq in range(1, 8):
        at.clock.move(50.0)
        at.send(of("machine", update(seq, system__cpu_percent=5.0)))

    now = record(at)
    names = ("last_seq", "step", "time", "heard_at", "updated_at")
    assert [getattr(now, name) for name in names] == [getattr(before, name) for name in names]
    hearing = at.run_service.policy.hearing
    assert shown_status(now, at.clock.now(), hearing) == "lost"


def test_until_its_training_speaks_a_run_lives_by_the_others(at: Bench) -> None:
    at.send(otlp(1, gpu=60.0))
    at.clock.move(299.0)
    at.send(otlp(2, gpu=60.0))
    at.clock.move(299.0)

    hearing = at.run_service.policy.hearing
    assert shown_status(record(at), at.clock.now(), hearing) == "running"
    assert (record(at).attempt, record(at).last_seq, record(at).step) == (1, 0, 0)

    begun, _ = at.begin(Beginning("a", session="hook"))
    again, _ = at.begin(Beginning("a", session="hook"))

    assert (begun.record.attempt, again.record.attempt) == (1, 1)
    assert begun.last_seqs == {"otlp": 2}


def test_where_two_sources_have_a_metric_the_training_speaks(stored: Bench) -> None:
    stored.send(otlp(1, train__grad_norm=5.0), otlp(2, train__grad_norm=6.0))
    assert values(stored, "train/grad_norm") == [5.0, 6.0]
    assert stored.run_service.view("a", None).latest == {"train/grad_norm": 6.0}

    stored.send(grad(1, 1.0))
    stored.send(otlp(3, train__grad_norm=7.0))

    assert values(stored, "train/grad_norm") == [1.0]
    assert stored.run_service.view("a", None).latest == {"train/grad_norm": 1.0}


def test_a_long_course_of_a_source_is_drawn_from_roll_ups_of_its_own(stored: Bench) -> None:
    for first in range(1, 20 * UPDATES_A_ROLLUP, 500):
        numbers = range(first, first + 500)
        stored.send(*[grad(n, 1.0) for n in numbers])
        stored.send(*[otlp(n, gpu=math.inf if n == 777 else float(n % 97)) for n in numbers])

    points, thinned = stored.run_service.series("a", "gpu", (None, None), 20)

    assert thinned
    assert {0.0, 96.0, math.inf} <= {point.value for point in points}
    assert {point.attempt for point in points} == {1}


def test_the_end_that_only_the_outside_saw_is_the_runs(at: Bench) -> None:
    at.send(grad(1, 1.0), grad(2, 1.0))

    at.send(failed(error="killed by SIGKILL", traceback="the last words"))

    assert (record(at).status, record(at).error) == ("failed", "killed by SIGKILL")
    assert record(at).trainer_did == "died at update 2: killed by SIGKILL"
    assert alerts(at) == {("Died", "outside"): "firing"}
    (delivery,) = at.opened.outbox.claim(at.clock.now(), 10, 60.0, ())
    assert delivery.notice.traceback == "the last words"


@pytest.mark.parametrize(
    ("own", "outside", "status"),
    [
        ("finished", "failed", "failed"),
        ("finished", "finished", "finished"),
        ("failed", "failed", "failed"),
        ("halted", "failed", "halted"),
        ("preempted", "finished", "preempted"),
        (None, "finished", "finished"),
    ],
)
def test_what_the_training_says_of_its_end_counts_unless_it_said_that_all_was_well(
    at: Bench, own: str | None, outside: str, status: str
) -> None:
    at.send(grad(1, 1.0))
    if own is not None:
        at.send(update(2, event={"kind": own, "error": "its own words"}))

    at.send(failed(kind=outside, error="of the outside"))

    assert record(at).status == status
    if own == "failed":
        assert record(at).error == "its own words"
        assert alerts(at) == {("Died", TRAINING): "firing"}


def test_with_the_next_attempt_other_sources_begin_anew(stored: Bench) -> None:
    stored.send(grad(1, 1.0), otlp(7, gpu=60.0))
    stored.send(failed(error="gone"))

    begun, _ = stored.begin(Beginning("a", session="two"))
    receipt = stored.send(
        replace_attempt(grad(1, 1.0)), replace_attempt(otlp(1, gpu=70.0)), attempt=2
    )

    assert (begun.record.attempt, begun.last_seqs) == (2, {})
    assert alerts(stored) == {}
    assert (receipt.accepted, receipt.last_seqs) == (2, {"otlp": 1})
    late = stored.send(otlp(7, gpu=60.0), otlp(8, gpu=61.0), attempt=1)
    assert (late.accepted, late.duplicates, late.last_seqs["otlp"]) == (1, 1, 8)
    assert values(stored, "gpu") == [60.0, 61.0, 70.0]
    assert last_seqs(stored) == {"otlp": 1}


def replace_attempt(made: Update) -> Update:
    return made._replace(attempt=2)


@pytest.mark.parametrize("snapshot_every", [1, 3, 1_000])
def test_a_source_is_judged_on_by_a_process_that_starts_again(
    database: str | None, tmp_path: Path, snapshot_every: int
) -> None:
    again = {"database_url": database, "snapshot_every": snapshot_every}
    with bench(tmp_path, **again) as at:
        at.send(grad(1, 1.0), of("rank-1", grad(1, 200.0)))
        at.send(of("machine", update(1, x=math.nan)))
    with bench(tmp_path, **again) as at:
        assert alerts(at) == {
            ("GradHigh", "rank-1"): "firing",
            ("GradExploded", "rank-1"): "pending",
        }
        assert last_seqs(at) == {"rank-1": 1, "machine": 1}

        at.send(of("rank-1", grad(2, 200.0)), grad(2, 1.0))

        assert alerts(at)["GradExploded", "rank-1"] == "firing"
    with bench(tmp_path, **again) as at:
        at.send(of("rank-1", grad(3, 1.0)), of("rank-1", grad(2, 200.0)))
        assert alerts(at) == {}


def test_the_rows_of_other_sources_lie_where_older_code_does_not_look(
    database: str | None, tmp_path: Path
) -> None:
    with bench(tmp_path, database_url=database) as at:
        at.send(grad(1, 1.0), otlp(1, gpu=60.0), of("rank-7", update(1, x=1.0)))
        url = database or f"sqlite:///{tmp_path / 'data' / 'watchstep.db'}"
        engine = create_engine(url)
        with engine.connect() as connection:
            rows = connection.exec_driver_sql("SELECT attempt FROM updates").scalars().all()
        engine.dispose()

    assert sorted(attempt > 0 for attempt in rows) == [False, False, True]
    assert all(attempt < -1 or attempt == 1 for attempt in rows)


def test_a_deleted_run_takes_its_sources_with_it(stored: Bench) -> None:
    stored.send(grad(1, 1.0), otlp(1, gpu=60.0), update(2, event={"kind": "finished"}))

    stored.run_service.delete("a", None)
    stored.begin(Beginning("a", session="anew"))
    stored.send(grad(1, 1.0))

    assert values(stored, "gpu") == []
    assert last_seqs(stored) == {}
