"""A webhook receiver that keeps what it was sent."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler
from queue import Queue


class Receiver(BaseHTTPRequestHandler):
    """Takes notifications."""

    taken: Queue[tuple[dict, dict]] = Queue()

    @classmethod
    def next_of(cls, run: str) -> tuple[dict, dict]:
        """Headers and body of the next message about a run; others are dropped."""
        while True:
            headers, notice = cls.taken.get(timeout=20)
            if notice["watchstep"]["run"] == run:
                return headers, notice

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.taken.put((dict(self.headers), json.loads(body)))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing."""
