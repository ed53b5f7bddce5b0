"""Bearer tokens: who calls, and whether that one may."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie

from watchstep_monitor.http.problems import ProblemError
from watchstep_monitor.service.ports import Clock
from watchstep_monitor.service.tokens import TokenRecord, TokenWatch, hash_of
from watchstep_monitor.settings import TokenSettings

_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="watchstep"'}


SESSION_COOKIE = "watchstep_session"
"""Holds a browser's token, where no script can read it and no other site can send it."""


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
    """The tokens of the settings and those of the store, which win: revoked there is revoked."""

    def __init__(
        self, configured: Sequence[TokenSettings], stored: TokenWatch, clock: Clock
    ) -> None:
        self._configured = configured_tokens(configured)
        self._stored = stored
        self._clock = clock
        self._seen: tuple[TokenRecord, ...] = ()
        self._by_hash = {token.sha256: token for token in self._configured}

    def required(self) -> bool:
        """Whether calls need a token. A revoked one still counts: revoking opens no doors."""
        return bool(self._known())

    def caller(self, headers: Mapping[str, str], scope: str) -> Caller:
        """Who calls, if that one may.

        Raises:
            ProblemError: 401 without a good token, 403 for one without the scope.
        """
        tokens = self._known()
        if not tokens:
            return EVERYONE
        secret = bearer(headers) or session(headers)
        if not secret:
            raise ProblemError(401, "This call needs a bearer token.", headers=_CHALLENGE)
        # How long it takes to find says something about hashes at most, and a hash opens nothing.
        token = tokens.get(hash_of(secret))
        if token is None or token.state(self._clock.now()) != "good":
            reason = "The token is unknown, has expired, or was revoked."
            raise ProblemError(401, reason, headers=_CHALLENGE)
        if scope not in token.scopes and "admin" not in token.scopes:
            raise ProblemError(403, f"The token lacks the scope {scope}.")
        self._stored.used(token)
        return Caller(token.name, token.projects or None)

    def _known(self) -> Mapping[str, TokenRecord]:
        stored = self._stored.current()
        # Tokens are never removed: a table that someone emptied by hand opens no doors either.
        if stored is not self._seen and stored:
            self._by_hash = {token.sha256: token for token in (*self._configured, *stored)}
            self._seen = stored
        return self._by_hash


def bearer(headers: Mapping[str, str]) -> str:
    """The token of the `Authorization` header, or ""."""
    kind, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""


def session(headers: Mapping[str, str]) -> str:
    """The token that a browser keeps for the page, or ""."""
    try:
        cookie = SimpleCookie(headers.get("cookie", "")).get(SESSION_COOKIE)
    except CookieError:
        return ""
    return "" if cookie is None else cookie.value


def configured_tokens(configured: Sequence[TokenSettings]) -> list[TokenRecord]:
    """The tokens of the settings, as those of the store are kept."""
    return [TokenRecord(each.name, each.sha256, each.scopes, each.projects) for each in configured]
