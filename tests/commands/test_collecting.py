"""The service's garbage collector: what lives on is not looked at again and again."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from watchstep_monitor.commands.serving import COLLECTED_AFTER, collect_seldom


@pytest.fixture
def _collector_as_it_was() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


@pytest.mark.usefixtures("_collector_as_it_was")
def test_what_a_service_starts_with_is_never_collected_again() -> None:
    there = [[] for _ in range(1_000)]

    collect_seldom()

    assert gc.get_freeze_count() > len(there)
    assert gc.get_threshold() == COLLECTED_AFTER
