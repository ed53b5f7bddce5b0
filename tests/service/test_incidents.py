"""Incidents: one message per edge, stages that never go back, silences and acknowledgements."""

from __future__ import annotations

import math
from datetime import timedelta
from pathlib import Path

from service.kit import Bench, bench, grad, update
from watchstep_monitor.service.alerting.notifications import Route
from watchstep_monitor.service.ingest.batch import Beginning
from watchstep_monitor.service.ports import Delivered, Notice
from watchstep_monitor.service.run_state.records import Matcher


def test_early_signs_become_an_explosion_a_divergence_and_an_aftermath(tmp_path: Path) -> None:
    with bench(tmp_path) as at:
        stages = []
        for each in (
            grad(1, 1.0),
            grad(2, 50.0),
            grad(3, 500.0),
            grad(4, 500.0),
            update(5, train__policy_loss=math.nan),
            update(6, event={"kind": "halted", "reason": "LossGone"}),
        ):
            at.send(each)
            incident = at.run_service.view("a", None).incident
            stages.append(incident.stage if incident else None)

        assert stages == [
            None,
            "early signs",
            "early signs",
            "explosion",
            "divergence",
            "aftermath",
        ]
        incident = at.run_service.view("a", None).incident
        assert (incident.first_bad, incident.last_good) == (2, 1)
        assert [phase["stage"] for phase in incident.phases] == [
            "early signs",
            "explosion",
            "divergence",
            "aftermath",
        ]


def test_the_first_message_is_in_the_outbox_with_the_commit(tmp_path: Path) -> None:
    with bench(tmp_path) as at:
        at.send(grad(1, 50.0))

        assert at.notices() == [("ops", "opened")]


def test_alerts_that_join_are_told_together_after_the_interval(tmp_path: Path) -> None:
    with bench(tmp_path) as at:
        at.send(update(1, train__policy_loss=math.nan))
        at.send(update(2, event={"kind": "failed", "error": "x"}))
        at.run_service.tick("a")
        early = at.notices()
        at.clock.move(6)
        at.run_service.tick("a")

        assert early == [("ops", "opened")]
        assert at.notices() == [("ops", "opened"), ("ops", "changed")]


def test_a_warning_about_a_reading_is_silent_while_a_critical_alert_explains_it(
    tmp_path: Path,
) -> None:
    with bench(tmp_path) as at:
        at.send(update(1, train__policy_loss=math.nan))
        at.send(update(2, train__grad_norm=50.0, train__policy_loss=math.nan))
        at.clock.move(6)
        at.run_service.tick("a")

        assert at.alerts() == {"LossGone": "firing", "GradHigh": "firing"}
        assert at.notices() == [("ops", "opened")]


def test_a_rise_in_severity_does_not_wait(tmp_path: Path) -> None:
    with bench(tmp_path) as at:
        at.send(grad(1, 50.0))

        at.send(update(2, train__policy_loss=math.nan))

        assert at.notices() == [("ops", "opened"), ("ops", "changed")]


def test_the_end_is_told_to_those_who_heard_of_the_beginning(tmp_path: Path) -> None:
    routes = (Route("ops"), Route("pager", "critical"))
    with bench(tmp_path, routes=routes) as at:
        at.send(grad(1, 50.0))
        at.clock.move(1)
        at.send(grad(2, 1.0))

        assert at.notices() == [("ops", "opened"), ("ops", "resolved")]
        assert at.run_service.view("a", None).incident is None


def test_group_wait_gathers_before_the_first_message(tmp_path: Path) -> None:
    with bench(tmp_path, group_wait_s=30) as at:
        at.send(grad(1, 50.0))
        at.clock.move(10)
        at.send(update(2, train__policy_loss=math.nan))
        waiting = at.notices()
        at.clock.move(21)
        assert at.opened.store.due_incidents(at.clock.now(), 10) == ["a"]
        at.run_service.tick("a")

        assert waiting == []
        delivery = at.opened.outbox.claim(at.clock.now(), 10, 60, [])[0]
        assert {alert.rule for alert in delivery.notice.alerts} == {"GradHigh", "LossGone"}


def test_a_reminder_comes_after_the_repeat_interval_until_someone_acknowledges(
    tmp_path: Path,
) -> None:
    with bench(tmp_path) as at:
        at.send(grad(1, 50.0))
        at.clock.move(3601)
        at.send()
        at.run_service.tick("a")
        reminded = at.notices()

        at.run_service.acknowledge(at.run_service.view("a", None).alerts[0].id, "ada", None)
        at.clock.move(3601)
        at.send()
        at.run_service.tick("a")

        assert reminded == [("ops", "opened"), ("ops", "repeat")]
        assert at.notices() == reminded


