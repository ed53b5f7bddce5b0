"""`watchstep doctor`: what would keep the service from its work, found without starting it."""

from __future__ import annotations

import functools
import shutil
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import certifi

from watchstep.core import engine_kind
from watchstep.errors import RuleError, SettingsError
from watchstep_monitor.app import is_loopback, notify_config, routes_of, store_options
from watchstep_monitor.commands.serving import address_for_links, is_any
from watchstep_monitor.http.tokens import configured_tokens
from watchstep_monitor.notify import NotifyConfig, ReceiverConfig
from watchstep_monitor.notify.dispatch import check
from watchstep_monitor.notify.targets import TargetRefusedError, system_resolver, vetted
from watchstep_monitor.service.run_state.rulebook import RuleBook
from watchstep_monitor.service.tokens import TokenRecord
from watchstep_monitor.settings import Settings
from watchstep_monitor.store.inspect import look_at
from watchstep_monitor.store.offline_tokens import stored_tokens
from watchstep_monitor.store.tokens import filed_tokens

LEAST_FREE_BYTES = 1_000_000_000
LOCAL = frozenset({"127.0.0.1", "::1", "localhost"})
ASK_S = 3.0
PORTS = {"https": 443, "http": 80, "smtp": 25, "smtps": 465}


@dataclass(frozen=True, slots=True)
class Finding:
    """One check and what it found."""

    name: str
    good: bool
    says: str


def check_up(settings: Settings) -> list[Finding]:
    """Run every check; each is on its own, so that one run finds all that is wrong.

    Nothing is written, made or upgraded, and no message is sent.
    """
    checks: dict[str, Callable[[Settings], str]] = {
        "rules": _rules,
        "engine": _engine,
        "tokens": _tokens,
        "store": lambda settings: look_at(store_options(settings)),
        "disk": _disk,
        "service": _service,
        "links": _links,
        "receivers": _receivers,
    }
    findings = [_found(name, check, settings) for name, check in checks.items()]
    return [*findings, *_each_receiver(settings)]


def _found(name: str, check_one: Callable[[Settings], str], settings: Settings) -> Finding:
    try:
        return Finding(name, good=True, says=check_one(settings))
    except (SettingsError, RuleError, ValueError) as error:
        return Finding(name, good=False, says=str(error))


def _rules(settings: Settings) -> str:
    book = RuleBook(settings.rules.paths)
    return f"{len(book.rules.rules)} rules from {', '.join(settings.rules.paths)}"


def _engine(_: Settings) -> str:
    kind = engine_kind()
    return (
        kind if kind == "compiled" else f"{kind}: a wheel built where a C compiler is runs faster"
    )


def _tokens(settings: Settings) -> str:
    tokens = all_tokens(settings)
    if not tokens and not is_loopback(settings.host):
        raise SettingsError(
            f"none, but host {settings.host} is reachable by others: the service will not start; "
            "run `watchstep token create`"
        )
    if not tokens:
        return "none: loopback only"
    states = Counter(token.state(datetime.now(UTC)) for token in tokens)
    return ", ".join(f"{states[state]} {state}" for state in ("good", "revoked", "expired"))


def all_tokens(settings: Settings) -> list[TokenRecord]:
    """Those of the settings, of the store, and of a file that the service has yet to take over.

    Raises:
        SettingsError: The store cannot be reached, or the file is damaged.
    """
    by_hash = {token.sha256: token for token in configured_tokens(settings.auth.tokens)}
    by_hash |= {token.sha256: token for token in filed_tokens(settings.data_dir)}
    by_hash |= {token.sha256: token for token in stored_tokens(store_options(settings))}
    return sorted(by_hash.values(), key=lambda token: token.name)


def _disk(settings: Settings) -> str:
    folder = settings.data_dir.absolute()
    there = next(place for place in (folder, *folder.parents) if place.exists())
    free = shutil.disk_usage(there).free
    if free < LEAST_FREE_BYTES:
        raise SettingsError(f"{free // 1_000_000} MB free where {Path(there)} is, less than 1 GB")
    return f"{free // 1_000_000_000} GB free"


def _service(settings: Settings) -> str:
    """What a service at the configured address says of itself."""
    import httpx

    if settings.port == 0:
        return "port 0: it picks one at its start"
    host = "127.0.0.1" if is_any(settings.host) else settings.host
    place = f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"
    try:
        reply = httpx.get(f"{place}/readyz", timeout=ASK_S, trust_env=False)
    except httpx.ConnectError:
        return f"none listens at {place}"
    except httpx.HTTPError as error:
        raise SettingsError(f"{place} does not answer: {type(error).__name__}") from None
    if reply.status_code == 200:
        return f"ready at {place}"
    try:
        detail = str(reply.json()["detail"])
    except (ValueError, KeyError, TypeError):
        raise SettingsError(f"something else than watchstep listens at {place}") from None
    raise SettingsError(f"not ready: {detail}")


def _links(settings: Settings) -> str:
    if settings.public_url is not None:
        return settings.public_url
    if not settings.receivers:
        return "no receivers, so no messages with links"
    place = address_for_links(settings.host, settings.port)
    reach = "from this machine only" if settings.host in LOCAL else "where that name is known"
    return f"{place}, which opens {reach}; public_url can name a better one"


def _receivers(settings: Settings) -> str:
    check(notify_config(settings).receivers)
    routes_of(settings)
    return f"{len(settings.receivers)} configured" if settings.receivers else "none: nobody is told"


def _each_receiver(settings: Settings) -> Iterator[Finding]:
    try:
        config = notify_config(settings)
    except ValueError:
        return
    for receiver in config.receivers:
        name = f"receiver {receiver.name}"
        yield _found(name, functools.partial(_way_to, receiver, config), settings)


def _way_to(receiver: ReceiverConfig, config: NotifyConfig, _: Settings) -> str:
    """Whether its address takes a connection; nothing is sent."""
    if receiver.through_apprise:
        return "apprise, which connects only to send; `watchstep receivers test NAME` does so"
    if receiver.kind == "script":
        return "script, it can be run"
    parts = urlsplit(receiver.url)
    host, port = parts.hostname or "", parts.port or PORTS.get(parts.scheme, 443)
    try:
        addresses = vetted(system_resolver(host, port), config.networks())
    except TargetRefusedError as error:
        raise SettingsError(f"{error}; notify.allow_private_cidrs can allow it") from None
    except OSError:
        raise SettingsError("its name has no address now") from None
    try:
        with socket.create_connection((addresses[0], port), ASK_S) as connection:
            if parts.scheme in {"https", "smtps"}:
                context = ssl.create_default_context()
                context.load_verify_locations(certifi.where())
                with context.wrap_socket(connection, server_hostname=host):
                    pass
    except ssl.SSLCertVerificationError:
        raise SettingsError("its certificate is not trusted") from None
    except ssl.SSLError:
        raise SettingsError(f"port {port} speaks no TLS; is {parts.scheme} right?") from None
    except OSError as error:
        reason = (error.strerror or "no answer in time").lower()
        raise SettingsError(f"cannot be connected to: {reason}") from None
    return f"{receiver.kind}, takes connections; `watchstep receivers test NAME` sends a message"
