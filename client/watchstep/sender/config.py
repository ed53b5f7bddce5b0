"""What an `Outbound` is told once, when it is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from watchstep.core.updates import TRAINING


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one request may take, and how long to wait after one that failed.

    Attributes:
        connect_s: Limit for reaching one address of the service.
        total_s: Limit for a whole request, from the name look-up's end to the answer's last
            byte, however slowly the bytes drip.
        backoff_first_s, backoff_max_s: The wait after the first failure, doubled after each
            further one up to the second; each is shortened at random by up to a half.
        retry_after_max_s: The longest wait that a service may ask for.
    """

    connect_s: float = 2.0
    total_s: float = 5.0
    backoff_first_s: float = 0.5
    backoff_max_s: float = 30.0
    retry_after_max_s: float = 300.0


@dataclass(frozen=True, slots=True)
class OutboundConfig:
    """Where updates go, as what, and within which bounds.

    Attributes:
        run: Name of the run, see `watchstep.wire.names.RUN_NAME`.
        url: The service's origin, with a path if it lives under one; None keeps everything
            in the spool.
        token: Bearer token; sent to the host in `url` and nowhere else.
        config: The trainer's hyper-parameters, shown with the run.
        trainer: What trains, such as "stable-baselines3 2.9.2".
        directory: Root of the spool; one folder in it for each session.
        mode: "offline" never touches the network: `replay` sends later.
        queue_updates: Updates held in memory at most.
        spool_bytes: Size on disk at most, for this session.
        exit_s: What closing may take at most when the interpreter exits; 0 waits for nothing.
        flush_s: Time between requests, unless something is urgent: an update after a silence is
            sent at once, those that come fast share a request. At 200 updates a second the
            sender's thread took 8 us of CPU an update so, and 26 us at 0.2 s.
        poll_s: After this long without a request an empty one asks for commands.
        terminal: Whether it is said on stderr that the service does not answer, and then of
            which critical alerts it cannot tell.
        link: Whether the run's link is said there, too.
        source: As whom the updates come; another than the training joins an attempt of its.
        session: Of the training whose attempt it joins; None for a session of its own.
        goes_on: Whether it goes on where another session of this process has ended: that one is no
            rival.
        trust_env: Whether proxies named in the environment are used.
    """

    run: str
    url: str | None = None
    token: str | None = field(default=None, repr=False)
    project: str = "default"
    tags: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    trainer: str = ""
    directory: Path = Path(".watchstep")
    mode: Literal["online", "offline"] = "online"
    queue_updates: int = 4096
    spool_bytes: int = 64 * 1024 * 1024
    exit_s: float = 1.5
    flush_s: float = 1.0
    poll_s: float = 2.0
    patience: Patience = Patience()
    source: str = TRAINING
    session: str | None = None
    trust_env: bool = False
    terminal: bool = False
    link: bool = True
    goes_on: bool = False
