"""The ways out of the house: HTTP, mail, and whatever apprise knows."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from datetime import datetime

from watchstep_monitor.notify import apprise as bridge
from watchstep_monitor.notify import mail
from watchstep_monitor.notify.config import NotifyConfig, ReceiverConfig, ReceiverKind
from watchstep_monitor.notify.outcomes import Answer
from watchstep_monitor.notify.post import Poster
from watchstep_monitor.notify.render import (
    Renderer,
    alertmanager,
    discord,
    email_message,
    pagerduty,
    slack,
    teams,
    webhook,
)
from watchstep_monitor.notify.signing import check_secrets, signed_headers
from watchstep_monitor.notify.targets import Resolver
from watchstep_monitor.service.ports import Notice

_RENDERERS: Mapping[ReceiverKind, Renderer] = {
    "webhook": webhook.body,
    "alertmanager": alertmanager.body,
    "slack": slack.body,
    "discord": discord.body,
    "teams": teams.body,
    "pagerduty": pagerduty.body,
}


def check(receivers: Iterable[ReceiverConfig]) -> None:
    """Refuse at the start what would fail at the first message.

    Raises:
        ValueError: Naming the receiver and the key.
    """
    for receiver in receivers:
        if receiver.kind == "email":
            mail.mail_server(receiver)
        if receiver.kind == "webhook":
            check_secrets(receiver)


class Carriers:
    """Carries one notice to one receiver; owned by the worker's loop."""

    def __init__(self, config: NotifyConfig, resolve: Resolver) -> None:
        self._config = config
        self._resolve = resolve
        self._allowed = config.networks()
        self._poster = Poster(config, resolve)

    async def carry(self, receiver: ReceiverConfig, notice: Notice, now: datetime) -> Answer:
        """One attempt, without a time limit of its own over the whole."""
        if receiver.kind == "email":
            message = email_message.message(notice, receiver)
            return await mail.send(
                receiver, message, self._resolve, self._allowed, self._config.timeout_s
            )
        if receiver.kind == "apprise":
            return await bridge.send(receiver, notice)
        body = _RENDERERS[receiver.kind](notice, receiver)
        return await self._poster.post(receiver, body, _headers(receiver, notice, body, now), now)

    async def aclose(self) -> None:
        """Close every connection."""
        await asyncio.shield(self._poster.aclose())


def _headers(
    receiver: ReceiverConfig, notice: Notice, body: str, now: datetime
) -> Mapping[str, str]:
    if receiver.kind == "webhook":
        return signed_headers(notice.id, body, receiver.secret, now)
    if receiver.kind == "alertmanager" and receiver.secret:
        return {"authorization": f"Bearer {receiver.secret}"}
    return {}
