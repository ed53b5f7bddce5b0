"""Two versions of the service on one database: a schema that grows under load, then shrinks.

The older versions are commits of this repository. Newer ones do not exist yet: they are copies
of this one with further steps of the schema.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

import watchstep_monitor
from service.http_kit import Running, environment, served, until, upd
from service.kit import postgres_database
from story.postgres_kit import inbox
from story.replica_kit import Trainer, progress, tally, training
from watchstep_monitor.store import schema

pytestmark = pytest.mark.long

LANDED = {
    "0001": "f8c7556cb7def16287b09676141ff68b9344a20e",
    "0002": "1238d66b2d57874e2bbf7b0d65beac09334a1b82",
    "0006": "c6417e3c55731337989ece6d866faeecead30072",
}
"""By schema, the newest commit before it grew."""

RESTARTS_FROM = "0002"
"""Code from before it does not know that a schema may be newer than itself."""

GROWN, SHRUNK = "9001", "9002"
RUNS = 4

GROW = f'''"""A column that has a default, a table, and an index: nothing that was there changes."""

import sqlalchemy as sa
from alembic import op

revision = "{GROWN}"
down_revision = "{schema.HEAD}"
oldest_code = "{schema.HEAD}"


def upgrade() -> None:
    note = sa.Column("note", sa.Text, nullable=False, server_default="none")
    op.add_column("runs", note)
    op.create_table("notes", sa.Column("run_key", sa.BigInteger, primary_key=True))
    op.create_index("runs_note", "runs", ["note"])
'''

SHRINK = f'''"""Takes away what the first version writes."""

from alembic import op

revision = "{SHRUNK}"
down_revision = "{GROWN}"
oldest_code = "{GROWN}"


def upgrade() -> None:
    op.drop_column("runs", "trainer_did")
'''


def version(folder: Path, head: str, *steps: str) -> dict[str, str]:
    """A copy of the service with further steps; the environment that runs it."""
    package = folder / "watchstep_monitor"
    shutil.copytree(Path(watchstep_monitor.__file__).parent, package)
    path = package / "store/schema.py"
    old = f'HEAD = "{schema.HEAD}"'
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, f'HEAD = "{head}"'))
    for at, step in enumerate(steps):
        (package / f"store/migrations/versions/step_900{at + 1}.py").write_text(step)
    return {"PYTHONPATH": str(folder)}


def landed(folder: Path, commit: str) -> dict[str, str]:
    """A commit's client and service; the environment that runs it."""
    git = ["git", "-C", str(Path(__file__).parent)]
    process = subprocess.run([*git, "cat-file", "-e", f"{commit}^{{commit}}"], check=False)
    if process.returncode:
        pytest.skip(f"the history of this checkout does not reach back to {commit[:7]}")
    top = subprocess.check_output([*git, "rev-parse", "--show-toplevel"], text=True).strip()
    packed = subprocess.check_output(["git", "-C", top, "archive", commit, "client", "monitor"])
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
    return {"PYTHONPATH": f"{folder / 'client'}:{folder / 'monitor'}"}


