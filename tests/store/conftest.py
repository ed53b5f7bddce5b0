from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from service.kit import Bench, bench, postgres_database


@pytest.fixture
def url() -> Iterator[str]:
    """A PostgreSQL database of the test's own."""
    with postgres_database() as made:
        yield made


@pytest.fixture(params=["sqlite", "postgresql"])
def at(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    """The service's parts over each kind of store."""
    with ExitStack() as stack:
        url = stack.enter_context(postgres_database()) if request.param == "postgresql" else None
        yield stack.enter_context(bench(tmp_path, database_url=url))


@pytest.fixture
def replica_pair(url: str, tmp_path: Path) -> Iterator[tuple[Bench, Bench]]:
    """Two replicas on one PostgreSQL."""
    with (
        bench(tmp_path / "one", database_url=url) as first,
        bench(tmp_path / "two", database_url=url) as second,
    ):
        yield first, second
