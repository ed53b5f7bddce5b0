"""`watchstep doctor`: what would keep the service from starting, found without starting it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass

from watchstep.errors import RuleError, SettingsError
from watchstep_monitor.app import store_options
from watchstep_monitor.http.tokens import Keyring
from watchstep_monitor.service.rulebook import RuleBook
from watchstep_monitor.settings import Settings
from watchstep_monitor.store import open_store
from watchstep_monitor.store.schema import HEAD

LEAST_FREE_BYTES = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Finding:
    """One check and what it found."""

    name: str
    good: bool
    says: str


def check_up(settings: Settings) -> list[Finding]:
    """Run every check; each is on its own, so that one run finds all that is wrong."""
    checks: tuple[tuple[str, Callable[[Settings], str]], ...] = (
        ("rules", _rules),
        ("tokens", _tokens),
        ("store", _store),
        ("disk", _disk),
    )
    findings = []
    for name, check in checks:
        try:
            findings.append(Finding(name, good=True, says=check(settings)))
        except (SettingsError, RuleError) as error:
            findings.append(Finding(name, good=False, says=str(error)))
    return findings


def _rules(settings: Settings) -> str:
    book = RuleBook(settings.rules.paths)
    return f"{len(book.rules.rules)} rules from {', '.join(settings.rules.paths)}"


def _tokens(settings: Settings) -> str:
    tokens = Keyring(settings.auth.tokens, settings.data_dir).tokens()
    good = sum(token.revoked_at is None for token in tokens)
    if not tokens and settings.host not in {"127.0.0.1", "::1", "localhost"}:
        raise SettingsError(f"none, but host {settings.host} is reachable by others")
    return f"{good} good, {len(tokens) - good} revoked" if tokens else "none: loopback only"


def _store(settings: Settings) -> str:
    opened = open_store(store_options(settings))
    try:
        trouble = opened.store.ready()
    finally:
        opened.close()
    if trouble is not None:
        raise SettingsError(trouble)
    kind = "PostgreSQL" if settings.database_url else "SQLite"
    return f"{kind}, schema {HEAD}, commits work"


def _disk(settings: Settings) -> str:
    free = shutil.disk_usage(settings.data_dir).free
    if free < LEAST_FREE_BYTES:
        raise SettingsError(f"{free // 1_000_000} MB free, less than 1 GB")
    return f"{free // 1_000_000_000} GB free"
