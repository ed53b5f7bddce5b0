"""Sends what trainers that are gone left in a spool."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from watchstep.errors import UnreachableError
from watchstep.sender.config import Patience
from watchstep.sender.loop import Pacer
from watchstep.sender.session import Folder, Header, read_header, sessions, take_over
from watchstep.sender.session_sender import SessionSender, SetbackError
from watchstep.sender.sources import SpooledSource
from watchstep.sender.transport import Target, Transport

# With the usual patience about 15 s of trying before a person is told.
_TRIES = 6


@dataclass(slots=True)
class ReplayResult:
    """What became of a spool.

    Attributes:
        sessions: Sessions that are wholly with the service now; their folders are gone.
        updates: Updates that the service stored now, placeholders included.
        lost: Updates that could not be sent, by reason; the service was told of each.
        damaged: Stretches of damaged bytes that were stepped over.
        live: Sessions left alone because a trainer of the same run is at work; it sends
            them itself.
        refused: Sessions that the service will not take, with its reason; they are kept.
        unreadable: Folders without an intact header; they are kept.
        failure: Why replaying ended early; None when it did not.
    """

    sessions: int = 0
    updates: int = 0
    lost: dict[str, int] = field(default_factory=dict)
    damaged: int = 0
    live: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)
    failure: str | None = None


def replay(directory: Path, *, url: str, token: str | None) -> ReplayResult:
    """Send every dead session under a spool, oldest first, and remove what was sent.

    Safe at any time and any number of times: a session that a living process owns is left
    alone, and the service stores no update twice.

    Args:
        directory: The spool's root, as in `OutboundConfig`.

    Raises:
        SettingsError: The URL or token cannot be used.
    """
    transport = Transport(Target.parse(url), token=token, patience=Patience())
    result = ReplayResult()
    dead = _dead_sessions(directory, result)
    try:
        for header, folder in dead:
            try:
                if result.failure is None:
                    _replay_one(transport, header, folder, result)
            finally:
                folder.release()
    finally:
        transport.close()
    return result


def _dead_sessions(directory: Path, result: ReplayResult) -> list[tuple[Header, Folder]]:
    """Every session whose run has no living owner here, locked, oldest first."""
    dead: list[tuple[Header, Folder]] = []
    busy: set[str] = set()
    for path in sessions(directory):
        header = read_header(path)
        folder = take_over(path)
        if header is None:
            result.unreadable.append(path.name)
            if folder is not None:
                folder.release()
        elif folder is None:
            busy.add(header.run)
            result.live += 1
        else:
            dead.append((header, folder))
    for header, folder in dead:
        if header.run in busy:
            result.live += 1
            folder.release()
    return [pair for pair in dead if pair[0].run not in busy]


def _replay_one(transport: Transport, header: Header, folder: Folder, result: ReplayResult) -> None:
    source = SpooledSource(folder)
    sender = SessionSender(transport, header, source)
    try:
        _send_all(sender)
        folder.remove()
        result.sessions += 1
    except SetbackError as setback:
        if setback.kind == "session":
            result.refused[folder.path.name] = str(setback)
        else:
            result.failure = str(setback)
    except (UnreachableError, OSError) as error:
        result.failure = str(error)
    result.updates += sender.sent
    result.damaged += source.damaged
    for reason in source.lost.values():
        result.lost[reason] = result.lost.get(reason, 0) + 1


def _send_all(sender: SessionSender) -> None:
    pacer = Pacer(Patience())
    while True:
        try:
            if not sender.advance():
                return
            pacer.succeeded()
        except (UnreachableError, SetbackError) as error:
            lasting = isinstance(error, SetbackError) and error.kind in ("shut", "session")
            if lasting or pacer.failures + 1 >= _TRIES:
                raise
            pacer.failed(error.retry_after_s if isinstance(error, SetbackError) else None)
            pacer.sleep()
