"""What the service refuses, sorted by what the caller does next; HTTP gives each a status.

ServiceError
├── ConflictError        same identity, other content: look at the stored state
├── NotFoundError        nothing there, or nothing of yours
├── GoneError            it was deleted, and does not rise again: stop sending
├── InvalidError         the content breaks a rule of the contract: change it
├── OverCapError         a cap is reached: wait, or ask the operator
└── StorageTroubleError  the store cannot commit now: nothing was kept, try later
StaleRunError            another process advanced the run: reload and try again (never leaves us)
"""

from __future__ import annotations

from watchstep.errors import WatchstepError


class ServiceError(WatchstepError):
    """Base of what the service refuses."""


class ConflictError(ServiceError):
    """Something else is stored under this identity.

    Attributes:
        loc: The place in the request, such as ("updates", 3, "seq").
        last_seq: The newest sequence number that is stored for the attempt; None where that
            says nothing.
    """

    def __init__(
        self, reason: str, *, loc: tuple[str | int, ...] = (), last_seq: int | None = None
    ) -> None:
        super().__init__(reason)
        self.loc = loc
        self.last_seq = last_seq


class NotFoundError(ServiceError):
    """No such thing, or not one that this caller may know of."""


class GoneError(ServiceError):
    """The run was deleted."""


class InvalidError(ServiceError):
    """A value that cannot be used.

    Attributes:
        loc: The place in the request.
        kind: One word for programs, such as "too_long".
    """

    def __init__(self, reason: str, *, loc: tuple[str | int, ...], kind: str) -> None:
        super().__init__(reason)
        self.loc = loc
        self.kind = kind


class OverCapError(ServiceError):
    """A cap on what is kept or served at a time is reached.

    Attributes:
        retry_after_s: When trying again may help.
    """

    def __init__(self, reason: str, *, retry_after_s: int = 60) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class StorageTroubleError(ServiceError):
    """The store could not commit: disk full, read-only, locked, damaged or away."""


class StaleRunError(Exception):
    """The run row moved on since it was read."""
