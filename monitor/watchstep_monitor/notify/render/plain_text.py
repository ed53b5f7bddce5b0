"""The message as plain text: for mail, and for what apprise speaks to."""

from __future__ import annotations

from watchstep_monitor.notify.render.wording import worded
from watchstep_monitor.service.ports import Notice


def title(notice: Notice) -> str:
    return worded(notice).title


def body(notice: Notice) -> str:
    """All points, readings and links, a line each."""
    words = worded(notice)
    lines = [f"{label}: {text}" for label, text in words.points]
    if words.readings:
        lines += ["", *(f"  {metric} = {value}" for metric, value in words.readings)]
    if words.traceback:
        lines += ["", *(f"  {text}" for text in words.traceback)]
    if words.links:
        lines += ["", *(f"{name}: {url}" for name, url in words.links)]
    return "\n".join([*lines, "", words.footer, ""])
