"""A Discord webhook: one embed.

Limits, as Discord documents them: title 256 characters, description 4,096, 25 fields with
names of 256 and values of 1,024, 6,000 over all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

import httpx

from watchstep_monitor.notify.config import ReceiverConfig
from watchstep_monitor.notify.render.alertmanager import moment
from watchstep_monitor.notify.render.plain import clip, dumped
from watchstep_monitor.notify.render.wording import weight, worded
from watchstep_monitor.service.ports import Notice

_MARKUP = re.compile(r"([\\*_~`|>\[\]#<@:])")
_COLOURS: Mapping[str, int] = {"critical": 0xC0392B, "warning": 0xD68910, "info": 0x2E86C1}
_RESOLVED_COLOUR = 0x239B56


def body(notice: Notice, receiver: ReceiverConfig) -> str:
    """One embed that can ring nobody, whatever a name in it says."""
    words = worded(notice)
    lines = [f"**{label}**  {_plain(text, 600)}" for label, text in words.points]
    if words.traceback:
        code = "\n".join(words.traceback).replace("`", "'")
        lines.append(f"```\n{code}\n```")
    if words.links:
        lines.append(" · ".join(f"[{_plain(name, 60)}]({url})" for name, url in words.links))
    embed: dict[str, object] = {
        "title": _plain(words.title, 256),
        "description": "\n".join(lines)[:4096],
        "color": _RESOLVED_COLOUR if notice.edge == "resolved" else _COLOURS[weight(notice)],
        "fields": [
            {"name": _plain(name, 256), "value": value, "inline": True}
            for name, value in words.readings
        ],
        # Footers show their text as it is.
        "footer": {"text": clip(words.footer, 300)},
        "timestamp": moment(notice.at),
    }
    return dumped({"embeds": [embed], "allowed_mentions": {"parse": []}})


def with_chart(body: str, png: bytes) -> tuple[bytes, str]:
    """The body with a picture in its embed, as a form of several parts; and the media type."""
    document = json.loads(body)
    document["embeds"][0]["image"] = {"url": "attachment://chart.png"}
    form = httpx.Request(
        "POST",
        "https://discord.invalid",
        data={"payload_json": dumped(document)},
        files={"files[0]": ("chart.png", png, "image/png")},
    )
    return form.read(), form.headers["content-type"]


def _plain(text: str, limit: int) -> str:
    """Text in which Discord finds no markup; cut before a lone backslash."""
    shown = clip(text, limit)
    while len(escaped := _MARKUP.sub(r"\\\1", shown)) > limit:
        shown = clip(shown, len(shown) - (len(escaped) - limit + 1) // 2 - 1)
    return escaped
