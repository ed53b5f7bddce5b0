"""The ways out of the house: HTTP, mail, and whatever apprise knows."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from watchstep.errors import WatchstepError
from watchstep_monitor.notify import apprise as bridge
from watchstep_monitor.notify import mail, script, slack_bot
from watchstep_monitor.notify.config import NotifyConfig, ReceiverConfig
from watchstep_monitor.notify.outcomes import Answer
from watchstep_monitor.notify.post import Poster
from watchstep_monitor.notify.render import (
    Renderer,
    alertmanager,
    discord,
    email_message,
    github,
    pagerduty,
    slack,
    teams,
    webhook,
)
from watchstep_monitor.notify.signing import check_secrets, signed_headers
from watchstep_monitor.notify.targets import Resolver, in_daemon_thread
from watchstep_monitor.service.ports import Notice
from watchstep_monitor.settings.schema import ReceiverKind

log = logging.getLogger(__name__)

Chart = Callable[[Notice], bytes | None]
CHART_S = 2.0
"""Most seconds that a message waits for its picture."""

_RENDERERS: Mapping[ReceiverKind, Renderer] = {
    "webhook": webhook.body,
    "alertmanager": alertmanager.body,
    "slack": slack.body,
    "discord": discord.body,
    "teams": teams.body,
    "pagerduty": pagerduty.body,
    "github": github.body,
}


def check(receivers: Iterable[ReceiverConfig]) -> None:
    """Refuse at the start what would fail at the first message.

    Raises:
        ValueError: Naming the receiver and the key.
    """
    for receiver in receivers:
        if receiver.kind == "email":
            mail.mail_server(receiver)
        if receiver.kind == "slack" and receiver.secret.startswith("xox"):
            slack_bot.channel_of(receiver)
        if receiver.kind == "github" and not receiver.secret:
            raise ValueError(f"receivers.{receiver.name}.secret: the token is missing")
        if receiver.kind == "webhook":
            check_secrets(receiver)


class Carriers:
    """Carries one notice to one receiver; owned by the worker's loop."""

    def __init__(self, config: NotifyConfig, resolve: Resolver, chart: Chart) -> None:
        self._config = config
        self._resolve = resolve
        self._chart = chart
        self._allowed = config.networks()
        beating = (_heartbeat(config),) if config.heartbeat_url else ()
        self._poster = Poster((*config.receivers, *beating), config, resolve)

    async def carry(self, receiver: ReceiverConfig, notice: Notice, now: datetime) -> Answer:
        """One attempt, without a time limit of its own over the whole."""
        if receiver.kind == "email":
            message = email_message.message(notice, receiver, await self._drawn(notice))
            return await mail.send(
                receiver, message, self._resolve, self._allowed, self._config.timeout_s
            )
        if receiver.through_apprise:
            return await bridge.send(receiver, notice)
        if receiver.kind == "script":
            return await script.run(receiver.url, webhook.body(notice, receiver))
        body = _RENDERERS[receiver.kind](notice, receiver)
        if receiver.kind == "discord" and (png := await self._drawn(notice)) is not None:
            content, media_type = discord.with_chart(body, png)
            return await self._poster.post(receiver, content, {"content-type": media_type}, now)
        if receiver.kind == "slack" and receiver.secret.startswith("xox"):
            png = await self._drawn(notice)
            return await slack_bot.send(self._poster, receiver, body, png, now)
        headers = _headers(receiver, notice, body, now)
        return await self._poster.post(receiver, body.encode(), headers, now)

    async def _drawn(self, notice: Notice) -> bytes | None:
        """The chart, unless it takes too long: no message waits for a picture."""
        try:
            async with asyncio.timeout(min(CHART_S, self._config.timeout_s / 4)):
                return await in_daemon_thread(lambda: self._chart(notice))
        except TimeoutError:
            log.warning("a chart took too long", extra={"run": notice.run})
        except (
            ArithmeticError,
            LookupError,
            OSError,
            RuntimeError,
            TypeError,
            ValueError,
            WatchstepError,
        ) as error:
            log.warning("a chart broke", extra={"run": notice.run, "error": type(error).__name__})
        return None

    async def beat(self, now: datetime) -> Answer:
        """Say to who watches the service that it works."""
        return await self._poster.post(_heartbeat(self._config), b"{}", {}, now)

    async def aclose(self) -> None:
        await asyncio.shield(self._poster.aclose())


def _heartbeat(config: NotifyConfig) -> ReceiverConfig:
    # With a name that no receiver of the settings may have.
    return ReceiverConfig("heartbeat.url", "webhook", config.heartbeat_url)


def _headers(
    receiver: ReceiverConfig, notice: Notice, body: str, now: datetime
) -> Mapping[str, str]:
    if receiver.kind == "webhook":
        return signed_headers(notice.id, body, receiver.secret, now)
    if receiver.kind in {"alertmanager", "github"} and receiver.secret:
        return {"authorization": f"Bearer {receiver.secret}"}
    return {}
