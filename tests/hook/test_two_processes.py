"""Two processes that speak for one run: both are told that only the newer one is judged."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.http_kit import Client, served

TRAINER = """
import sys, time, pathlib, watchstep
name, url = sys.argv[1:]
watch = watchstep.init(run="same", url=url, directory="spool-" + name, terminal=False)
watch.log({"train/loss": 1.0})
assert watch.flush(20)
pathlib.Path("begun-" + name).touch()
while not pathlib.Path("end-" + name).exists():
    time.sleep(0.05)
    watch.log({"train/loss": 1.0})
watch.finish()
"""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with served(tmp_path_factory.mktemp("service"), "--rules", "generic") as running:
        yield running.client


def start(name: str, client: Client, folder: Path) -> subprocess.Popen[str]:
    url = f"http://127.0.0.1:{client.port}"
    return subprocess.Popen(
        [sys.executable, "-c", TRAINER, name, url],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
    )


def heard_until(process: subprocess.Popen[str], words: str) -> str:
    assert process.stderr is not None
    heard = ""
    for line in process.stderr:
        heard += line
        if words in heard:
            return heard
    raise AssertionError(heard)


def test_a_second_process_of_a_run_and_the_first_are_warned(client: Client, tmp_path: Path) -> None:
    older = start("older", client, tmp_path)
    while not (tmp_path / "begun-older").exists():
        assert older.poll() is None
    newer = start("newer", client, tmp_path)

    told_newer = heard_until(newer, "not judged")
    told_older = heard_until(older, "judges it no more")

    assert "another process of run 'same' was heard" in told_newer
    assert "another process has begun run 'same' anew" in told_older
    for name, process in (("older", older), ("newer", newer)):
        (tmp_path / f"end-{name}").touch()
        process.communicate(timeout=60)


def test_a_run_that_goes_on_after_its_end_or_its_death_is_no_second_process(
    client: Client, tmp_path: Path
) -> None:
    (tmp_path / "end-first").touch()
    start("first", client, tmp_path).communicate(timeout=60)
    dying = start("spool", client, tmp_path)
    while not (tmp_path / "begun-spool").exists():
        assert dying.poll() is None
    dying.kill()
    dying.communicate()
    (tmp_path / "end-spool").touch()

    _, stderr = start("spool", client, tmp_path).communicate(timeout=60)

    assert "another process" not in stderr
