"""A comment on an issue of GitHub: Markdown in which no name mentions anybody."""

from __future__ import annotations

import re

from watchstep_monitor.notify.config import ReceiverConfig
from watchstep_monitor.notify.render.plain import dumped
from watchstep_monitor.notify.render.wording import worded
from watchstep_monitor.service.ports import Notice

_MARKUP = re.compile(r"([\\`*_{}\[\]()<>#|~!])")


def body(notice: Notice, receiver: ReceiverConfig) -> str:
    """What `POST /repos/OWNER/NAME/issues/NUMBER/comments` takes."""
    words = worded(notice)
    lines = [f"**{_plain(words.title)}**", ""]
    lines += [f"- **{label}**: {_plain(text)}" for label, text in words.points]
    lines += [f"- {_plain(metric)} = {_plain(value)}" for metric, value in words.readings]
    if words.traceback:
        lines += ["", "```", *(text.replace("`", "'") for text in words.traceback), "```"]
    links = " · ".join(f"[{_plain(name)}]({url})" for name, url in words.links)
    lines += ["", *([links, ""] if links else []), f"<sub>{_plain(words.footer)}</sub>"]
    return dumped({"body": "\n".join(lines)})


def _plain(text: str) -> str:
    # A zero-width space keeps "@name" and "owner/name#1" from becoming mentions.
    return _MARKUP.sub(r"\\\1", text.replace("@", "@\u200b").replace("#", "#\u200b"))