def upgraded(url: str, folder: Path, code: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """`watchstep db upgrade` with one version's code."""
    command = [sys.executable, "-m", "watchstep_monitor", "db", "upgrade"]
    where = environment(WATCHSTEP_DATABASE_URL=url, **code)
    return subprocess.run(
        command, env=where, cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )


@contextmanager
def fleet_of(running: list[Running]) -> Iterator[list[Trainer]]:
    """Trainers that send each batch to the next of those who run at that moment."""

    def ask_for(at: int):
        turn = at

        def ask(run, updates):
            nonlocal turn
            turn += 1
            return running[turn % len(running)].client.send(run, *updates)

        return ask

    trainers = [Trainer(f"run-{at}", ask_for(at)) for at in range(RUNS)]
    with training(trainers):
        yield trainers


def test_replicas_are_replaced_one_by_one_across_a_schema_that_grows(tmp_path: Path) -> None:
    newer = version(tmp_path / "v2", GROWN, GROW)
    with ExitStack() as stack:
        url = stack.enter_context(postgres_database())
        received = stack.enter_context(inbox())
        settings = {"WATCHSTEP_DATABASE_URL": url, **received.settings()}
        old = stack.enter_context(served(tmp_path / "old", **settings))
        running = [old]
        with fleet_of(running) as trainers:
            progress(trainers, 600)
            new = stack.enter_context(served(tmp_path / "new", **settings, **newer))
            running.append(new)
            progress(trainers, 200)
            running[:] = [new]
            assert old.stop() == 0
            # Older code that starts now, such as a replica that had crashed, works too.
            old_again = stack.enter_context(served(tmp_path / "old", **settings))
            running[:] = [old_again]
            progress(trainers, 200)
            running[:] = [new]
            assert old_again.stop() == 0
            progress(trainers, 100)
        totals = tally(new.client, trainers, received)
        revision = revision_of(url)

    assert [trainer.problems for trainer in trainers] == [[]] * RUNS
    assert revision == GROWN
    assert totals.clean(), totals
    assert totals.edges >= RUNS * 2


@pytest.mark.parametrize("revision", LANDED)
def test_replicas_of_an_older_version_are_replaced_one_by_one(
    revision: str, tmp_path: Path
) -> None:
    older = landed(tmp_path / "code", LANDED[revision])
    with ExitStack() as stack:
        url = stack.enter_context(postgres_database())
        received = stack.enter_context(inbox())
        settings = {"WATCHSTEP_DATABASE_URL": url, **received.settings()}
        old = stack.enter_context(served(tmp_path / "old", **settings, **older))
        assert revision_of(url) == revision
        running = [old]
        with fleet_of(running) as trainers:
            progress(trainers, 600)
            new = stack.enter_context(served(tmp_path / "new", **settings))
            running.append(new)
            progress(trainers, 300)
            if revision >= RESTARTS_FROM:
                old.kill()
                running[:] = [new]
                progress(trainers, 20)
                old = stack.enter_context(served(tmp_path / "old", **settings, **older))
                running.append(old)
                progress(trainers, 100)
            running[:] = [new]
            assert old.stop() == 0
            progress(trainers, 100)
        totals = tally(new.client, trainers, received)
        assert revision_of(url) == schema.HEAD

    assert [trainer.problems for trainer in trainers] == [[]] * RUNS
    assert totals.clean(), totals
    assert totals.edges >= RUNS * 2


def test_other_sources_wait_until_no_replica_is_left_that_would_not_know_them(
    tmp_path: Path,
) -> None:
    older = landed(tmp_path / "code", LANDED["0006"])
    bad = {**upd(1, train__loss="NaN"), "source": "otlp"}
    with ExitStack() as stack:
        url = stack.enter_context(postgres_database())
        settings = {"WATCHSTEP_DATABASE_URL": url}
        old = stack.enter_context(served(tmp_path / "old", **settings, **older))
        new = stack.enter_context(served(tmp_path / "new", **settings))
        for seq in range(1, 4):
            assert old.client.send("a", upd(2 * seq - 1, train__loss=1.0)).status == 202
            assert new.client.send("a", upd(2 * seq, train__loss=1.0)).status == 202

        while_old_runs = new.client.send("a", bad)
        assert old.stop() == 0
        until(lambda: new.client.send("a", bad).status == 202)

        run = new.client.get("/runs/a").json

    assert (while_old_runs.status, "retry-after" in while_old_runs.headers) == (503, True)
    assert (run["last_seq"], run["last_seqs"]) == (6, {"otlp": 1})
    assert {alert["source"] for alert in run["alerts"]} == {"otlp"}


def test_a_schema_shrinks_only_when_no_older_replica_is_left_and_then_keeps_them_out(
    tmp_path: Path,
) -> None:
    grown = version(tmp_path / "v2", GROWN, GROW)
    shrunk = version(tmp_path / "v3", SHRUNK, GROW, SHRINK)
    with postgres_database() as url:
        with served(tmp_path / "a", WATCHSTEP_DATABASE_URL=url) as old:
            assert upgraded(url, tmp_path, grown).returncode == 0

            while_old_runs = upgraded(url, tmp_path, shrunk)

            assert old.stop() == 0
        afterwards = upgraded(url, tmp_path, shrunk)
        old_again = upgraded(url, tmp_path, {})

    assert while_old_runs.returncode == 2
    assert f"replicas of schema {schema.HEAD} still use this database" in while_old_runs.stderr
    assert afterwards.returncode == 0, afterwards.stderr
    assert old_again.returncode == 2
    assert "install the newer watchstep" in old_again.stderr


def revision_of(url: str) -> str:
    from sqlalchemy import create_engine

    engine = create_engine(url)
    with engine.connect() as connection:
        scalar = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one()
    engine.dispose()
    return str(scalar)
