"""What a program that watches a run is told: short, and with what a verdict rests on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from watchstep.cli.tables import ago

MOST_BYTES = 2_000
"""Of one answer: an agent pays for every byte, and reads the rest by `next_cursor` if it must."""

_LONGEST_TEXTS = (400, 200, 100, 60)
_SEVERITIES = ("critical", "warning", "info")
NOT_ENOUGH = "not-enough-evidence"


def answer(
    head: Mapping[str, Any],
    name: str,
    items: Sequence[Any],
    *,
    skip: int = 0,
    page: str = "",
    next_page: str | None = None,
) -> str:
    """A head and as many of the items as fit, as JSON of at most `MOST_BYTES`.

    Args:
        head: What is said whatever fits; its texts, and those of items, are cut where they must be.
        name: What the items are called.
        items: Those of one page.
        skip: How many of them were told before.
        page: The service's cursor of that page.
        next_page: Its cursor of the next one.
    """
    for longest in _LONGEST_TEXTS:
        lead, rest = cut(dict(head), longest), [cut(item, longest) for item in items[skip:]]
        for shown in range(len(rest), -1, -1):
            cursor = next_page and f"0.{next_page}"
            if shown < len(rest):
                cursor = f"{skip + shown}.{page}"
            text = _json({**lead, name: rest[:shown], "next_cursor": cursor or None})
            if len(text.encode()) <= MOST_BYTES:
                if shown or not rest:
                    return text
                break
    return _json({**cut(dict(head), 40), name: [], "next_cursor": None})[:MOST_BYTES]


def place(cursor: str) -> tuple[int, str]:
    """How many items to skip, and of which page of the service's.

    Raises:
        ValueError: No answer gave this cursor.
    """
    skip, _, page = (cursor or "0.").partition(".")
    if not skip.isdigit() or not skip.isascii():
        raise ValueError("cursor: must be the next_cursor of an answer")
    return int(skip[:9]), page


def run_line(run: Mapping[str, Any]) -> dict[str, Any]:
    """A run in a list."""
    return _without_empty(
        run=run["run"],
        project=run["project"],
        status=run["status"],
        health=run["health"],
        step=run["step"],
        last_heard=_since(run.get("last_heard_at")),
        error=run["error"],
    )


def run_head(run: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of a run beside its alerts, and what the verdict does not cover."""
    incident, pin = run["incident"] or {}, run["checkpoint"] or {}
    unseen = sorted(name for name, reading in run["readings"].items() if reading["zone"] is None)
    return {
        **run_line(run),
        **_without_empty(
            attempt=run["attempt"],
            last_update=_since(run.get("last_update_at")),
            lost_updates=run["counts"]["lost"] or None,
            trainer_did=run["trainer_did"],
            asked=[command["kind"] for command in run["commands"]],
            pinned_checkpoint=pin.get("path"),
            incident=incident and _verdict(incident),
        ),
        "not_judged": {"metrics": len(unseen), "such_as": unseen[:5]},
        "advice": advice(run),
    }


def advice(run: Mapping[str, Any]) -> str:
    """What can be concluded from a run's state, and what cannot."""
    if run["status"] in ("lost", "stalled"):
        heard = ago(run.get("last_update_at"))
        return f"No update for {heard}: nothing is known of the training since then."
    if run["health"] == "unjudged":
        return "Too few readings to judge; this is neither good nor bad news."
    if any(alert["severity"] == "critical" for alert in run["alerts"]):
        return "A critical alert fires: read its reading and the incident's evidence before acting."
    if run["alerts"]:
        return "No critical alert fires. Warnings alone are no reason to halt."
    return "No alert fires. A plateau is no reason to halt."


def alert_line(alert: Mapping[str, Any]) -> dict[str, Any]:
    """An alert with what it rests on."""
    return _without_empty(
        id=alert["id"],
        run=alert["run"],
        rule=alert["rule"],
        severity=alert["severity"],
        state=alert["state"],
        first_update=alert["first_update"],
        metric=alert["metric"],
        reading=alert["reading"],
        evidence=alert["reason"],
        summary=alert["summary"],
        cause=alert["cause"],
        acknowledged_by=alert["acknowledged_by"],
        silenced=alert["silenced"],
    )


def worst_first(alerts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A run's alerts without its name, the weightiest first, and of those the earliest."""
    ordered = sorted(
        alerts, key=lambda alert: (_SEVERITIES.index(alert["severity"]), alert["first_update"])
    )
    return [
        {name: value for name, value in alert_line(alert).items() if name not in ("run", "state")}
        for alert in ordered
    ]


def incident_head(incident: Mapping[str, Any]) -> dict[str, Any]:
    """An incident beside its causes."""
    return {
        **_without_empty(
            id=incident["id"],
            run=incident["run"],
            state=incident["state"],
            severity=incident["severity"],
            opened=_since(incident["opened_at"]),
            damage_update=incident["damage_update"],
            stages=[
                f"{phase['stage']}: {phase['first_update']} to {phase['last_update']}"
                for phase in incident["stages"]
            ],
        ),
        **_verdict(incident),
    }


def cause_line(cause: Mapping[str, Any]) -> dict[str, Any]:
    """A likely cause with what speaks for and against it."""
    return _without_empty(
        cause=cause["cause"],
        confidence=cause["confidence"],
        evidence=list(cause["evidence"])[:6],
        against=list(cause.get("against", ()))[:4],
    )


def point(reading: Mapping[str, Any]) -> list[Any]:
    """Step and value; six digits are enough to see a course."""
    value = reading["value"]
    return [reading["step"], float(f"{value:.6g}") if isinstance(value, float) else value]


def examined(run: Mapping[str, Any]) -> dict[str, Any]:
    """A post-mortem's verdict beside its causes."""
    critical = [alert for alert in run["alerts"] if alert["severity"] == "critical"]
    return {
        "verdict": run["verdict"],
        "enough_evidence": run["verdict"] != "unjudged" and _is_sure(run["causes"]),
        "updates": run["updates"],
        # As the log prints them, which mostly are the trainer's steps.
        "numbered_by": run.get("unit", "update"),
        "first_bad_update": run["first_bad_update"],
        "last_good_update": run["last_good_update"],
        "would_have_halted": run["halt"],
        "critical": [f"{alert['rule']} at {alert['first_update']}" for alert in critical[:5]],
        "not_judged": list(run["not_checked"])[:5],
    }


def _verdict(incident: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "stage": incident["stage"],
        "diagnosis": incident["diagnosis"] or NOT_ENOUGH,
        "confidence": incident["confidence"],
        "enough_evidence": _is_sure(incident["causes"]),
        "first_bad_update": incident["first_bad_update"],
        "last_good_update": incident["last_good_update"],
    }


def _is_sure(causes: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the likeliest cause is one, and not the admission that there is none."""
    return bool(causes) and causes[0]["cause"] != NOT_ENOUGH


def cut(value: Any, longest: int) -> Any:
    """The same with every text in it at most so long."""
    if isinstance(value, str):
        return value if len(value) <= longest else f"{value[: longest - 1]}…"
    if isinstance(value, Mapping):
        return {name: cut(part, longest) for name, part in value.items()}
    if isinstance(value, list):
        return [cut(part, longest) for part in value]
    return value


def _since(moment: str | None) -> str:
    return f"{ago(moment)} ago" if moment else "never"


def _without_empty(**fields: Any) -> dict[str, Any]:
    # 0 says something, and equals False.
    return {
        name: value
        for name, value in fields.items()
        if value is not None and value is not False and value not in ("", [], {})
    }


def _json(document: Mapping[str, Any]) -> str:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False)
