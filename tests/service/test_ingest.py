"""What becomes of a batch: stored once, judged once, told once."""

from __future__ import annotations

import math
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import event

from service.kit import bench, grad, update
from watchstep_monitor.service.errors import ConflictError, NotFoundError
from watchstep_monitor.service.ingest.batch import Batch, Beginning


def test_a_batch_is_stored_and_its_last_number_answered(tmp_path: Path) -> None:
    with bench(tmp_path) as at:
        receipt = at.send(grad(1, 1.0), grad(2, 2.0))

        assert (receipt.accepted, receipt.duplicates, receipt.last_seq) == (2, 0, 2)


def test_the_same_batch_again_has_no_second_effect(tmp_path: Path) -> None:
    with bench(tmp_path) as at:
        batch = [grad(1, 500.0), grad(2, 500.0)]
        at.send(*batch)
        before = at.notices()

        receipt = at.send(*batch)

        assert (receipt.accepted, receipt.duplicates) == (0, 2)
        assert at.notices() == before
        assert at.run_service.view("a", None).record.updates == 2


def test_a_nan_sent_twice_is_a_duplicate_and_no_conflict(tmp_path: Path) -> None:
    with bench(tmp_path) as at:
        at.send(update(1, train__loss=math.nan, x=math.inf, y=-math.inf))

        receipt = at.send(update(1, train__loss=math.nan, x=math.inf, y=-math.inf))

        assert receipt.duplicates == 1


@pytest.mark.parametrize("other", [2.0, math.nan, math.inf])
def test_one_number_with_another_content_is_a_conflict_and_keeps_nothing(
    tmp_path: Path, other: float
) -> None:
    with bench(tmp_path) as at:
        at.send(grad(1, 1.0))

        with pytest.raises(ConflictError) as refused:
            at.send(grad(1, other), grad(2, 1.0))

        assert refused.value.last_seq == 1
        assert at.send(grad(2, 3.0)).accepted == 1


def test_skipped_numbers_count_as_lost_and_latecomers_are_rejected(tmp_path: Path) -> None:
    with bench(tmp_path) as at:
        at.send(grad(1, 1.0), grad(5, 1.0))

        receipt = at.send(grad(3, 1.0))

        assert at.run_service.view("a", None).record.lost == 3
        assert [each.kind for each in receipt.rejected] == ["late"]
        assert receipt.last_seq == 5


def test_updates_in_disorder_within_a_batch_are_put_in_order(tmp_path: Path) -> None:
    with bench(tmp_path) as at:
        receipt = at.send(grad(2, 2.0), grad(1, 1.0), grad(3, 3.0))

        points, _ = at.run_service.series("a", "train/grad_norm", (None, None), 100)
        assert receipt.accepted == 3
        assert [point.value for point in points] == [1.0, 2.0, 3.0]


def test_a_rule_for_two_updates_fires_at_exactly_the_second_whatever_is_restarted_between(
    tmp_path: Path,
) -> None:
    with bench(tmp_path) as at:
        at.send(grad(1, 1.0), grad(2, 500.0))
        assert at.alerts() == {"GradHigh": "firing", "GradExploded": "pending"}

    with bench(tmp_path) as at:
        at.send(grad(3, 500.0))

        assert at.alerts()["GradExploded"] == "firing"
        alert = next(
            each for each in at.run_service.view("a", None).alerts if each.rule == "GradExploded"
        )
        assert (alert.first_seq, alert.last_seq) == (2, 3)


@pytest.mark.parametrize("snapshot_every", [1, 3, 1_000])
def test_any_restart_gives_the_same_alerts_with_the_same_ids(
    tmp_path: Path, snapshot_every: int
) -> None:
    stream = [grad(n, value) for n, value in enumerate([1, 50, 500, 500, 1, 1, 200, 200], 1)]
    with bench(tmp_path / "whole") as at:
        at.send(*stream)
        whole = at.opened.store.timeline("a", 100, None).items
        ids = {alert.id for alert in at.opened.store.alerts(_all(), 100, None).items}

    for each in stream:
        with bench(tmp_path / "pieces", snapshot_every=snapshot_every) as at:
            at.send(each)
    with bench(tmp_path / "pieces") as at:
        pieces = at.opened.store.timeline("a", 100, None).items
        again = {alert.id for alert in at.opened.store.alerts(_all(), 100, None).items}

    assert _told(pieces) == _told(whole)
    assert len(_told(whole)) > 8
    assert again == ids


def test_a_new_attempt_resolves_nothing_but_its_healthy_updates_do(tmp_path: Path) -> None:
    with bench(tmp_path) as at:
        at.send(grad(1, 50.0))

        at.begin(Beginning("a"))
        begun = at.alerts()
        at.send(grad(1, 1.0, attempt=2), attempt=2)

        assert begun == {"GradHigh": "firing"}
        assert at.alerts() == {}


def test_the_same_session_is_the_same_attempt_and_another_one_the_next(tmp_path: Path) -> None:
    with bench(tmp_path) as at:
        first, _ = at.begin(Beginning("a", session="one"))
        at.send(grad(1, 1.0))
        again, _ = at.begin(Beginning("a", session="one"))
        other, _ = at.begin(Beginning("a", session="two"))

        assert (first.record.attempt, first.record.last_seq) == (1, 0)
        assert (again.record.attempt, again.record.last_seq) == (1, 1)
        assert (other.record.attempt, other.record.last_seq) == (2, 0)


