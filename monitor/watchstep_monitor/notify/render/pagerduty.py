"""PagerDuty's Events API v2: one incident of ours is one of theirs.

Limits, as PagerDuty documents them: summary 1,024 characters, `dedup_key` 255, an event
512 kB.
"""

from __future__ import annotations

from watchstep_monitor.notify.config import ReceiverConfig
from watchstep_monitor.notify.render.alertmanager import moment
from watchstep_monitor.notify.render.plain import clip, dumped, line
from watchstep_monitor.notify.render.wording import weight, worded
from watchstep_monitor.service.ports import Notice


def body(notice: Notice, receiver: ReceiverConfig) -> str:
    """A trigger while the incident is open, a resolve at its end, under one key."""
    words = worded(notice)
    details: dict[str, object] = {
        **dict(words.points),
        "readings": dict(words.readings),
        "traceback": list(words.traceback),
        "alerts": [line(alert.rule) for alert in notice.alerts[:20]],
        "about": words.footer,
    }
    return dumped(
        {
            "routing_key": receiver.secret,
            "event_action": "resolve" if notice.edge == "resolved" else "trigger",
            "dedup_key": clip(line(notice.incident), 255),
            "client": "watchstep",
            "links": [{"href": url, "text": name} for name, url in words.links],
            "payload": {
                "summary": clip(words.title, 1024),
                "source": line(notice.run),
                "severity": weight(notice),
                "timestamp": moment(notice.at),
                "component": line(notice.run),
                "group": line(notice.project),
                "class": notice.stage,
                "custom_details": details,
            },
        }
    )
