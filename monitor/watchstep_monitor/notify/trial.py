"""The message of a receiver's test."""

from __future__ import annotations

import uuid
from datetime import datetime

from watchstep_monitor.service.alerting.notice import AlertView, Notice


def notice_for_test(now: datetime) -> Notice:
    """A notice that looks like a real one and says plainly that it is none."""
    alert = AlertView(
        id="test",
        rule="WatchstepTest",
        severity="info",
        state="firing",
        run="watchstep-test",
        project="watchstep",
        attempt=1,
        since=now,
        first_update=1,
        last_update=1,
        resolved_at=None,
        metric="",
        reading=float("nan"),
        action="none",
        reason="Somebody asked for a test message.",
        summary="This is a test: the receiver works, and no run is in trouble.",
    )
    return Notice(
        id=f"test-{uuid.uuid4()}",
        run=alert.run,
        project=alert.project,
        attempt=1,
        incident="watchstep-test",
        edge="test",
        stage="",
        diagnosis="",
        confidence=0.0,
        alerts=(alert,),
        readings={},
        checkpoint=None,
        trainer_did="",
        links={},
        at=now,
    )