def test_a_halt_of_the_trainer_is_told_although_the_alert_was_acknowledged(tmp_path: Path) -> None:
    with bench(tmp_path) as at:
        at.send(grad(1, 50.0))
        opened = at.notices()
        at.run_service.acknowledge(at.run_service.view("a", None).alerts[0].id, "ada", None)
        at.send(update(2, event={"kind": "halted", "rule": "GradHigh", "reason": "r"}))
        at.clock.move(60)
        at.run_service.tick("a")

        assert opened == [("ops", "opened")]
        assert at.notices() == [("ops", "opened"), ("ops", "changed")]


def test_silenced_alerts_tell_no_one_until_the_silence_ends(tmp_path: Path) -> None:
    with bench(tmp_path) as at:
        until = at.clock.now() + timedelta(seconds=100)
        span = (at.clock.now(), until)
        at.run_service.silence([Matcher("rule", "=", "GradHigh")], span, "known", "ada")
        at.send(grad(1, 50.0))
        quiet = at.notices()
        at.clock.move(101)
        at.run_service.tick("a")

        assert quiet == []
        assert at.alerts() == {"GradHigh": "firing"}
        assert at.notices() == [("ops", "opened")]


def test_a_receiver_hears_only_of_what_matches(tmp_path: Path) -> None:
    routes = (
        Route("ops", "warning", (Matcher("run", "=~", "b.*"),)),
        Route("all", "info"),
    )
    with bench(tmp_path, routes=routes) as at:
        at.send(grad(1, 50.0))

        assert at.notices() == [("all", "opened")]


def test_silence_of_a_run_fires_once_and_its_next_word_resolves_it(tmp_path: Path) -> None:
    with bench(tmp_path) as at:
        at.send(grad(1, 1.0))
        at.clock.move(299)
        at.run_service.tick("a")
        early = at.alerts()
        at.clock.move(2)
        at.run_service.tick("a")
        at.run_service.tick("a")
        silent = at.alerts()
        at.clock.move(1)
        at.send(grad(2, 1.0))

        assert (early, silent) == ({}, {"Silent": "firing"})
        assert at.alerts() == {}
        assert at.notices() == [("ops", "opened"), ("ops", "resolved")]


def test_an_ended_run_is_not_silent(tmp_path: Path) -> None:
    with bench(tmp_path) as at:
        at.send(grad(1, 1.0), update(2, event={"kind": "finished"}))
        at.clock.move(1000)
        at.run_service.tick("a")

        assert at.alerts() == {}


def test_the_services_own_absence_is_no_silence_of_the_trainer(tmp_path: Path) -> None:
    with bench(tmp_path) as at:
        at.send(grad(1, 1.0))
        clock = at.clock
    clock.move(100_000)

    with bench(tmp_path, clock=clock) as at:
        clock.move(200)
        at.run_service.view("a", None)
        at.run_service.tick("a")
        young = at.alerts()
        clock.move(101)
        at.run_service.tick("a")

        assert young == {}
        assert at.alerts() == {"Silent": "firing"}


def test_a_reload_resolves_alerts_whose_rule_is_gone_and_keeps_the_others(tmp_path: Path) -> None:
    with bench(tmp_path) as at:
        at.send(grad(1, 50.0), update(2, train__policy_loss=math.nan))
        text = at.rules.read_text().replace("GradHigh", "GradLarge")
        at.rules.write_text(text)
        at.run_service.reload()
        at.run_service.tick("a")
        at.send(grad(3, 50.0))

        assert at.alerts() == {"LossGone": "firing", "GradLarge": "firing"}


def test_a_bad_rule_file_leaves_the_old_rules_live(tmp_path: Path) -> None:
    import pytest

    from watchstep.errors import RuleError

    with bench(tmp_path) as at:
        at.rules.write_text("groups: [{name: x, rules: [{alert: A, expr: '1 >'}]}]")
        with pytest.raises(RuleError):
            at.run_service.reload()

        at.send(grad(1, 50.0))
        assert at.alerts() == {"GradHigh": "firing"}


def test_the_pinned_checkpoint_and_what_the_trainer_did_are_in_the_message(
    tmp_path: Path,
) -> None:
    with bench(tmp_path) as at:
        at.begin(Beginning("a", project="p"))
        kept = {"kind": "checkpoint", "path": "ckpt/1", "step": 10, "finite": True, "pinned": True}
        at.send(update(1, event=kept))
        at.send(
            update(
                2,
                event={"kind": "guard", "verdict": "skip", "reason": "x"},
                train__policy_loss=math.nan,
            )
        )

        notice = at.opened.outbox.claim(at.clock.now(), 1, 60, [])[0].notice
        assert notice.checkpoint == {"path": "ckpt/1", "step": 10}
        assert notice.trainer_did == "skipped the optimizer step at update 2"
        assert math.isnan(notice.readings["train/policy_loss"])


