"""The REST API from a command: one connection, and every failure a line and an exit code."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import quote

import typer

from watchstep.errors import SettingsError, UnreachableError, WatchstepError
from watchstep.wire.names import legal_run_name

DEFAULT_URL = "http://127.0.0.1:8420"
TIMEOUT_S = 10.0
MOST_ANSWER_BYTES = 16_777_216


class RefusedError(WatchstepError):
    """The service answered, and said no."""


EXIT_CODES = {RefusedError: 1, SettingsError: 2, UnreachableError: 3}


class Service:
    """The REST API with one connection."""

    def __init__(self, url: str, token: str) -> None:
        import httpx

        self._httpx = httpx
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        wrong = SettingsError("--url: is no address such as http://127.0.0.1:8420")
        if not url.startswith(("http://", "https://")):
            raise wrong
        try:
            # The answer goes to the service that was named, and to no proxy or redirect.
            self._client = httpx.Client(
                base_url=url.rstrip("/") + "/api/v1",
                headers=headers,
                timeout=TIMEOUT_S,
                trust_env=False,
                follow_redirects=False,
            )
        except (httpx.InvalidURL, ValueError):
            raise wrong from None

    def get(self, path: str, **query: object) -> Any:
        """A GET; empty query values are left out."""
        filled = {name: str(value) for name, value in query.items() if value not in {"", None}}
        return self._ask("GET", path, params=filled)

    def send(self, method: str, path: str, body: Mapping[str, object] | None) -> Any:
        return self._ask(method, path, **({} if body is None else {"json": dict(body)}))

    def _place(self) -> str:
        return self._client.base_url.netloc.decode("ascii", "replace")

    def _why(self, error: Exception) -> str:
        if isinstance(error, self._httpx.TimeoutException):
            return f"did not answer within {TIMEOUT_S:g} s"
        if "WRONG_VERSION_NUMBER" in str(error) or "record layer" in str(error):
            return "speaks http, and the address says https"
        if isinstance(error, self._httpx.ConnectError):
            return "cannot be reached"
        return f"broke off ({type(error).__name__})"

    def close(self) -> None:
        self._client.close()

    def _ask(self, method: str, path: str, **how: Any) -> Any:
        try:
            reply = self._client.request(method, path, **how)
        except self._httpx.HTTPError as error:
            raise UnreachableError(
                f"the service at {self._place()} {self._why(error)}; is it running, and is "
                "--url or WATCHSTEP_URL right?"
            ) from None
        if len(reply.content) > MOST_ANSWER_BYTES:
            raise UnreachableError("the answer is larger than any of watchstep's")
        document = _document(reply.content)
        if reply.is_success and (document is not None or reply.status_code == 204):
            return document
        if isinstance(document, dict) and "title" in document:
            raise RefusedError(_refusal(reply.status_code, document))
        raise UnreachableError(f"HTTP {reply.status_code}, but not from watchstep's service")


@contextmanager
def answers(url: str, token: str) -> Iterator[Service]:
    """A connection; what goes wrong is one line on stderr and an exit code."""
    address = url or os.environ.get("WATCHSTEP_URL") or DEFAULT_URL
    try:
        with closing(Service(address, token or os.environ.get("WATCHSTEP_TOKEN", ""))) as service:
            yield service
    except tuple(EXIT_CODES) as error:
        typer.echo(f"watchstep: {error}", err=True)
        raise typer.Exit(EXIT_CODES[type(error)]) from None


def run_path(run: str) -> str:
    """Where the API has a run, also by the name that its trainer was started with."""
    return f"/runs/{quote(legal_run_name(run), safe='')}"


def _document(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None


def _refusal(code: int, problem: Mapping[str, Any]) -> str:
    flaws = problem.get("errors") or []
    first = flaws[0] if flaws and isinstance(flaws[0], dict) else {}
    place = ".".join(str(part) for part in first.get("loc", ()))
    more = f" ({place}: {first.get('msg')})" if place else ""
    return f"HTTP {code}: {problem.get('detail') or problem['title']}{more}"
