"""What a rule's annotations become in an alert that people see."""

from datetime import UTC, datetime

from watchstep_monitor.service.alerting.notifications import alert_view
from watchstep_monitor.service.run_state.records import AlertRecord


def test_a_summary_names_the_metric_and_the_value_of_its_alert() -> None:
    alert = AlertRecord(
        id="al-1",
        run="r",
        project="p",
        attempt=1,
        rule="LossGrew",
        severity="warning",
        state="firing",
        since=datetime(2026, 1, 1, tzinfo=UTC),
        first_seq=3,
        last_seq=3,
        metric="losses/td_loss",
        reading=1234.5678,
        reason="losses/td_loss = 1234.57",
        action="none",
        annotations={"summary": "{metric} has grown to {value}."},
        labels={},
        subject="losses/td_loss",
    )

    assert alert_view(alert, last_seq=4, silenced=False).summary == (
        "losses/td_loss has grown to 1235."
    )