def told(at: Bench) -> list[Notice]:
    """What the receivers are told next, oldest first; each is taken."""
    notices = []
    while claimed := at.opened.outbox.claim(at.clock.now(), 10, 60, []):
        for delivery in claimed:
            notices.append(delivery.notice)
            at.opened.outbox.settle(delivery, Delivered(), at.clock.now())
    return notices


def test_what_the_same_batch_says_of_the_halt_and_the_pin_is_in_the_first_message(
    tmp_path: Path,
) -> None:
    kept = {"kind": "checkpoint", "path": "ckpt/1", "step": 10, "finite": True, "pinned": True}
    with bench(tmp_path) as at:
        at.send(
            grad(1, 50.0),
            update(2, train__policy_loss=math.nan),
            update(3, event=kept),
            update(4, event={"kind": "halted"}),
        )

        (notice,) = told(at)
        assert [alert.rule for alert in notice.alerts] == ["LossGone", "GradHigh"]
        assert (notice.edge, notice.status) == ("opened", "halted")
        assert notice.trainer_did == "halted at update 4"
        assert notice.checkpoint == {"path": "ckpt/1", "step": 10}
        at.clock.move(10_000)
        at.run_service.tick("a")
        assert told(at) == []


def test_a_halt_after_the_first_message_is_told_once(tmp_path: Path) -> None:
    with bench(tmp_path) as at:
        at.send(update(1, train__policy_loss=math.nan))
        first = told(at)
        at.send(update(2, event={"kind": "halted"}))
        at.run_service.tick("a")
        early = told(at)
        at.clock.move(6)
        at.run_service.tick("a")
        late = told(at)
        at.clock.move(10_000)
        at.run_service.tick("a")

        assert [(each.edge, each.status) for each in first] == [("opened", "running")]
        assert early == []
        assert [(each.edge, each.trainer_did) for each in late] == [
            ("changed", "halted at update 2")
        ]
        assert told(at) == []


def test_an_incident_that_begins_and_ends_in_one_batch_is_told_both_ways(tmp_path: Path) -> None:
    with bench(tmp_path) as at:
        at.send(grad(1, 1.0), grad(2, 50.0), grad(3, 1.0), grad(4, 60.0), grad(5, 1.0))

        edges: dict[int, list[str]] = {}
        for each in told(at):
            edges.setdefault(each.alerts[0].first_update, []).append(each.edge)
        assert edges == {2: ["opened", "resolved"], 4: ["opened", "resolved"]}


def test_a_silent_run_is_called_lost_and_no_explosion(tmp_path: Path) -> None:
    with bench(tmp_path) as at:
        at.send(grad(1, 1.0))
        at.clock.move(400)
        at.run_service.tick("a")

        (notice,) = told(at)
        assert (notice.status, notice.stage) == ("lost", "aftermath")


def test_a_dead_trainers_last_words_are_in_the_message(tmp_path: Path) -> None:
    with bench(tmp_path) as at:
        at.send(grad(1, 1.0), update(2, event={"kind": "failed", "error": "out of\nmemory"}))

        (notice,) = told(at)
        assert (notice.status, notice.trainer_did) == ("failed", "died at update 2: out of memory")


def test_who_asks_for_it_is_told_that_a_run_finished_was_preempted_and_resumed(
    tmp_path: Path,
) -> None:
    asking = Route("team", notify_on=("finished", "preempted", "resumed"))
    other = Route("other", matchers=(Matcher("run", "=", "b"),), notify_on=("finished",))
    with bench(tmp_path, routes=(Route("ops"), asking, other)) as at:
        at.send(grad(1, 1.0), update(2, event={"kind": "preempted"}))
        at.clock.move(1)
        at.send(grad(1, 1.0, attempt=2), attempt=2)
        at.clock.move(1)
        at.send(update(2, attempt=2, event={"kind": "finished"}), attempt=2)
        at.send(update(2, attempt=2, event={"kind": "finished"}), attempt=2)

        assert at.notices() == [("team", "preempted"), ("team", "resumed"), ("team", "finished")]


def test_a_message_of_a_death_says_where_it_ran_at_which_step_and_its_last_words(
    tmp_path: Path,
) -> None:
    failed = {"kind": "failed", "error": "E: x", "oom": "host", "traceback": "T", "host": "gpu-9"}
    with bench(tmp_path) as at:
        config = {"environment": {"host": "gpu-1", "user": "ann"}}
        at.begin(Beginning(run="a", config=config))
        at.send(grad(1, 1.0), update(2, event=failed))
        (delivery,) = at.opened.outbox.claim(at.clock.now(), 10, 60, [])

    notice = delivery.notice
    assert (notice.host, notice.user, notice.oom) == ("gpu-9", "ann", "host")
    assert (notice.error, notice.traceback, notice.last_step) == ("E: x", "T", 20)
    assert notice.heard_at == at.clock.now()
