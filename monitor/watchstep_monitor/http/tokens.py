"""Bearer tokens: opaque, kept as hashes, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from watchstep.errors import SettingsError
from watchstep_monitor.http.problems import ProblemError
from watchstep_monitor.settings import TokenSettings

FILE_NAME = "tokens.json"
PREFIX = "wst_"
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="watchstep"'}


@dataclass(frozen=True, slots=True)
class Token:
    """What is kept of a token.

    Attributes:
        projects: Empty for all.
        revoked_at: None while it is good.
    """

    name: str
    sha256: str
    scopes: tuple[str, ...]
    projects: tuple[str, ...]
    created_at: str = ""
    revoked_at: str | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls.

    Attributes:
        projects: None for all.
    """

    name: str
    projects: tuple[str, ...] | None


EVERYONE = Caller("local", None)
"""Whoever calls where no tokens are configured, which is on loopback only."""


class Keyring:
    """The tokens of the settings and of the data folder's file, read again when it changes."""

    def __init__(self, configured: Sequence[TokenSettings], folder: Path) -> None:
        self._configured = [
            Token(token.name, token.sha256, token.scopes, token.projects) for token in configured
        ]
        self._path = folder / FILE_NAME
        self._stamp: tuple[int, int] | None = None
        self._tokens: list[Token] = list(self._configured)

    def tokens(self) -> list[Token]:
        """All, revoked ones included."""
        stamp = _stamp(self._path)
        if stamp != self._stamp:
            self._tokens = [*self._configured, *read_tokens(self._path)]
            self._stamp = stamp
        return self._tokens

    def required(self) -> bool:
        """Whether calls need a token. A revoked one still counts: revoking opens no doors."""
        return bool(self.tokens())

    def caller(self, headers: Mapping[str, str], scope: str) -> Caller:
        """Who calls, if that one may.

        Raises:
            ProblemError: 401 without a good token, 403 for one without the scope.
        """
        tokens = self.tokens()
        if not tokens:
            return EVERYONE
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not given:
            raise ProblemError(401, "This call needs a bearer token.", headers=_CHALLENGE)
        digest = hashlib.sha256(given.strip().encode("utf-8", "replace")).hexdigest()
        found: Token | None = None
        for token in tokens:
            # All are compared, so that the time says nothing about which one was close.
            if hmac.compare_digest(token.sha256, digest) and token.revoked_at is None:
                found = token
        if found is None:
            raise ProblemError(401, "The token is unknown or was revoked.", headers=_CHALLENGE)
        if scope not in found.scopes and "admin" not in found.scopes:
            raise ProblemError(403, f"The token lacks the scope {scope}.")
        return Caller(found.name, found.projects or None)


def create_token(
    folder: Path, name: str, scopes: Sequence[str], projects: Sequence[str]
) -> tuple[str, Token]:
    """Make a token and keep its hash; returns the token itself, which is shown only now.

    Raises:
        SettingsError: The name is taken, or the folder cannot be written.
    """
    path = folder / FILE_NAME
    known = read_tokens(path)
    if any(token.name == name and token.revoked_at is None for token in known):
        raise SettingsError(f"a token named {name} exists already; revoke it first")
    secret = PREFIX + secrets.token_urlsafe(32)
    token = Token(
        name=name,
        sha256=hashlib.sha256(secret.encode()).hexdigest(),
        scopes=tuple(scopes),
        projects=tuple(projects),
        created_at=_now(),
    )
    _write(path, [*known, token])
    return secret, token


def revoke_token(folder: Path, name: str) -> bool:
    """Make a token void; whether there was a good one of that name."""
    path = folder / FILE_NAME
    known = read_tokens(path)
    changed = [
        Token(**{**asdict(token), "revoked_at": _now()})
        if token.name == name and token.revoked_at is None
        else token
        for token in known
    ]
    if changed == known:
        return False
    _write(path, changed)
    return True


def read_tokens(path: Path) -> list[Token]:
    """The tokens in a file; none if there is no file.

    Raises:
        SettingsError: The file is damaged; then no one is let in by mistake.
    """
    try:
        listed = json.loads(path.read_text("utf-8"))
        return [_token(entry) for entry in listed]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SettingsError(f"{path}: {(error.strerror or 'cannot be read').lower()}") from None
    except (ValueError, TypeError, KeyError):
        raise SettingsError(f"{path}: damaged; remove it and create the tokens anew") from None


def _token(entry: Mapping[str, Any]) -> Token:
    return Token(
        name=str(entry["name"]),
        sha256=str(entry["sha256"]),
        scopes=tuple(entry["scopes"]),
        projects=tuple(entry["projects"]),
        created_at=str(entry.get("created_at", "")),
        revoked_at=entry.get("revoked_at"),
    )


def _write(path: Path, tokens: Sequence[Token]) -> None:
    text = json.dumps([asdict(token) for token in tokens], indent=1)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, prefix=".tokens-", delete=False, encoding="utf-8"
        ) as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(file.name).replace(path)
    except OSError as error:
        reason = (error.strerror or "cannot be written").lower()
        raise SettingsError(f"{path}: {reason}") from None


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
