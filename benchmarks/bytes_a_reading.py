"""Bytes on disk of a reading: ours, a row for each reading, and Prometheus' TSDB.

    python benchmarks/bytes_a_reading.py [--updates 25000]

One run of 20 metrics, an update a second. Ours in batches of 100 and of 1, roll-ups and rule
state included; narrow rows as (run, metric, seq, step, time, value) with the first three as key.
SQLite after VACUUM, so that only what is stored counts; PostgreSQL (WATCHSTEP_TEST_POSTGRES, or
the local one) with the indexes of its tables; Prometheus by promtool's blocks, without its log.
Values are random doubles, which do not compress, and then such as trainers send: rounded to
float32, counters that stand still. Prometheus keeps a time and a value; no step and no number.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sqlite3
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
from log_cost import readings

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from service.kit import bench, postgres_database
from watchstep.core.updates import Update

START_S = 1.7e9
NARROW = (
    "CREATE TABLE narrow (run bigint, metric integer, seq bigint, step bigint,"
    " time double precision, value double precision, PRIMARY KEY (run, metric, seq))"
)
Row = tuple[int, int, int, int, float, float]


def updates(count: int, *, single: bool) -> Iterator[Update]:
    """A run's updates, of doubles or as single precision."""
    generator = random.Random(0)
    for seq in range(1, count + 1):
        values = readings(generator)
        if single:
            values = {
                name: struct.unpack("f", struct.pack("f", v))[0] for name, v in values.items()
            }
            values["train/learning_rate"] = 3e-4
            values["rollout/ep_len_mean"] = float(200 + seq // 500)
        yield Update(seq, seq * 2_048, START_S + seq, values, None, 1)


def narrow_rows(count: int, *, single: bool) -> Iterator[Row]:
    """The same, a row for each reading."""
    for update in updates(count, single=single):
        for metric, value in enumerate(update.readings.values()):
            yield (7_000_000_000_000_000_000, metric, update.seq, update.step, update.time, value)


def fill(folder: Path, count: int, batch: int, *, single: bool, url: str | None = None) -> None:
    """Put the run into a store of ours, a batch at a time."""
    with bench(folder, database_url=url) as at:
        waiting: list[Update] = []
        for update in updates(count, single=single):
            waiting.append(update)
            if len(waiting) == batch:
                at.send(*waiting)
                waiting = []


def ours_sqlite(folder: Path, count: int, batch: int, *, single: bool) -> int:
    """Bytes of the embedded store."""
    fill(folder, count, batch, single=single)
    return vacuumed(folder / "data" / "watchstep.db")


def ours_postgres(folder: Path, count: int, batch: int, *, single: bool) -> int:
    """Bytes that the tables of readings grow by."""
    with postgres_database() as url:
        plain = url.replace("+psycopg", "")
        fill(folder, 0, batch, single=single, url=url)
        with psycopg.connect(plain) as connection:
            empty = size_of(connection)
        fill(folder, count, batch, single=single, url=url)
        with psycopg.connect(plain) as connection:
            return size_of(connection) - empty


def size_of(connection: psycopg.Connection) -> int:
    """Bytes of all tables of ours, indexes included."""
    query = (
        "SELECT sum(pg_total_relation_size(oid)) FROM pg_class"
        " WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    )
    row = connection.execute(query).fetchone()
    assert row is not None
    return int(row[0])


def narrow_sqlite(folder: Path, count: int, *, single: bool) -> int:
    """Bytes of narrow rows, clustered by their key, which is what SQLite does best."""
    path = folder / "narrow.db"
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(f"{NARROW} WITHOUT ROWID")
        rows = narrow_rows(count, single=single)
        connection.executemany("INSERT INTO narrow VALUES (?, ?, ?, ?, ?, ?)", rows)
    connection.close()
    return vacuumed(path)


def narrow_postgres(count: int, *, single: bool) -> int:
    """Bytes of narrow rows and the index of their key."""
    with postgres_database() as url, psycopg.connect(url.replace("+psycopg", "")) as connection:
        connection.execute(NARROW)
        with connection.cursor() as cursor, cursor.copy("COPY narrow FROM STDIN") as copy:
            for row in narrow_rows(count, single=single):
                copy.write_row(row)
        connection.commit()
        return size_of(connection)


def prometheus(folder: Path, count: int, *, single: bool) -> int | None:
    """Bytes of the blocks that promtool makes; None where there is no promtool."""
    if shutil.which("promtool") is None:
        return None
    text = folder / "readings.txt"
    columns: dict[str, list[float]] = {}
    for update in updates(count, single=single):
        for name, value in update.readings.items():
            columns.setdefault(name, []).append(value)
    with text.open("w") as file:
        file.write("# TYPE watchstep_run_reading gauge\n")
        for name, values in columns.items():
            labels = f'{{run="a",project="default",metric="{name}"}}'
            for seq, value in enumerate(values, 1):
                file.write(f"watchstep_run_reading{labels} {value!r} {START_S + seq}\n")
        file.write("# EOF\n")
    blocks = folder / "blocks"
    command = ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(text), str(blocks)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return sum(path.stat().st_size for path in blocks.rglob("*") if path.is_file())


def vacuumed(path: Path) -> int:
    """Size of a database file that has no free page."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.execute("VACUUM")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return path.stat().st_size


def main() -> None:
    """Print bytes a reading, a line for each way to store it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--updates", type=int, default=25_000)
    count = parser.parse_args().updates
    for single in (False, True):
        print("single precision, two steady:" if single else "random doubles:", flush=True)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            sizes = {
                "ours, SQLite, batches of 100": ours_sqlite(
                    folder / "a", count, 100, single=single
                ),
                "ours, SQLite, batches of 1": ours_sqlite(folder / "b", count, 1, single=single),
                "ours, PostgreSQL, batches of 100": ours_postgres(
                    folder / "c", count, 100, single=single
                ),
                "ours, PostgreSQL, batches of 1": ours_postgres(
                    folder / "d", count, 1, single=single
                ),
                "narrow rows, SQLite": narrow_sqlite(folder, count, single=single),
                "narrow rows, PostgreSQL": narrow_postgres(count, single=single),
                "Prometheus' TSDB": prometheus(folder, count, single=single),
            }
        for what, size in sizes.items():
            shown = "not here" if size is None else f"{size / count / 20:6.1f} bytes a reading"
            print(f"  {what:<34} {shown}", flush=True)


if __name__ == "__main__":
    main()
