"""When the sender may knock again."""

from __future__ import annotations

import time

import pytest

from watchstep.sender.config import Patience
from watchstep.sender.loop import Pacer


def test_those_who_were_turned_away_together_do_not_come_back_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)
    pacers = [Pacer(Patience()) for _ in range(1_000)]

    for one in pacers:
        one.failed(4.0)

    waits = sorted(one.not_before for one in pacers)
    assert waits[0] >= 4.0
    assert waits[-1] <= 6.0
    busiest = max(sum(at <= wait < at + 0.2 for wait in waits) for at in (4.0, 4.5, 5.0, 5.5, 5.8))
    assert busiest < 250
