"""A webhook receiver on this machine, as a chat or pager would be."""

from __future__ import annotations

import base64
import json
import secrets
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from standardwebhooks import Webhook, WebhookVerificationError


@dataclass(frozen=True)
class Message:
    """One notification as it arrived.

    Attributes:
        genuine: Whether its Standard Webhooks signature is right.
    """

    body: dict[str, Any]
    genuine: bool
    arrived: float

    @property
    def severity(self) -> str:
        severities = {alert["labels"]["severity"] for alert in self.body["alerts"]}
        return next(word for word in ("critical", "warning", "info") if word in severities)


class Receiver:
    """Accepts webhooks on a free port of the loopback interface while it is open."""

    def __init__(self) -> None:
        self.secret = "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()
        self.messages: list[Message] = []
        self._arrived = threading.Condition()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.take(dict(self.headers.items()), body)
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Say nothing: the story is told elsewhere."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/hook"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _e: BaseException | None, _t: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def take(self, headers: dict[str, str], body: bytes) -> None:
        """Check a message's signature and keep it."""
        signed = {name.lower(): value for name, value in headers.items()}
        try:
            Webhook(self.secret).verify(body, signed)
            genuine = True
        except WebhookVerificationError:
            genuine = False
        message = Message(json.loads(body), genuine, time.time())
        with self._arrived:
            self.messages.append(message)
            self._arrived.notify_all()

    def wait_for(self, run: str, timeout_s: float, *, severity: str = "") -> list[Message]:
        """All messages about a run, once the newest is of a severity or the time is over."""

        def about() -> list[Message]:
            return [m for m in self.messages if m.body.get("watchstep", {}).get("run") == run]

        def arrived() -> bool:
            messages = about()
            return bool(messages) and severity in {"", messages[-1].severity}

        with self._arrived:
            self._arrived.wait_for(arrived, timeout_s)
            return about()
