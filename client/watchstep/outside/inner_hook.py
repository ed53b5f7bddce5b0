"""Where the hook is inside the command too: it speaks for the run, and the outside adds its end.

The hook's session lies in the same spool. When its process has ended, the session is taken over:
what it left is sent, and how the process ended is told as the session's next update.
"""

from __future__ import annotations

import json
import os
import time
import urllib.parse
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from watchstep.core.updates import Update
from watchstep.errors import UnreachableError, WatchstepError
from watchstep.hook.options import Options
from watchstep.sender.config import Patience
from watchstep.sender.replay import replay_session
from watchstep.sender.session import Folder, Header, Reader, add_last, sessions, take_over
from watchstep.sender.transport import Reply, Target, Transport
from watchstep.wire import encode_batch, encode_update

ENDS = frozenset({"finished", "failed", "halted", "preempted"})
_PATIENCE = Patience(connect_s=1.0, total_s=2.0, backoff_first_s=0.1, backoff_max_s=0.3)
_BATCH = 500


class InnerHook:
    """Looks out for a hook's session, and ends it.

    Attributes:
        mark: File in which a hook inside says which session is its own.
        header: Who the session says that it is; None while there is none.
        pin: Path of the last good checkpoint, once the end is told; None where none is known.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self._path: Path | None = None
        self.mark = options.directory.resolve() / f"outside-{os.urandom(8).hex()}"
        self.header: Header | None = None
        self.pin: str | None = None

    def look(self) -> bool:
        """Whether a process of the command has a session of its own."""
        if self.header is None:
            try:
                said = json.loads(self.mark.read_bytes())
                self._path = Path(said.pop("folder"))
                self.header = Header(**said)
            except (OSError, ValueError, TypeError, KeyError):
                return False
        return True

    def end(self, event: Mapping[str, Any]) -> None:
        """Tell how the command ended, in the hook's session.

        A clean end after the hook told its own adds nothing.

        Raises:
            WatchstepError: The service does not answer; what is left stays in the spool.
        """
        if self.header is None or self._path is None:
            return
        self.mark.unlink(missing_ok=True)
        folder = take_over(self._path)
        if folder is not None:
            self._end_in_spool(folder, self.header, event)
        elif not self._path.exists() and self._options.url is not None:
            self._end_at_service(self.header, event)

    def _end_in_spool(self, folder: Folder, header: Header, event: Mapping[str, Any]) -> None:
        seq, step, last_event = self._last(folder)
        if last_event.get("kind") not in ENDS:
            add_last(folder, header, Update(seq + 1, step, time.time(), {}, event))
        folder.release()
        if self._options.url is not None and self._options.mode != "offline":
            replay_session(
                folder.path,
                url=self._options.url,
                token=self._options.token,
                patience=_PATIENCE,
            )

    def _last(self, folder: Folder) -> tuple[int, int, Mapping[str, Any]]:
        """Number and step of a session's last update, and the event of the last that had one."""
        reader = Reader(folder)
        seq, step = folder.acknowledged(), 0
        event: Mapping[str, Any] = {}
        while batch := reader.read(seq + 1, None, _BATCH):
            for record in batch:
                update = json.loads(reader.unpacker.to_json(record.framed))
                seq, step, event = record.seq, update["step"], update.get("event") or event
                if event.get("kind") == "checkpoint" and event.get("pinned"):
                    self._note_pin(event)
        return seq, step, event

    def _note_pin(self, checkpoint: Any) -> None:
        path = checkpoint.get("path") if isinstance(checkpoint, dict) else None
        if isinstance(path, str) and Path(path).exists():
            self.pin = path

    def _end_at_service(self, header: Header, event: Mapping[str, Any]) -> None:
        """The session is wholly with the service, and its end with it, unless it died after."""
        transport = Transport(
            Target.parse(self._options.url or ""), token=self._options.token, patience=_PATIENCE
        )
        try:
            path = f"/api/v1/runs/{urllib.parse.quote(header.run, safe=':')}"
            run = _object(transport.request("GET", path, b""))
            self._note_pin(run.get("checkpoint"))
            ended = run.get("status") in ENDS
            if event["kind"] == "finished" or (ended and run["status"] != "finished"):
                return
            begun = _object(transport.request("PUT", path, header.announcement()))
            step = run.get("step")
            update = Update(
                int(begun["last_seq"]) + 1, step if type(step) is int else 0, time.time(), {}, event
            )
            body = encode_batch(int(begun["attempt"]), [encode_update(update)])
            _object(transport.request("POST", f"{path}/updates", body))
        finally:
            transport.close()


def others_at_work(directory: Path, pids: Collection[int]) -> bool:
    """Whether a process that is none of these watches a training from the same spool."""
    holders = {_holder(path / "lock") for path in sessions(directory)}
    return bool(holders - {None, *pids})


def _holder(lock: Path) -> int | None:
    """The process that holds a lock; None where nobody does, or the system does not say."""
    try:
        inode = str(lock.stat().st_ino)
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        fields = line.split()
        # "12: FLOCK  ADVISORY  WRITE 4711 08:01:393217 0 EOF"; waiters have an arrow more.
        if len(fields) > 5 and fields[1] == "FLOCK" and fields[5].rpartition(":")[2] == inode:
            return int(fields[4])
    return None


def _object(reply: Reply) -> dict[str, Any]:
    if reply.status >= 300:
        raise WatchstepError(f"the service answered HTTP {reply.status}")
    try:
        answer = json.loads(reply.body)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise UnreachableError("the answer was not the service's")
    return answer
