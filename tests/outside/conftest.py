"""A service on a real socket for every test that asks for one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sender.fake_service import FakeService


@pytest.fixture
def service() -> Iterator[FakeService]:
    made = FakeService()
    yield made
    made.stop()
