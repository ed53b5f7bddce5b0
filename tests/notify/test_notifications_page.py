"""docs/notifications.md shows what is really sent: it is written from the renderers.

`WATCHSTEP_WRITE_DOCS=1 pytest tests/notify/test_notifications_page.py` writes it anew.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import fields, replace
from datetime import timedelta
from pathlib import Path

import pytest

from notify.kit import START, alert, notice
from watchstep_monitor.notify import NotifyConfig, ReceiverConfig
from watchstep_monitor.notify.render import (
    alertmanager,
    discord,
    email_message,
    pagerduty,
    plain_text,
    slack,
    teams,
    webhook,
)
from watchstep_monitor.notify.render.wording import title

PAGE = Path(__file__).parents[2] / "docs" / "notifications.md"
BLOCK = re.compile(r"(<!-- shown: ([\w-]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)

SLOW = alert(
    id="al-2",
    rule="GradientNormRecord",
    severity="warning",
    metric="train/grad_norm",
    reading=2847.3,
    action="none",
    reason="2847.3 is more than 10 times the largest so far, 41.2",
    summary="The gradient norm set a new record",
    first_update=1099,
)
OPENED = notice(
    alerts=(alert(), SLOW),
    readings={
        "train/advantages_norm_max_abs": 18500.0,
        "train/grad_norm": 2847.3,
        "train/policy_loss": float("nan"),
    },
    at=START + timedelta(seconds=2),
)
WARNED = notice(
    id="nt-0",
    alerts=(SLOW,),
    stage="early signs",
    diagnosis="",
    readings={"train/grad_norm": 2847.3},
    checkpoint=None,
    trainer_did="",
    status="running",
)
DIED = notice(
    id="nt-4",
    alerts=(
        alert(
            rule="TrainerFailed",
            metric="",
            action="none",
            summary="The trainer died of an exception.",
            reason='event("failed")',
            cause="",
            runbook_url="",
            first_update=1210,
            last_update=1210,
        ),
    ),
    stage="aftermath",
    diagnosis="The trainer died or hung without a sign in its readings",
    readings={},
    trainer_did="died at update 1210: RuntimeError: CUDA error: an illegal memory access",
    status="failed",
)
SILENT = replace(
    DIED,
    id="nt-5",
    alerts=(
        replace(
            DIED.alerts[0],
            rule="RunStalled",
            summary="The run has gone silent without saying that it finished.",
            reason="stalled()",
        ),
    ),
    checkpoint=None,
    trainer_did="",
    status="stalled",
)
RESOLVED = replace(
    OPENED,
    id="nt-3",
    edge="resolved",
    at=START + timedelta(minutes=42),
    alerts=tuple(
        replace(one, state="resolved", resolved_at=START + timedelta(minutes=42))
        for one in OPENED.alerts
    ),
)
REMINDED = replace(
    OPENED,
    id="nt-2",
    edge="repeat",
    at=START + timedelta(hours=4),
    trainer_did="skipped the optimizer step at update 1099",
    status="running",
)


def receiver(kind):
    if kind == "email":
        url = "smtp://mail.example.org?from=watch@example.org&to=ann@example.org"
        return ReceiverConfig("ops", kind, url)
    return ReceiverConfig("ops", kind, "https://hook.example.org/x", secret="ROUTING-KEY")


def fenced(kind, text):
    return f"```{kind}\n{text.rstrip()}\n```\n"


def as_json(body):
    return fenced("json", json.dumps(json.loads(body), indent=2, ensure_ascii=False))


def as_text(told):
    return fenced("text", f"{title(told)}\n\n{plain_text.body(told)}")


def mail():
    message = email_message.message(OPENED, receiver("email"))
    heads = [f"{name}: {value}" for name, value in message.items() if name != "Content-Type"]
    text = message.get_body(("plain",)).get_content()
    return fenced("text", "\n".join(heads) + f"\n\n{text}")


SHOWN = {
    "opened": lambda: as_text(OPENED),
    "warned": lambda: as_text(WARNED),
    "died": lambda: as_text(DIED),
    "silent": lambda: as_text(SILENT),
    "reminded": lambda: as_text(REMINDED),
    "resolved": lambda: as_text(RESOLVED),
    "email": mail,
    **{
        name: lambda body=body, name=name: as_json(body(OPENED, receiver(name)))
        for name, body in {
            "webhook": webhook.body,
            "alertmanager": alertmanager.body,
            "slack": slack.body,
            "discord": discord.body,
            "teams": teams.body,
            "pagerduty": pagerduty.body,
        }.items()
    },
}


def rendered(page):
    return BLOCK.sub(lambda found: found[1] + SHOWN[found[2]]() + found[4], page)


def test_the_page_shows_what_is_sent():
    page = PAGE.read_text(encoding="utf-8")
    if os.environ.get("WATCHSTEP_WRITE_DOCS") == "1":
        PAGE.write_text(rendered(page), encoding="utf-8")
        page = PAGE.read_text(encoding="utf-8")

    assert {found[2] for found in BLOCK.finditer(page)} == set(SHOWN)
    assert page == rendered(page)


@pytest.mark.parametrize("manner", [one.name for one in fields(NotifyConfig)])
def test_the_page_explains_every_manner_of_delivery(manner):
    # The receivers have chapters of their own; the other two are fixed and told in prose.
    if manner not in {"receivers", "at_once", "poll_s"}:
        assert f"`notify.{manner}`" in PAGE.read_text(encoding="utf-8")
