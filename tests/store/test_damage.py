"""Bits that flip in a database: noticed, said, and costing nothing but what they were in."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from service.kit import Bench, bench, grad, postgres_database, update
from watchstep_monitor.store.damage import PLACES, places_found

METRIC = "train/grad_norm"


@pytest.fixture(params=["sqlite", "postgresql"])
def damaged(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, str | None]]:
    """A folder and a database, whose store may be opened again; nothing was said of it yet."""
    PLACES.clear()
    if request.param == "sqlite":
        yield tmp_path, None
        return
    with postgres_database() as url:
        yield tmp_path, url


@contextmanager
def opened(place: tuple[Path, str | None], snapshot_every: int = 1_000) -> Iterator[Bench]:
    with bench(place[0], database_url=place[1], snapshot_every=snapshot_every) as at:
        yield at


def flip(place: tuple[Path, str | None], table: str, column: str, where: str = "true") -> None:
    """Change one byte in the middle of a stored value of each row that fits."""
    folder, url = place
    query = f"SELECT {column} FROM {table} WHERE {where}"
    if url is None:
        connection: sqlite3.Connection | psycopg.Connection = sqlite3.connect(
            folder / "data" / "watchstep.db"
        )
        mark = "?"
    else:
        connection = psycopg.connect(url.replace("+psycopg", ""))
        mark = "%s"
    with connection:
        cursor = connection.cursor()
        rows = cursor.execute(query).fetchall()
        assert rows
        for (value,) in rows:
            content = bytearray(value.encode() if isinstance(value, str) else value)
            # A digit stays a digit: the text is still JSON, and a double is another one.
            at = next(at for at in range(len(content) // 2, len(content)) if content[at] & 0x30)
            content[at] ^= 1
            changed = content.decode() if isinstance(value, str) else bytes(content)
            update = f"UPDATE {table} SET {column} = {mark} WHERE {column} = {mark} AND {where}"
            cursor.execute(update, (changed, value))
    connection.close()


def test_a_flipped_block_is_said_and_costs_only_its_own_updates(
    damaged: tuple[Path, str | None], caplog: pytest.LogCaptureFixture
) -> None:
    with opened(damaged) as at:
        for first in (1, 11, 21):
            at.send(*[grad(n, 1.0) for n in range(first, first + 10)])
        at.send(grad(1, 1.0), run="other")

    flip(damaged, "updates", "readings", "first_seq = 11")
    with opened(damaged) as at, caplog.at_level(logging.ERROR):
        seqs = [stored.seq for stored in at.opened.store.updates("a")]
        points = list(at.opened.store.series("a", "train/grad_norm", None, None).points)
        at.send(grad(31, 50.0))
        at.send(grad(2, 50.0), run="other")
        alerts = at.alerts(), at.alerts("other")

    assert seqs == [*range(1, 11), *range(21, 31)]
    assert [point.seq for point in points] == seqs
    assert alerts == ({"GradHigh": "firing"},) * 2
    (record,) = [each for each in caplog.records if each.message == "the database is damaged"]
    assert (record.run, record.first_seq, record.last_seq) == ("a", 11, 20)
    assert places_found() == 1


def test_a_flipped_roll_up_is_made_good_from_the_updates(
    damaged: tuple[Path, str | None], caplog: pytest.LogCaptureFixture
) -> None:
    with opened(damaged) as at:
        for first in range(1, 2_001, 100):
            at.send(*[grad(n, 1.0 + n % 7) for n in range(first, first + 100)])
        whole = [point.value for point in at.run_service.series("a", METRIC, (None, None), 10)[0]]

    flip(damaged, "rollups", "points")
    with opened(damaged) as at, caplog.at_level(logging.ERROR):
        drawn = [point.value for point in at.run_service.series("a", METRIC, (None, None), 10)[0]]

    assert drawn == whole
    assert "the database is damaged" in caplog.messages


@pytest.mark.parametrize("column", ["engine", "latest"])
def test_a_flipped_rule_state_is_made_anew_from_the_updates(
    damaged: tuple[Path, str | None], column: str, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(damaged, snapshot_every=5) as at:
        at.send(*[grad(n, 1.0) for n in range(1, 11)])
        state = at.run_service.view("a", None).latest

    flip(damaged, "run_states", column)
    with opened(damaged) as at, caplog.at_level(logging.ERROR):
        at.send(update(11, train__grad_norm=1.0))
        again = at.run_service.view("a", None).latest

    assert dict(again) == dict(state)
    assert "the database is damaged" in caplog.messages


def test_a_rule_state_that_is_no_text_any_more_holds_up_no_other_run(tmp_path: Path) -> None:
    with opened((tmp_path, None), snapshot_every=5) as at:
        at.send(*[grad(n, 1.0) for n in range(1, 11)])

    with sqlite3.connect(tmp_path / "data" / "watchstep.db") as connection:
        connection.execute(
            "UPDATE run_states SET engine = CAST(x'7bff' || substr(engine, 3) AS TEXT)"
        )
    connection.close()
    with opened((tmp_path, None)) as at:
        mended = at.send(grad(11, 50.0))
        other = at.send(grad(1, 50.0), run="other")

    assert (mended.accepted, other.accepted) == (1, 1)
