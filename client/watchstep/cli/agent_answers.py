"""What a program that watches a run is told: short, and with what a verdict rests on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from watchstep.cli.tables import ago
from watchstep.core.diagnosis import NOT_ENOUGH

MOST_BYTES = 2_000
"""Of one answer: an agent pays for every byte, and reads the rest by `next_cursor` if it must."""

_LONGEST_TEXTS = (400, 200, 100, 60)
_SEVERITIES = ("critical", "warning", "info")
_VERDICT = (
    "verdict",
    "updates",
    "unit",
    "first_bad_update",
    "last_good_update",
    "halt_update",
    "failure",
)


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
        skip: How many of them were told before.
        page: The service's cursor of that page.
        next_page: Its cursor of the next one.
    """
    text = ""
    for longest in _LONGEST_TEXTS:
        lead, rest = _cut(dict(head), longest), [_cut(item, longest) for item in items[skip:]]
        for shown in range(len(rest), -1, -1):
            following = f"0.{next_page}" if next_page else None
            cursor = f"{skip + shown}.{page}" if shown < len(rest) else following
            text = _json({**lead, name: rest[:shown], "next_cursor": cursor})
            if len(text.encode()) <= MOST_BYTES and (shown or not rest):
                return text
    return text


def place(cursor: str) -> tuple[int, str]:
    """How many items to skip, and of which page of the service's.

    Raises:
        ValueError: No answer gave this cursor.
    """
    skip, _, page = (cursor or "0.").partition(".")
    if not (skip.isascii() and skip.isdigit()):
        raise ValueError("cursor: must be the next_cursor of an answer")
    return int(skip[:9]), page


def run_line(run: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **_chosen(run, "run", "project", "status", "health", "step", "error"),
        "last_heard": _since(run.get("last_heard_at")),
    }


def run_head(run: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of a run beside its alerts, and what the verdict does not cover."""
    more = {
        "lost_updates": run["counts"]["lost"] or None,
        "asked": [command["kind"] for command in run["commands"]],
        "pinned_checkpoint": (run["checkpoint"] or {}).get("path"),
        "incident": run["incident"] and _cause_of(run["incident"]),
    }
    return {
        **run_line(run),
        **_chosen(run, "attempt", "trainer_did"),
        **_chosen(more),
        **bounds(run),
    }


def bounds(run: Mapping[str, Any]) -> dict[str, Any]:
    """How old the news of a run is, what nobody looks at, and what can be concluded."""
    unseen = sorted(name for name, reading in run["readings"].items() if reading["zone"] is None)
    return {
        "last_heard": _since(run.get("last_heard_at")),
        "last_update": _since(run.get("last_update_at")),
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
    named = ("id", "run", "rule", "severity", "state", "first_update", "metric")
    return {
        **_chosen(alert, *named),
        "reading": _short(alert["reading"]),
        "evidence": alert["reason"],
        **_chosen(alert, "summary", "cause", "acknowledged_by", "silenced"),
    }


def worst_first(alerts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A run's alerts without its name, the weightiest first, and of those the earliest."""
    ordered = sorted(
        alerts, key=lambda alert: (_SEVERITIES.index(alert["severity"]), alert["first_update"])
    )
    lines = [alert_line(alert) for alert in ordered]
    return [{key: line[key] for key in line if key not in ("run", "state")} for line in lines]


def incident_head(incident: Mapping[str, Any]) -> dict[str, Any]:
    """An incident beside its causes."""
    stages = [
        f"{phase['stage']}: {phase['first_update']} to {phase['last_update']}"
        for phase in incident["stages"]
    ]
    return {
        **_chosen(incident, "id", "run", "state", "severity", "damage_update"),
        "opened": _since(incident["opened_at"]),
        "stages": stages,
        **_cause_of(incident),
    }


def cause_line(cause: Mapping[str, Any]) -> dict[str, Any]:
    return _chosen(cause, "cause", "confidence", "evidence", "against")


def point(reading: Mapping[str, Any]) -> list[Any]:
    return [reading["step"], _short(reading["value"])]


def examined(run: Mapping[str, Any]) -> dict[str, Any]:
    """A post-mortem's verdict beside its causes; its updates are numbered by `unit`."""
    critical = [alert for alert in run["alerts"] if alert["severity"] == "critical"]
    return {
        **{name: run.get(name) for name in _VERDICT},
        "enough_evidence": run["verdict"] != "unjudged" and _is_sure(run["causes"]),
        "critical": [f"{alert['rule']} at {alert['first_update']}" for alert in critical[:5]],
        "not_judged": list(run["not_checked"])[:5],
    }


def _cause_of(incident: Mapping[str, Any]) -> dict[str, Any]:
    named = ("stage", "confidence", "first_bad_update", "first_bad_step", "last_good_update")
    return {
        "diagnosis": incident["diagnosis"] or NOT_ENOUGH,
        "enough_evidence": _is_sure(incident["causes"]),
        **{name: incident[name] for name in named},
    }


def _is_sure(causes: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the likeliest cause is one, and not the admission that there is none."""
    return bool(causes) and causes[0]["cause"] != NOT_ENOUGH


def _chosen(document: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Fields of a document, all if none is named, without those that say nothing."""
    chosen = {name: document.get(name) for name in names or document}
    # 0 says something, and equals False.
    return {
        name: value
        for name, value in chosen.items()
        if value is not None and value is not False and value not in ("", [], {})
    }


def _short(value: Any) -> Any:
    """Six digits are enough to see a course."""
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _cut(value: Any, longest: int) -> Any:
    """The same with every text in it at most so long."""
    if isinstance(value, str):
        return value if len(value) <= longest else f"{value[: longest - 1]}…"
    if isinstance(value, Mapping):
        return {name: _cut(part, longest) for name, part in value.items()}
    return [_cut(part, longest) for part in value[:8]] if isinstance(value, list) else value


def _since(moment: str | None) -> str:
    return f"{ago(moment)} ago" if moment else "never"


def _json(document: Mapping[str, Any]) -> str:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False)
