"""Incidents say why: causes with evidence, stages with their updates, and nothing on info alone."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from service.kit import RULES, Bench, bench, grad, update
from watchstep_monitor.service.alerting.notifications import Route

INFO = """
      - alert: Noticed
        expr: my/own > 5
        labels: {severity: info}
"""


def healthy(seq: int) -> dict[str, float]:
    return {
        "train__policy_loss": -0.01 + 0.001 * math.sin(seq),
        "train__value_loss": 0.5 + 0.01 * math.cos(seq),
        "train__advantages_norm_max_abs": 3.0 + 0.1 * math.sin(seq),
        "train__advantages_count": 2048.0,
    }


def beyond_bound(at: Bench, *, before: int = 40) -> None:
    """A run whose advantages are divided by another sample's deviation from one update on."""
    at.send(*[update(n, **healthy(n)) for n in range(1, before + 1)])
    bad = {**healthy(before + 1), "train__advantages_norm_max_abs": 4_000.0}
    at.send(
        update(before + 1, train__grad_norm=50.0, **bad),
        update(before + 2, train__grad_norm=500.0, **bad),
        update(before + 3, train__grad_norm=500.0, **bad),
    )


def test_an_incident_names_its_likeliest_cause_with_its_evidence(tmp_path: Path) -> None:
    with bench(tmp_path) as at:
        beyond_bound(at)

        incident = at.run_service.view("a", None).incident
        best = incident.causes[0]
        assert best["cause"] == "wrong-sample-normalisation"
        assert incident.diagnosis == best["title"]
        assert incident.confidence == best["confidence"] > 0.5
        assert best["evidence"]
        assert (incident.first_bad, incident.last_good) == (41, 40)


def test_the_message_carries_the_cause_and_how_sure_it_is(tmp_path: Path) -> None:
    with bench(tmp_path) as at:
        beyond_bound(at)

        incident = at.run_service.view("a", None).incident
        notice = at.opened.outbox.claim(at.clock.now(), 10, 60, [])[-1].notice
        assert notice.diagnosis.startswith("Advantages are standardised")
        assert 0.5 < notice.confidence <= 1.0
        assert incident.diagnosis.startswith("Advantages are standardised")


def test_stages_have_their_updates_and_survive_a_restart(tmp_path: Path) -> None:
    with bench(tmp_path) as at:
        beyond_bound(at)
        at.send(update(44, train__policy_loss=math.nan))
        incident = at.run_service.view("a", None).incident

    with bench(tmp_path) as at:
        again = at.run_service.view("a", None).incident

    assert again == incident
    assert [(phase["stage"], phase["first_update"]) for phase in incident.phases] == [
        ("early signs", 41),
        ("explosion", 42),
        ("divergence", 44),
    ]
    assert incident.damage == 44


def test_nothing_that_stands_out_is_no_diagnosis(tmp_path: Path) -> None:
    with bench(tmp_path) as at:
        at.send(grad(1, 50.0))

        incident = at.run_service.view("a", None).incident
        assert (incident.diagnosis, incident.confidence) == ("", 0.0)
        assert incident.causes[0]["cause"] == "not-enough-evidence"


def test_a_healthy_update_reads_nothing_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from watchstep_monitor.store.transaction import SqlTransaction

    with bench(tmp_path) as at:
        at.send(grad(1, 50.0))
        reads = []
        monkeypatch.setattr(SqlTransaction, "newest", lambda *given: reads.append(given) or [])

        at.send(*[grad(n, 50.0) for n in range(2, 400)])
        assert reads == []
        at.send(update(400, train__policy_loss=math.nan))

    assert len(reads) == 1


def test_an_alert_that_comes_and_goes_is_not_diagnosed_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from watchstep_monitor.service.alerting import diagnosis as diagnosing

    looked = []
    whole = diagnosing.diagnose
    monkeypatch.setattr(
        diagnosing, "diagnose", lambda *given: looked.append(given) or whole(*given)
    )
    with bench(tmp_path) as at:
        at.send(*[grad(n, 50.0 if n % 2 else 1.0) for n in range(1, 101)])

        opened = [edge for _, edge in at.notices()].count("opened")
    assert opened == 50
    assert 5 <= len(looked) <= 11


def test_a_diagnosis_that_stumbles_keeps_no_alert_from_being_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from watchstep_monitor.service.alerting import diagnosis as diagnosing

    def stumbles(*_: object) -> None:
        raise OverflowError

    monkeypatch.setattr(diagnosing, "diagnose", stumbles)
    with bench(tmp_path) as at:
        assert at.send(grad(1, 50.0)).accepted == 1

        assert at.notices() == [("ops", "opened")]


def test_an_info_alert_opens_no_incident_and_tells_no_one(tmp_path: Path) -> None:
    with bench(tmp_path, rules=RULES + INFO, routes=(Route("all", "info"),)) as at:
        at.send(update(1, my__own=9.0))

        assert at.alerts() == {"Noticed": "firing"}
        assert at.run_service.view("a", None).incident is None
        assert at.notices() == []


def test_info_alerts_are_part_of_an_incident_that_others_opened(tmp_path: Path) -> None:
    with bench(tmp_path, rules=RULES + INFO, routes=(Route("all", "info"),)) as at:
        at.send(update(1, my__own=9.0))
        at.send(update(2, my__own=9.0, train__grad_norm=50.0))

        notice = at.opened.outbox.claim(at.clock.now(), 10, 60, [])[0].notice
        assert {alert.rule for alert in notice.alerts} == {"Noticed", "GradHigh"}
        assert notice.severity == "warning"


def test_an_info_alert_that_joins_makes_no_message_and_keeps_nothing_open(tmp_path: Path) -> None:
    with bench(tmp_path, rules=RULES + INFO, routes=(Route("all", "info"),)) as at:
        at.send(grad(1, 50.0))
        at.clock.move(60)
        at.send(update(2, my__own=9.0, train__grad_norm=50.0))
        at.clock.move(60)
        at.run_service.tick("a")
        joined = at.notices()
        at.send(update(3, my__own=9.0, train__grad_norm=1.0))

        assert joined == [("all", "opened")]
        assert at.notices() == [("all", "opened"), ("all", "resolved")]
        assert at.alerts() == {"Noticed": "firing"}
        assert at.run_service.view("a", None).incident is None


def test_a_well_run_has_a_note_of_what_may_turn_into_an_incident_once(tmp_path: Path) -> None:
    def still(seq: int) -> dict[str, float]:
        wave = math.sin(seq)
        return {
            "rollout__ep_rew_mean": 21.0 if seq > 20 else 20.0 + 8.0 * wave,
            "train__policy_loss": -0.01 + 0.001 * wave,
            "train__value_loss": 20.0 + 5.0 * wave,
            "train__explained_variance": 0.6,
        }

    with bench(tmp_path) as at:
        for seq in range(1, 161):
            at.send(update(seq, **still(seq)))

        timeline = at.opened.store.timeline("a", 1000, None).items
        notes = [entry.detail for entry in timeline if entry.detail.get("condition")]
        assert [note["condition"] for note in notes] == ["deterministic-environment"]
        assert at.run_service.view("a", None).incident is None
