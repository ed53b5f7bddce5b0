"""Slack by a bot's token: the message, and the chart as a file in its thread.

An incoming webhook, the other way to Slack, takes no files.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from watchstep_monitor.notify.config import ReceiverConfig
from watchstep_monitor.notify.outcomes import Answer, Refused, Taken
from watchstep_monitor.notify.post import Poster

log = logging.getLogger(__name__)

FILE_S = 4.0
"""Most seconds for the file, so that the attempt at the message, which has arrived, ends well."""

_WORD = re.compile(r"[a-z_]{1,60}")
_PASSING = frozenset(
    {"ratelimited", "internal_error", "fatal_error", "service_unavailable", "request_timeout"}
)


def channel_of(receiver: ReceiverConfig) -> str:
    """The channel that the address names.

    Raises:
        ValueError: It names none.
    """
    channel = parse_qs(urlsplit(receiver.url).query).get("channel", [""])[-1]
    if not channel:
        raise ValueError(f"receivers.{receiver.name}.url: with a token it needs ?channel=")
    return channel


async def send(
    poster: Poster, receiver: ReceiverConfig, body: str, png: bytes | None, now: datetime
) -> Answer:
    """Post a message; a file that fails does not fail it."""
    bot = _Bot(poster, receiver, now)
    message = {**json.loads(body), "channel": channel_of(receiver)}
    reply = await bot.call("chat.postMessage", message)
    if isinstance(reply, Refused):
        return reply
    if png is not None:
        try:
            async with asyncio.timeout(FILE_S):
                trouble = await bot.attach(png, str(reply.get("channel")), str(reply.get("ts")))
        except TimeoutError:
            trouble = Refused("no answer in time")
        if trouble is not None:
            log.warning(
                "a chart was not taken",
                extra={"receiver": receiver.name, "reason": trouble.reason},
            )
    return Taken()


class _Bot:
    """Slack's Web API for one receiver."""

    def __init__(self, poster: Poster, receiver: ReceiverConfig, now: datetime) -> None:
        self._poster, self._receiver, self._now = poster, receiver, now
        self._api = receiver.url.partition("?")[0].rpartition("/")[0]

    async def call(
        self, method: str, fields: Mapping[str, Any], *, form: bool = False
    ) -> dict[str, Any] | Refused:
        """Slack answers 200 to what it refuses, and says so in the body."""
        kind = "x-www-form-urlencoded" if form else "json; charset=utf-8"
        headers = {
            "authorization": f"Bearer {self._receiver.secret}",
            "content-type": f"application/{kind}",
        }
        text = urlencode(fields) if form else json.dumps(fields)
        reply = await self._poster.ask(
            self._receiver, f"{self._api}/{method}", text.encode(), headers, self._now
        )
        if isinstance(reply, Refused):
            return reply
        try:
            document = json.loads(reply)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            return Refused("its answer is not Slack's")
        if document.get("ok") is True:
            return document
        error = str(document.get("error"))
        word = error if _WORD.fullmatch(error) else "an unknown error"
        return Refused(f"Slack says {word}", permanent=word not in _PASSING)

    async def attach(self, png: bytes, channel: str, thread: str) -> Refused | None:
        """Upload a file and show it in the thread of the message."""
        place = await self.call(
            "files.getUploadURLExternal",
            {"filename": "chart.png", "length": len(png)},
            form=True,
        )
        if isinstance(place, Refused):
            return place
        uploaded = await self._poster.ask(
            self._receiver,
            str(place.get("upload_url")),
            png,
            {"content-type": "image/png"},
            self._now,
        )
        if isinstance(uploaded, Refused):
            return uploaded
        files = [{"id": str(place.get("file_id")), "title": "chart"}]
        done = await self.call(
            "files.completeUploadExternal",
            {"files": files, "channel_id": channel, "thread_ts": thread},
        )
        return done if isinstance(done, Refused) else None
