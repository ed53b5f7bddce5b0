"""Slack's Block Kit, for an incoming webhook.

Limits, from Slack's own client library: header 150 characters, section 3,000, ten fields
of 2,000 each, 50 blocks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from watchstep_monitor.notify.config import ReceiverConfig
from watchstep_monitor.notify.render.plain import dumped
from watchstep_monitor.notify.render.wording import worded
from watchstep_monitor.service.ports import Notice

_HEADER, _SECTION, _FIELDS = 150, 3000, 10
# Slack's control characters, and the only ones: `<!channel>` in a run's name rings everybody.
_ENTITIES: Mapping[int, str] = {ord("&"): "&amp;", ord("<"): "&lt;", ord(">"): "&gt;"}
_TORN_ENTITY = re.compile(r"&[a-z]{0,3}$")


def body(notice: Notice, receiver: ReceiverConfig) -> str:
    """Blocks, and a `text` for lock screens and screen readers."""
    words = worded(notice)
    title = escaped(words.title, _HEADER)
    points = "\n".join(f"*{label}*  {escaped(text, 450)}" for label, text in words.points)
    blocks: list[dict[str, object]] = [
        {"type": "header", "text": {"type": "plain_text", "text": title, "emoji": False}}
    ]
    if points:
        blocks.append({"type": "section", "text": _mrkdwn(_cut(points, _SECTION))})
    if words.readings:
        pairs = words.readings[:_FIELDS]
        fields = [_mrkdwn(f"{escaped(name, 140)}\n*{value}*") for name, value in pairs]
        blocks.append({"type": "section", "fields": fields})
    if words.traceback:
        code = escaped("\n".join(words.traceback).replace("`", "'"), _SECTION - 10)
        blocks.append({"type": "section", "text": _mrkdwn(f"```{code}```")})
    links = " · ".join(
        f"<{url.replace('&', '&amp;')}|{escaped(name, 40)}>" for name, url in words.links
    )
    context = [escaped(words.footer, 300), *([links] if links else [])]
    blocks.append({"type": "context", "elements": [_mrkdwn(text) for text in context]})
    return dumped({"text": title, "blocks": blocks})


def escaped(text: str, limit: int) -> str:
    """The text with Slack's control characters made harmless, and cut between characters."""
    return _cut(text.translate(_ENTITIES), limit)


def _cut(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    return _TORN_ENTITY.sub("", text[: limit - 1]) + "…"


def _mrkdwn(text: str) -> dict[str, object]:
    # Verbatim: no channel or address is made of what merely looks like one.
    return {"type": "mrkdwn", "text": text, "verbatim": True}
