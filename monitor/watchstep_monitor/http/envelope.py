"""What every request passes: its id, its origin, its whole body within limits, safe headers."""

from __future__ import annotations

import contextlib
import re
import secrets
import zlib
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from functools import lru_cache
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from watchstep_monitor.http.connections import CROWDED_RETRY_S, PROBES
from watchstep_monitor.http.deadlines import Deadline
from watchstep_monitor.http.problems import Flaw, ProblemError, problem_of
from watchstep_monitor.http.tokens import Keyring
from watchstep_monitor.settings.schema import LimitSettings

TIMES_THE_LIMIT_THROWN_AWAY = 16
"""How much of a body that is too large is read and dropped, in multiples of the limit."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
_UNSAFE = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_POLICY = b"; ".join(
    (
        b"default-src 'self'",
        b"frame-ancestors 'none'",
        b"base-uri 'none'",
        b"form-action 'self'",
        b"object-src 'none'",
    )
)
_SAFE_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"content-security-policy", _POLICY),
    (b"cache-control", b"no-store"),
)
"""Of every answer that does not say otherwise."""

Answering = Callable[[Scope, Mapping[str, str], bytes], Awaitable[tuple[int, bytes]]]
"""From a request, its headers and its body to a status and JSON; what it raises is a problem."""

Direct = Callable[[Scope], Answering | None]
"""What answers a request without the application, if anything does."""


class Envelope:
    """ASGI middleware; the application behind it sees whole, plain, bounded bodies.

    Args:
        app: What is behind.
        limits: Of bodies, and of requests at work at a time.
        streamed: Paths whose routes read, and bound, bodies of POST themselves: logs, which are
            too large to be held.
        direct: See `Direct`.
        keyring: While it holds no tokens, only requests that name this machine as their
            host are answered: a page of another site must not reach the service by a name
            that its owner points here.
    """

    def __init__(
        self,
        app: ASGIApp,
        limits: LimitSettings,
        *,
        keyring: Keyring,
        streamed: Collection[str] = (),
        direct: Direct = lambda _: None,
    ) -> None:
        self._app = app
        self._limits = limits
        self._at_work = 0
        self._keyring = keyring
        self._streamed = frozenset(streamed)
        self._direct = direct
        self._body_wait = Deadline(limits.body_read_s)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = _first_headers(scope)
        header = headers.get("x-request-id", "")
        request_id = header if _REQUEST_ID.fullmatch(header) else secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id
        began = False

        async def send_safely(message: Message) -> None:
            nonlocal began
            if message["type"] == "http.response.start":
                began = True
                message["headers"] = _safely(message["headers"], request_id)
            await send(message)

        self._at_work += 1
        try:
            self._check_origin(scope, headers)
            self._check_crowd(scope["path"])
            answering = self._direct(scope)
            if answering is not None:
                body = await self._body(headers, receive)
                await _answer(*await answering(scope, headers, body), send_safely)
                return
            if scope["method"] != "POST" or scope["path"] not in self._streamed:
                receive = _replay(await self._body(headers, receive), receive)
            await self._app(_as_get(scope), receive, send_safely)
        except Exception as error:
            if began:
                raise
            # The outermost place: whatever went wrong, the answer is a problem.
            answer = problem_of(error).response()
            if isinstance(error, _StillComingError):
                await answer(scope, receive, self._draining(receive, send_safely))
            else:
                await answer(scope, receive, send_safely)
        finally:
            self._at_work -= 1

    def _check_crowd(self, path: str) -> None:
        if self._at_work > self._limits.concurrency and path not in PROBES:
            raise ProblemError(
                429,
                "The service has as many requests at work as it may.",
                headers={"Retry-After": str(CROWDED_RETRY_S)},
            )

    def _check_origin(self, scope: Scope, headers: Mapping[str, str]) -> None:
        host = headers.get("host", "")
        if _host_name(host) not in _LOCAL_HOSTS and not self._keyring.required():
            raise ProblemError(
                403, "Without tokens this service answers on its own machine's names only."
            )
        origin = headers.get("origin")
        if scope["method"] in _UNSAFE and origin is not None and urlsplit(origin).netloc != host:
            raise ProblemError(403, "Requests from other sites are not served.")

    async def _body(self, headers: Mapping[str, str], receive: Receive) -> bytes:
        encoding = headers.get("content-encoding", "identity").strip().lower()
        if encoding not in {"identity", "gzip", ""}:
            raise ProblemError(
                415, "Bodies may be gzip or plain.", headers={"Accept-Encoding": "gzip, identity"}
            )
        declared = headers.get("content-length", "0")
        declared_bytes = int(declared[:20]) if declared.isdigit() else 0
        try:
            with self._body_wait:
                if declared_bytes > self._limits.body_bytes:
                    raise _StillComingError(self._limits.body_bytes)
                body = await self._stream(receive)
        except TimeoutError:
            raise ProblemError(
                408, "The body did not arrive in time.", headers={"Connection": "close"}
            ) from None
        return self._inflated(body) if encoding == "gzip" else body

    async def _stream(self, receive: Receive) -> bytes:
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ProblemError(400, "The client went away.")
            part = message.get("body", b"")
            size += len(part)
            if size > self._limits.body_bytes:
                parts.clear()
                if not message.get("more_body", False):
                    raise _TooLargeError(self._limits.body_bytes)
                raise _StillComingError(self._limits.body_bytes)
            parts.append(part)
            if not message.get("more_body", False):
                return parts[0] if len(parts) == 1 else b"".join(parts)

    def _draining(self, receive: Receive, send: Send) -> Send:
        """Sends an answer whole at once, and ends it when what still comes was thrown away.

        A client that is still sending when the connection closes sees a broken pipe instead of
        the answer, so a body of a few times the limit is let run out first.
        """

        async def send_and_drain(message: Message) -> None:
            if message["type"] != "http.response.body":
                await send(message)
                return
            await send({**message, "more_body": True})
            with contextlib.suppress(TimeoutError), self._body_wait:
                await self._throw_away(receive)
            await send({"type": "http.response.body", "body": b""})

        return send_and_drain

    async def _throw_away(self, receive: Receive) -> None:
        size = 0
        while size <= self._limits.body_bytes * TIMES_THE_LIMIT_THROWN_AWAY:
            message = await receive()
            size += len(message.get("body", b""))
            if message["type"] == "http.disconnect" or not message.get("more_body", False):
                break

    def _inflated(self, body: bytes) -> bytes:
        """The body of one gzip member; a bomb is cut off at the limit."""
        inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        try:
            plain = inflater.decompress(body, self._limits.decompressed_bytes + 1)
        except zlib.error:
            raise _not_gzip() from None
        if len(plain) > self._limits.decompressed_bytes:
            raise _TooLargeError(self._limits.decompressed_bytes, "after decompression")
        if not inflater.eof or inflater.unused_data:
            raise _not_gzip()
        return plain


def _first_headers(scope: Scope) -> dict[str, str]:
    """The headers by name; of those that come twice the first."""
    return {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in reversed(scope["headers"])
    }


def _safely(headers: Iterable[tuple[bytes, bytes]], request_id: str) -> list[tuple[bytes, bytes]]:
    own = list(headers)
    names = {name for name, _ in own}
    own += [header for header in _SAFE_HEADERS if header[0] not in names]
    own.append((b"x-request-id", request_id.encode()))
    return own


async def _answer(status: int, content: bytes, send: Send) -> None:
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(content)).encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def _as_get(scope: Scope) -> Scope:
    """HEAD is answered as GET is; the server below leaves the body out. A stream has no end."""
    if scope["method"] != "HEAD" or scope["path"].endswith("/events"):
        return scope
    return {**scope, "method": "GET"}


def _replay(body: bytes, receive: Receive) -> Receive:
    """The body in one message, then whatever the connection says: a disconnect."""
    sent = False

    async def replayed() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed


@lru_cache(maxsize=64)
def _host_name(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


class _TooLargeError(ProblemError):
    """A body that is larger than it may be."""

    def __init__(self, most: int, when: str = "") -> None:
        reason = f"at most {most} bytes {when}".strip()
        super().__init__(
            413,
            "The body is too large.",
            flaws=[Flaw(("body",), "too_long", reason)],
            headers={"Connection": "close"},
        )


class _StillComingError(_TooLargeError):
    """One of which not all has been read."""


def _not_gzip() -> ProblemError:
    return ProblemError(
        400, "The body is not gzip.", flaws=[Flaw(("body",), "gzip", "cannot be unpacked")]
    )
