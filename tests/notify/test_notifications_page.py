"""docs/notifications.md shows what is really sent: it is written from the renderers.

`WATCHSTEP_WRITE_DOCS=1 pytest tests/notify/test_notifications_page.py` writes it anew.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import fields, replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from notify.kit import START, alert, notice, receiver
from watchstep_monitor.notify import NotifyConfig
from watchstep_monitor.notify.dispatch import _RENDERERS as KINDS
from watchstep_monitor.notify.render import (
    email_message,
    plain_text,
)
from watchstep_monitor.notify.render.wording import title
from watchstep_monitor.service.alerting.links import LABELS

PAGE = Path(__file__).parents[2] / "docs" / "notifications.md"
BLOCK = re.compile(r"(<!-- shown: ([\w-]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)

bare = partial(alert, cause="", runbook_url="")
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
ON = {"host": "gpu-12", "user": "ann"}
OPENED = notice(
    **ON,
    first_step=10_980,
    first_update=1_098,
    last_step=11_000,
    links={
        "run": "https://watch.example.org/runs/ppo-7",
        **{
            name: f"https://watch.example.org/act/ppo-7/in_0/{act}/1796011867/0"
            for act, name in LABELS.items()
        },
    },
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
    first_step=10_990,
    first_update=1_099,
    last_step=10_990,
    **ON,
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
        bare(
            rule="TrainerFailed",
            metric="",
            action="none",
            summary="The trainer died of an exception.",
            reason='event("failed")',
            first_update=1210,
            last_update=1210,
        ),
    ),
    stage="aftermath",
    diagnosis="",
    readings={},
    trainer_did="died at update 1210",
    status="failed",
    first_step=12_100,
    first_update=1_210,
    last_step=12_100,
    error="torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB",
    oom="device",
    traceback="Traceback (most recent call last):\n"
    '  File "train.py", line 212, in step\n'
    "    loss = model(batch)\n"
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB",
    **ON,
)
HUNG = replace(
    DIED,
    id="nt-6",
    run="llm-3",
    alerts=(
        replace(
            DIED.alerts[0],
            rule="RunStalled",
            run="llm-3",
            summary="The training loop stands still.",
            reason="No update for 720 s while backward: it hangs in train.py:212 all_reduce.",
        ),
    ),
    trainer_did="",
    status="stalled",
    error="",
    oom="",
    traceback="",
    hung={"since_s": 720.0, "innermost": "train.py:212 all_reduce", "moving": False},
)
SILENT = replace(
    HUNG,
    id="nt-5",
    run="ppo-7",
    alerts=(
        replace(
            DIED.alerts[0],
            rule="RunStalled",
            summary="The run has gone silent without saying that it finished.",
            reason="stalled()",
        ),
    ),
    checkpoint=None,
    status="lost",
    heard_at=START - timedelta(minutes=5),
    hung=None,
)
NAN = notice(
    id="nt-7",
    run="gpt-2",
    alerts=(
        bare(
            rule="LossNonFinite",
            run="gpt-2",
            metric="train/loss",
            reading=float("nan"),
            summary="A loss, the KL or an advantage statistic is no longer a finite number.",
            reason="train/loss = NaN",
            first_update=2137,
        ),
    ),
    diagnosis="",
    readings={"train/loss": float("nan")},
    checkpoint={"path": "ckpt/step-2100.pt", "step": 2100, "sha256": "cd" * 32},
    trainer_did="halted at update 2138",
    first_step=2137,
    first_update=2137,
    last_step=2138,
    **ON,
)
PREEMPTED = notice(
    id="nt-8",
    edge="preempted",
    alerts=(),
    stage="",
    diagnosis="",
    readings={},
    trainer_did="preempted at update 1210 by SIGTERM",
    status="preempted",
    last_step=12_100,
    **ON,
)
RESOLVED = replace(
    OPENED,
    id="nt-3",
    edge="resolved",
    at=START + timedelta(minutes=42),
    alerts=tuple(
        replace(each, state="resolved", resolved_at=START + timedelta(minutes=42))
        for each in OPENED.alerts
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


def fenced(kind, text):
    return f"```{kind}\n{text.rstrip()}\n```\n"


def as_json(body):
    return fenced("json", json.dumps(json.loads(body), indent=2, ensure_ascii=False))


def as_text(message):
    return fenced("text", f"{title(message)}\n\n{plain_text.body(message)}")


def mail():
    message = email_message.message(OPENED, receiver("email"))
    heads = [f"{name}: {value}" for name, value in message.items() if name != "Content-Type"]
    text = message.get_body(("plain",)).get_content()
    return fenced("text", "\n".join(heads) + f"\n\n{text}")


SHOWN = {
    "opened": lambda: as_text(OPENED),
    "warned": lambda: as_text(WARNED),
    "died": lambda: as_text(DIED),
    "nan": lambda: as_text(NAN),
    "hung": lambda: as_text(HUNG),
    "silent": lambda: as_text(SILENT),
    "preempted": lambda: as_text(PREEMPTED),
    "reminded": lambda: as_text(REMINDED),
    "resolved": lambda: as_text(RESOLVED),
    "email": mail,
    **{
        name: lambda body=body, name=name: as_json(body(OPENED, receiver(name)))
        for name, body in KINDS.items()
        if name != "github"
    },
}


def rendered(page):
    return BLOCK.sub(lambda match: match[1] + SHOWN[match[2]]() + match[4], page)


def test_the_page_shows_what_is_sent():
    page = PAGE.read_text(encoding="utf-8")
    if os.environ.get("WATCHSTEP_WRITE_DOCS") == "1":
        PAGE.write_text(rendered(page), encoding="utf-8")
        page = PAGE.read_text(encoding="utf-8")

    assert {match[2] for match in BLOCK.finditer(page)} == set(SHOWN)
    assert page == rendered(page)


@pytest.mark.parametrize("manner", [field.name for field in fields(NotifyConfig)])
def test_the_page_explains_every_manner_of_delivery(manner):
    # The others have sections of their own, or are fixed.
    if manner not in {"receivers", "at_once", "poll_s", "heartbeat_url", "heartbeat_s"}:
        assert f"`notify.{manner}`" in PAGE.read_text(encoding="utf-8")
