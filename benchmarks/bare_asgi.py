"""The least that could serve the same requests: an ASGI application that appends and syncs.

Takes any request, hands its body to a thread, and answers 202 once the file is synced; bodies
that wait meanwhile share a sync. It judges nothing, checks nothing and can find nothing again.
`request_cost.py` runs it as the peer of the service:

    python benchmarks/bare_asgi.py FILE PORT
"""

from __future__ import annotations

import asyncio
import os
import queue
import sys
import threading
from typing import Any

import uvicorn

Waiting = tuple[bytes, "asyncio.Future[None]"]

ANSWER = b'{"accepted":1}'


class GroupCommit(threading.Thread):
    """One thread that writes what waits, syncs once, and resolves the futures in one call."""

    def __init__(self, path: str) -> None:
        super().__init__(daemon=True)
        self._file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        self.waiting: queue.SimpleQueue[Waiting] = queue.SimpleQueue()

    def run(self) -> None:
        """See the class."""
        while True:
            group = [self.waiting.get()]
            while not self.waiting.empty():
                group.append(self.waiting.get())
            os.writev(self._file, [body for body, _ in group])
            os.fdatasync(self._file)
            group[0][1].get_loop().call_soon_threadsafe(settle, [future for _, future in group])


def settle(futures: list[asyncio.Future[None]]) -> None:
    """In the loop: all of a group."""
    for future in futures:
        if not future.done():
            future.set_result(None)


def application(commits: GroupCommit) -> Any:
    """The ASGI application."""

    async def app(_: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        future = asyncio.get_running_loop().create_future()
        commits.waiting.put((body, future))
        await future
        headers = [(b"content-type", b"application/json"), (b"content-length", b"14")]
        await send({"type": "http.response.start", "status": 202, "headers": headers})
        await send({"type": "http.response.body", "body": ANSWER})

    return app


def main() -> None:
    """Serve until killed."""
    commits = GroupCommit(sys.argv[1])
    commits.start()
    uvicorn.run(
        application(commits),
        port=int(sys.argv[2]),
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
    )


if __name__ == "__main__":
    main()
