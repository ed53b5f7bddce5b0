"""What a run does and what its numbers are: two words, each right by itself."""

from __future__ import annotations

import math
from datetime import timedelta
from pathlib import Path

import pytest

from service.kit import Bench, bench, grad, update
from watchstep_monitor.service.run_state.records import Matcher
from watchstep_monitor.service.run_state.status import shown_status


def words(at: Bench, run: str = "a") -> tuple[str, str]:
    record = at.run_service.view(run, None).record
    now, hearing = at.clock.now(), at.run_service.policy.hearing
    return shown_status(record, now, hearing), record.health


def losses(first: int, last: int, attempt: int = 1) -> list:
    return [update(n, attempt=attempt, train__loss=1.0) for n in range(first, last + 1)]


def test_a_run_is_healthy_once_there_is_enough_to_judge_by(tmp_path: Path) -> None:
    with bench(tmp_path) as at:
        at.send(*losses(1, 9))
        early = words(at)
        at.send(*losses(10, 10))

        assert (early, words(at)) == (("running", "unjudged"), ("running", "healthy"))


def test_a_run_that_diverges_still_runs_and_one_that_ended_has_still_diverged(
    tmp_path: Path,
) -> None:
    with bench(tmp_path) as at:
        at.send(update(1, train__loss=math.nan))
        during = words(at)
        at.send(update(2, event={"kind": "finished"}))

        assert (during, words(at)) == (("running", "diverged"), ("finished", "diverged"))


def test_a_run_that_was_resumed_and_is_well_is_healthy(tmp_path: Path) -> None:
    with bench(tmp_path) as at:
        at.send(update(1, train__loss=math.nan), update(2, event={"kind": "halted"}))
        at.send(*losses(1, 12, attempt=2), attempt=2)

        assert words(at) == ("running", "healthy")


def test_one_nan_of_an_evaluation_makes_no_run_diverged(tmp_path: Path) -> None:
    with bench(tmp_path) as at:
        at.send(*losses(1, 20), update(21, eval__loss=math.nan))

        assert words(at) == ("running", "healthy")


def test_health_outlives_a_restart(tmp_path: Path) -> None:
    with bench(tmp_path, snapshot_every=3) as at:
        at.send(*losses(1, 11))
        at.send(update(12, train__loss=math.nan))
        before, clock = words(at), at.clock
    with bench(tmp_path, clock=clock) as at:
        at.send(*losses(13, 13))
        at.send(update(14, train__loss=2.0))

        assert before == ("running", "diverged")
        assert words(at) == ("running", "healthy")


def test_a_loop_that_hangs_is_stalled_until_it_goes_on(tmp_path: Path) -> None:
    hung = {
        "kind": "hung",
        "since_s": 40.0,
        "innermost": "train.py:212 all_reduce",
        "moving": False,
        "phase": "",
    }
    with bench(tmp_path) as at:
        at.send(*losses(1, 3))
        at.send(update(4, event=hung))
        first = words(at)[0]
        at.clock.move(290)
        at.send()
        at.clock.move(290)
        second = words(at)[0]
        (alert,) = at.run_service.view("a", None).alerts
        at.send(update(5, event={**hung, "since_s": 620.0, "severity": "critical"}))
        (worse,) = at.run_service.view("a", None).alerts
        at.send(*losses(6, 6))

        assert (first, second) == ("stalled", "stalled")
        assert (alert.rule, alert.severity, alert.state) == ("RunStalled", "warning", "firing")
        assert "train.py:212 all_reduce" in alert.reason
        assert alert.annotations["summary"] == "The training loop stands still."
        assert (worse.id, worse.severity) == (alert.id, "critical")
        assert words(at)[0] == "running"
        assert at.run_service.view("a", None).alerts == ()
        assert [edge for _, edge in at.notices()] == ["opened", "changed", "resolved"]


def test_slow_work_is_a_warning_at_most(tmp_path: Path) -> None:
    event = {"kind": "hung", "since_s": 900.0, "innermost": "x", "moving": True}
    with bench(tmp_path) as at:
        at.send(*losses(1, 1), update(2, event={**event, "severity": "critical"}))

        (alert,) = at.run_service.view("a", None).alerts
        assert alert.severity == "warning"


def test_work_that_an_older_trainer_calls_slow_is_no_stall(tmp_path: Path) -> None:
    event = {"kind": "hung", "since_s": 31.0, "innermost": "x", "moving": True, "severity": "info"}
    with bench(tmp_path) as at:
        at.send(*losses(1, 1), update(2, event=event))

        assert words(at)[0] == "running"
        assert at.run_service.view("a", None).alerts == ()


def test_a_stalled_run_that_starts_again_is_stalled_no_more(tmp_path: Path) -> None:
    with bench(tmp_path) as at:
        at.send(*losses(1, 1), update(2, event={"kind": "hung", "innermost": "x"}))
        at.send(*losses(1, 1, attempt=2), attempt=2)

        assert words(at)[0] == "running"
        assert at.run_service.view("a", None).alerts == ()


def test_a_preempted_run_calls_nobody_and_goes_on(tmp_path: Path) -> None:
    with bench(tmp_path) as at:
        at.send(*losses(1, 1), update(2, event={"kind": "preempted", "signal": "SIGTERM"}))
        ended = at.run_service.view("a", None).record
        at.clock.move(10_000)
        at.run_service.tick("a")
        later = words(at)[0]
        at.send(*losses(1, 1, attempt=2), attempt=2)

        assert (ended.status, ended.trainer_did) == (
            "preempted",
            "preempted at update 2 by SIGTERM",
        )
        assert ended.ended_at is not None
        assert later == "preempted"
        assert words(at)[0] == "running"
        assert at.notices() == []


