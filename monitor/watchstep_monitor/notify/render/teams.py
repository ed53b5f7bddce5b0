"""Microsoft Teams: an adaptive card for a Workflows webhook."""

from __future__ import annotations

from collections.abc import Mapping

from watchstep_monitor.notify.config import ReceiverConfig
from watchstep_monitor.notify.render.plain import dumped
from watchstep_monitor.notify.render.wording import weight, worded
from watchstep_monitor.service.ports import Notice

_COLOURS: Mapping[str, str] = {"critical": "attention", "warning": "warning", "info": "accent"}


def body(notice: Notice, receiver: ReceiverConfig) -> str:
    """The message around the card.

    All text is in rich text runs: those read no Markdown, so a name cannot make a link.
    """
    words = worded(notice)
    colour = "good" if notice.edge == "resolved" else _COLOURS[weight(notice)]
    title = {"size": "large", "weight": "bolder", "color": colour}
    lines = [_rich([_run(words.title, **title)])]
    lines += [
        _rich([_run(f"{label}: ", weight="bolder"), _run(text)]) for label, text in words.points
    ]
    lines += [
        _rich([_run(f"{metric} = ", fontType="monospace"), _run(value, weight="bolder")])
        for metric, value in words.readings
    ]
    lines += [_rich([_run(text, fontType="monospace", size="small")]) for text in words.traceback]
    lines.append(_rich([_run(words.footer, size="small", isSubtle=True)]))
    card: dict[str, object] = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": lines,
        "msteams": {"width": "Full"},
    }
    if words.links:
        card["actions"] = [
            {"type": "Action.OpenUrl", "title": name, "url": url} for name, url in words.links
        ]
    attachment = {
        "contentType": "application/vnd.microsoft.card.adaptive",
        "contentUrl": None,
        "content": card,
    }
    return dumped({"type": "message", "summary": words.title, "attachments": [attachment]})


def _rich(inlines: list[dict[str, object]]) -> dict[str, object]:
    return {"type": "RichTextBlock", "inlines": inlines}


def _run(text: str, **style: object) -> dict[str, object]:
    return {"type": "TextRun", "text": text, **style}
