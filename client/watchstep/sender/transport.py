"""One HTTP connection to the service, with a limit on the time of a whole request.

The standard library's client, not httpx: measured on import in a trainer, 33 ms of CPU and
4 MiB against 191 ms and 17 MiB; and httpx limits the time of each read, so that an answer
that drips a byte at a time holds it for as long as it likes.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
import urllib.parse
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from watchstep.errors import SettingsError, UnreachableError
from watchstep.sender.config import Patience

# The heavy half of the client is imported by the thread that uses it: 30 ms of a trainer's
# start otherwise.
if TYPE_CHECKING:
    import http.client

REPLY_MAX_BYTES = 2 * 1024 * 1024
"""Longer answers are not from watchstep's service; the longest holds the texts of all rules."""

# Below this the gzip header and the server's work cost more than the bytes saved.
_GZIP_FROM_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Target:
    """Where a service lives, taken apart and checked."""

    secure: bool
    host: str
    port: int
    prefix: str

    @classmethod
    def parse(cls, url: str) -> Target:
        """Take a URL apart.

        Raises:
            SettingsError: It is no http or https URL with a host, or holds a password.
        """
        try:
            parts = urllib.parse.urlsplit(url)
            port = parts.port
        except ValueError:
            raise SettingsError("url: is not a URL, must be like http://127.0.0.1:8420") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SettingsError("url: must begin with http:// or https:// and name a host")
        if parts.username is not None or parts.password is not None:
            raise SettingsError("url: must not hold a user or password, set the token instead")
        secure = parts.scheme == "https"
        prefix = urllib.parse.quote(parts.path.rstrip("/"), safe="/%")
        return cls(secure, parts.hostname, port or (443 if secure else 80), prefix)


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer.

    Attributes:
        kind: The content type without its parameters, lower case.
        retry_after_s: The Retry-After header in seconds; None when absent or a date.
    """

    status: int
    kind: str
    body: bytes
    retry_after_s: float | None

    @property
    def document(self) -> dict[str, Any]:
        """The JSON object in it; empty where there is none."""
        try:
            document = json.loads(self.body)
        except (ValueError, RecursionError):
            return {}
        return document if isinstance(document, dict) else {}


class ConnectionClosedError(UnreachableError):
    """The service has closed the connection that was kept, and was not asked again."""


class Transport:
    """Sends requests one at a time over a connection that is kept. Not thread-safe."""

    def __init__(
        self, target: Target, *, token: str | None, patience: Patience, trust_env: bool = False
    ) -> None:
        if token is not None and not (token.isascii() and token.isprintable()):
            raise SettingsError("token: must hold printable ASCII only")
        self._target = target
        self._token = token
        self._patience = patience
        self._proxy = _proxy_for(target) if trust_env else None
        self._connection: http.client.HTTPConnection | None = None

    def request(
        self,
        method: str,
        path: str,
        body: bytes,
        *,
        kind: str = "application/json",
        again: bool = True,
    ) -> Reply:
        """Send a body and read the answer; redirects are answers like any other.

        Args:
            again: Whether to try once more where a connection that was kept has been closed:
                updates may be sent twice without harm.

        Raises:
            UnreachableError: No whole HTTP answer within the limits.
            ConnectionClosedError: With `again` False, see there.
        """
        import http.client

        reused = self._connection is not None
        deadline = time.monotonic() + self._patience.total_s
        try:
            return self._exchange(method, path, body, kind, deadline)
        except (http.client.RemoteDisconnected, ConnectionError) as error:
            self.close()
            if not reused:
                raise UnreachableError(_reason(error)) from error
            if not again:
                raise ConnectionClosedError(_reason(error)) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            raise UnreachableError(_reason(error)) from error
        # The service closed the idle connection.
        return self.request(method, path, body, kind=kind)

    def abandon(self) -> None:
        """In a forked child: drop the connection, whose locks a thread may hold that is not here.

        Closing what that thread reads would wait for it for ever.
        """
        connection, self._connection = self._connection, None
        if connection is not None and connection.sock is not None:
            with contextlib.suppress(OSError):
                os.close(connection.sock.detach())

    def close(self) -> None:
        """Drop the connection. May be called twice."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.close()

    def _exchange(self, method: str, path: str, body: bytes, kind: str, deadline: float) -> Reply:
        import http.client

        from watchstep.sender.timed_http import exchanged

        connection = self._connection = self._connection or self._new_connection()
        headers = {"Content-Type": kind, "Accept": "application/json"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        # Doubles shrink by a tenth only: not worth the time.
        if kind == "application/json" and len(body) >= _GZIP_FROM_BYTES:
            headers["Content-Encoding"] = "gzip"
            body = _gzip(body)
        response = exchanged(connection, (method, self._path(path), body, headers), deadline)
        content = response.read(REPLY_MAX_BYTES + 1)
        if len(content) > REPLY_MAX_BYTES:
            raise http.client.HTTPException("the answer is too long")
        reply = Reply(
            status=response.status,
            kind=(response.getheader("content-type") or "").partition(";")[0].strip().lower(),
            body=content,
            retry_after_s=_seconds(response.getheader("retry-after")),
        )
        response.close()
        if response.will_close:
            self.close()
        return reply

    def _new_connection(self) -> http.client.HTTPConnection:
        import http.client

        target = self._target
        kind = http.client.HTTPSConnection if target.secure else http.client.HTTPConnection
        host, port = self._proxy or (target.host, target.port)
        connection = kind(host, port, timeout=self._patience.connect_s)
        if self._proxy and target.secure:
            connection.set_tunnel(target.host, target.port)
        return connection

    def _path(self, path: str) -> str:
        whole = self._target.prefix + path
        if self._proxy and not self._target.secure:
            return f"http://{_authority(self._target)}{whole}"
        return whole


def _authority(target: Target) -> str:
    host = f"[{target.host}]" if ":" in target.host else target.host
    return f"{host}:{target.port}"


def _proxy_for(target: Target) -> tuple[str, int] | None:
    import urllib.request

    named = urllib.request.getproxies().get("https" if target.secure else "http")
    if named is None or urllib.request.proxy_bypass(target.host):
        return None
    proxy = Target.parse(named if "://" in named else f"http://{named}")
    return proxy.host, proxy.port


def _gzip(body: bytes) -> bytes:
    # Level 1: measured on batches of 20 doubles, 6 us an update for 273 bytes; level 6 takes
    # 26 us for 243.
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    return packer.compress(body) + packer.flush()


def _seconds(header: str | None) -> float | None:
    return float(header) if header is not None and header.isdecimal() else None


def _reason(error: BaseException) -> str:
    # By name: `ssl` may never have been imported here.
    if any(kind.__name__ == "SSLError" for kind in type(error).__mro__):
        if getattr(error, "reason", "") in {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"}:
            return "the address says https, and the service speaks http"
        return "the TLS connection was refused"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    # In the system's words, which name no address: "Connection refused".
    return getattr(error, "strerror", None) or type(error).__name__
