from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sender.fake_service import FakeService
from watchstep.sender import Outbound, OutboundConfig
from watchstep.sender.config import Patience

QUICK = Patience(
    connect_s=1.0, total_s=0.5, backoff_first_s=0.02, backoff_max_s=0.1, retry_after_max_s=0.3
)


@pytest.fixture
def service() -> Iterator[FakeService]:
    made = FakeService()
    yield made
    made.stop()


@pytest.fixture
def outbound(tmp_path: Path) -> Iterator[Callable[..., Outbound]]:
    """Makes Outbounds with short waits, and closes them in the end."""
    made: list[Outbound] = []

    def make(url: str | None = None, *, on_command: Any = None, **settings: Any) -> Outbound:
        chosen = {
            "run": "r",
            "url": url,
            "directory": tmp_path / "spool",
            "flush_s": 0.02,
            "poll_s": 0.05,
            "patience": QUICK,
            **settings,
        }
        made.append(Outbound(OutboundConfig(**chosen), on_command=on_command))
        return made[-1]

    yield make
    for sender in made:
        sender.close(0)