def test_why_a_person_halted_a_run_is_told(tmp_path: Path) -> None:
    with bench(tmp_path) as at:
        by_hand = {"kind": "halted", "reason": "interrupted by a person"}
        at.send(*losses(1, 1), update(2, event=by_hand))

        record = at.run_service.view("a", None).record
        assert record.trainer_did == "halted at update 2: interrupted by a person"


def test_silence_is_lost_and_not_stalled(tmp_path: Path) -> None:
    with bench(tmp_path) as at:
        at.send(*losses(1, 1))
        at.clock.move(400)

        assert words(at)[0] == "lost"


@pytest.mark.parametrize("word", ["lost", "stalled", "running", "finished"])
def test_the_list_of_runs_filters_by_each_word(tmp_path: Path, word: str) -> None:
    from watchstep_monitor.service.run_state.storage import RunFilter

    with bench(tmp_path) as at:
        at.send(*losses(1, 1), run="lost")
        at.clock.move(400)
        at.send(*losses(1, 1), run="running")
        at.send(*losses(1, 1), update(2, event={"kind": "hung"}), run="stalled")
        at.send(*losses(1, 1), update(2, event={"kind": "finished"}), run="finished")
        before = at.run_service.policy.hearing.silent_before(at.clock.now())

        page = at.opened.store.runs(RunFilter(status=word, lost_before=before), 10, None)

        assert [record.run for record in page.items] == [word]


def test_an_update_without_readings_is_no_progress(tmp_path: Path) -> None:
    with bench(tmp_path) as at:
        at.send(grad(1, 1.0))
        at.clock.move(50)
        at.send(update(2, event={"kind": "log", "text": "still here"}))

        record = at.run_service.view("a", None).record
        assert record.heard_at is not None
        assert record.updated_at is not None
        assert (record.heard_at - record.updated_at).total_seconds() == 50


LOST_RULE = """
groups:
  - name: life
    rules:
      - alert: RunStalled
        expr: stalled()
        labels: {severity: critical}
        annotations: {summary: Gone silent.}
"""


def test_an_open_alert_about_silence_goes_on_under_its_new_name_and_tells_nobody(
    tmp_path: Path,
) -> None:
    with bench(tmp_path, rules=LOST_RULE) as at:
        at.send(*losses(1, 3))
        at.clock.move(400)
        at.run_service.tick("a")
        before = at.run_service.view("a", None).alerts[0]
        renamed = LOST_RULE.replace("RunStalled", "RunLost\n        formerly: [RunStalled]")
        at.rules.write_text(renamed)
        at.run_service.reload()
        at.run_service.tick("a")
        (after,) = at.run_service.view("a", None).alerts

        assert (before.rule, after.rule, after.id) == ("RunStalled", "RunLost", before.id)
        assert at.notices() == [("ops", "opened")]


def test_a_silence_by_the_former_name_covers_a_lost_run(tmp_path: Path) -> None:
    with bench(tmp_path, packs=("generic",), rules="groups: []") as at:
        span = (at.clock.now(), at.clock.now() + timedelta(hours=1))
        at.run_service.silence([Matcher("rule", "=", "RunStalled")], span, "", "ada")
        at.send(*losses(1, 3))
        at.clock.move(400)
        at.run_service.tick("a")

        assert at.alerts() == {"RunLost": "firing"}
        assert at.notices() == []


def test_a_hung_run_stays_stalled_when_rules_are_loaded_anew(tmp_path: Path) -> None:
    with bench(tmp_path, packs=("generic",), rules="groups: []") as at:
        hung = {"kind": "hung", "severity": "critical", "innermost": "train.py:1 step"}
        at.send(*losses(1, 3), update(4, event=hung))
        at.run_service.reload()
        at.run_service.tick("a")

        assert at.alerts() == {"RunStalled": "firing"}
        assert at.notices() == [("ops", "opened")]


def test_a_failure_that_is_heard_late_goes_on_with_the_incident_of_the_silence(
    tmp_path: Path,
) -> None:
    with bench(tmp_path, packs=("generic",), rules="groups: []") as at:
        at.send(*losses(1, 3))
        at.clock.move(400)
        at.run_service.tick("a")
        at.send(update(4, event={"kind": "failed", "error": "exit code 1"}))
        at.clock.move(6)
        at.run_service.tick("a")

        assert at.alerts() == {"TrainerFailed": "firing"}
        assert at.notices() == [("ops", "opened"), ("ops", "changed")]


def test_a_hang_that_was_seen_from_outside_is_told_as_it_was_seen(tmp_path: Path) -> None:
    hung = {
        "kind": "hung",
        "severity": "critical",
        "since_s": 17.0,
        "moving": False,
        "innermost": "the kernel's futex_wait",
        "seen": "no output and no use of the CPU",
    }
    with bench(tmp_path) as at:
        at.send(*losses(1, 3), update(4, event=hung))
        (alert,) = at.run_service.view("a", None).alerts

        assert alert.severity == "critical"
        assert alert.reason == (
            "No output and no use of the CPU for 17 s; it is in the kernel's futex_wait."
        )
        assert alert.annotations["summary"] == "The command shows nothing any more."


def test_what_a_hung_command_held_back_when_it_died_does_not_end_the_incident(
    tmp_path: Path,
) -> None:
    with bench(tmp_path, packs=("generic",), rules="groups: []") as at:
        at.send(*losses(1, 3), update(4, event={"kind": "hung", "severity": "critical"}))
        at.clock.move(60)
        at.send(*losses(5, 5), update(6, event={"kind": "failed", "error": "killed by SIGKILL"}))
        at.clock.move(6)
        at.run_service.tick("a")

        assert at.alerts() == {"TrainerFailed": "firing"}
        assert at.notices() == [("ops", "opened"), ("ops", "changed")]
