"""Who is told, and how hard we try: the receivers and the manners of delivery."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from watchstep_monitor.settings.schema import ReceiverKind

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

PAGERDUTY_EVENTS = "https://events.pagerduty.com/v2/enqueue"
"""Where PagerDuty takes events of its API v2, unless the receiver names another place."""

_ALERTMANAGER_PATH = "/api/v2/alerts"
_SCHEMES: Mapping[str, tuple[str, ...]] = {"email": ("smtp", "smtps")}
_FORMS = {
    "ntfy": "ntfy://TOPIC, ntfys://HOST/TOPIC or https://HOST/TOPIC",
    "telegram": "tgram://BOT_TOKEN/CHAT_ID",
    "pushover": "pover://USER_KEY@APP_TOKEN",
}
"""Addresses of the kinds that are sent through apprise, in its own form."""


@dataclass(frozen=True, slots=True)
class ReceiverConfig:
    """One receiver of the settings.

    `url` and `secret` stay out of `repr`, so that no log line or traceback shows them.

    Attributes:
        name: What logs, errors, gauges and REST call it.
        url: For `email` it is `smtp://[user@]host[:port]?from=A&to=B,C` (`smtps` for TLS from
            the first byte); for `alertmanager` the server's base address; for `pagerduty` it
            may be empty; for `github` that of an issue's comments in GitHub's API; for `script`
            a program's path; for `ntfy`, `telegram`, `pushover` and `apprise` apprise's own form
            of address. Else where to POST.
        secret: Signing keys of a webhook, separated by spaces while they are rotated; bearer
            token of an Alertmanager or of GitHub; PagerDuty's routing key; password of a mail
            account.
    """

    name: str
    kind: ReceiverKind
    url: str = field(default="", repr=False)
    secret: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        """Refuse what could never deliver.

        Raises:
            ValueError: Naming the receiver and the key, never the address or the secret.
        """
        if self.kind == "pagerduty":
            if not self.secret:
                raise ValueError(f"receivers.{self.name}.secret: the routing key is missing")
            if not self.url:
                object.__setattr__(self, "url", PAGERDUTY_EVENTS)
        self._check_url()
        if self.kind == "alertmanager":
            base = self.url.rstrip("/").removesuffix(_ALERTMANAGER_PATH)
            object.__setattr__(self, "url", base + _ALERTMANAGER_PATH)

    @property
    def through_apprise(self) -> bool:
        return self.kind == "apprise" or self.kind in _FORMS

    def _check_url(self) -> None:
        if self.kind == "script":
            if not os.access(self.url, os.X_OK) or not Path(self.url).is_absolute():
                raise ValueError(f"receivers.{self.name}.url: is no absolute path of a program")
            return
        if self.through_apprise:
            self._check_form()
            return
        schemes = _SCHEMES.get(self.kind, ("http", "https"))
        try:
            parts = urlsplit(self.url)
            usable = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if not usable:
            allowed = " or ".join(f"{scheme}://HOST/…" for scheme in schemes)
            # From None: urlsplit's own message quotes the address.
            raise ValueError(f"receivers.{self.name}.url: must look like {allowed}") from None

    def _check_form(self) -> None:
        if self.kind == "ntfy" and self.url.startswith("https://"):
            object.__setattr__(self, "url", f"ntfys{self.url.removeprefix('https')}")
        form = _FORMS.get(self.kind, "")
        scheme, _, rest = self.url.partition("://")
        if form and (f"{scheme}://" not in form or not rest.strip("/")):
            raise ValueError(f"receivers.{self.name}.url: must look like {form}")


@dataclass(frozen=True, slots=True)
class NotifyConfig:
    """How deliveries behave, as the settings have checked it; every duration is in seconds.

    Attributes:
        timeout_s: For one whole attempt: name lookup, connection, sending, answer.
        retry_base_s: The n-th retry waits a random time below `retry_base_s * 2**(n - 1)`.
        retry_max_s: No such wait is longer, nor is a receiver's `Retry-After` honoured further.
        max_attempts: Then the delivery is dead: visible, and re-sendable. The default
            stands for about eight hours of a receiver that is down.
        rate_per_minute: Most attempts to one receiver in any 60 seconds; more of them wait.
            One a second is what Slack takes.
        at_once: Most attempts to one receiver at the same time, once it has proved healthy.
        poll_s: Longest time between two looks at the outbox when nobody wakes it.
        allow_private_cidrs: Networks that a receiver may be in although they are not public.
        heartbeat_url: Called every `heartbeat_s` while the service can commit; "" for none.
    """

    receivers: tuple[ReceiverConfig, ...] = ()
    timeout_s: float = 10.0
    retry_base_s: float = 1.0
    retry_max_s: float = 600.0
    max_attempts: int = 100
    rate_per_minute: int = 60
    at_once: int = 4
    poll_s: float = 5.0
    allow_private_cidrs: tuple[str, ...] = ()
    heartbeat_url: str = field(default="", repr=False)
    heartbeat_s: float = 60.0

    def networks(self) -> tuple[Network, ...]:
        """`allow_private_cidrs`, parsed."""
        return tuple(ipaddress.ip_network(cidr, strict=False) for cidr in self.allow_private_cidrs)