def test_what_an_earlier_session_still_holds_is_kept_although_the_run_went_on(
    tmp_path: Path,
) -> None:
    with bench(tmp_path) as at:
        at.begin(Beginning("a", session="one"))
        at.send(grad(1, 1.0))
        at.begin(Beginning("a", session="two"))
        at.send(grad(1, 9.0, attempt=2), attempt=2)

        resumed, _ = at.begin(Beginning("a", session="one"))
        late = at.send(grad(1, 1.0), grad(2, 2.0), attempt=1)

        assert (resumed.record.attempt, resumed.record.last_seq) == (1, 1)
        assert (late.accepted, late.duplicates, late.last_seq) == (1, 1, 2)
        points, _ = at.run_service.series("a", "train/grad_norm", (None, None), 100)
        assert [point.value for point in points] == [1.0, 2.0, 9.0]
        assert at.run_service.view("a", None).record.attempt == 2


def test_asking_for_an_attempt_that_is_over_is_a_conflict(tmp_path: Path) -> None:
    with bench(tmp_path) as at:
        at.begin(Beginning("a", attempt=3))

        with pytest.raises(ConflictError):
            at.begin(Beginning("a", attempt=2))


def test_a_run_of_another_project_does_not_exist_for_a_limited_caller(tmp_path: Path) -> None:
    with bench(tmp_path) as at:
        at.begin(Beginning("a", project="theirs"))

        with pytest.raises(NotFoundError):
            at.run_service.accept(Batch("a", 1, [(0, grad(1, 1.0))], (), ("mine",))).result(10)
        with pytest.raises(NotFoundError):
            at.run_service.view("a", ("mine",))


def test_metrics_beyond_what_a_run_may_have_are_left_out_and_the_rest_is_judged(
    tmp_path: Path,
) -> None:
    with bench(tmp_path) as at:
        many = update(1, **{f"m{n}": 1.0 for n in range(60)}, train__policy_loss=math.nan)

        receipt = at.send(many)
        again = at.send(many)

        assert (receipt.accepted, receipt.left_out) == (1, 11)
        assert (again.duplicates, again.left_out) == (1, 11)
        assert at.alerts()["LossGone"] == "firing"
        assert len(at.run_service.view("a", None).latest) == 50


def test_a_command_reaches_the_trainer_until_it_answers(tmp_path: Path) -> None:
    with bench(tmp_path) as at:
        at.send(grad(1, 1.0))
        halt = at.run_service.command("a", "halt", "stop it", None)
        again = at.run_service.command("a", "halt", "really", None)

        commands = at.send().commands
        at.send(update(2, event={"kind": "halted", "reason": "asked to"}))

        assert again.id == halt.id
        assert [command.id for command in commands] == [halt.id]
        assert at.send().commands == ()
        assert at.run_service.view("a", None).record.status == "halted"


def test_a_command_is_void_for_the_next_attempt_and_after_it_expired(tmp_path: Path) -> None:
    with bench(tmp_path) as at:
        at.send(grad(1, 1.0))
        at.run_service.command("a", "halt", "", None)
        at.begin(Beginning("a"))
        assert at.send(attempt=2).commands == ()

        at.send(grad(1, 1.0, attempt=2), attempt=2)
        at.run_service.command("a", "halt", "", None)
        at.clock.move(601)

        assert at.send(attempt=2).commands == ()


def _all():
    from watchstep_monitor.service.run_state.storage import AlertFilter

    return AlertFilter()


def _told(entries) -> list[tuple]:
    """Transitions and stages; a status is written once a batch."""
    return [
        (entry.kind, entry.seq, entry.detail)
        for entry in entries
        if entry.kind in {"transition", "stage"}
    ]


def test_the_newest_update_again_is_a_duplicate_without_a_read_or_a_write(tmp_path: Path) -> None:
    executed: list[str] = []
    with bench(tmp_path) as at:
        at.send(grad(1, 1.0), grad(2, math.nan))
        event.listen(
            at.opened._engines[0],
            "before_cursor_execute",
            lambda _, __, statement, *___: executed.append(statement),
        )

        again = at.send(grad(2, math.nan))

        assert (again.accepted, again.duplicates, again.last_seq) == (0, 1, 2)
        assert executed == ["BEGIN IMMEDIATE", "SAVEPOINT job", "RELEASE job", "COMMIT"]
        with pytest.raises(ConflictError):
            at.send(grad(2, 3.0))


def test_a_sign_of_life_is_known_at_once_and_written_a_tenth_of_the_timeout_later(
    tmp_path: Path,
) -> None:
    with bench(tmp_path) as at:
        at.send(grad(1, 1.0))
        first = at.clock.now()
        at.clock.move(29)
        at.send()
        remembered = at.run_service.view("a", None).record.heard_at
        unwritten = at.opened.store.run("a")
        at.clock.move(1)
        at.send()
        written = at.opened.store.run("a")

        assert remembered == first + timedelta(seconds=29)
        assert unwritten is not None
        assert unwritten.heard_at == first
        assert written is not None
        assert written.heard_at == at.clock.now()
        assert at.send(grad(2, 1.0)).accepted == 1
