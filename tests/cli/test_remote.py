"""The API from a shell: the real command against the real service, piped and in a window."""

from __future__ import annotations

import fcntl
import functools
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

import watchstep
from service.http_kit import Running, environment, served, until, upd
from watchstep.cli.main import build

NAME = "a-run-whose-name-goes-on-" * 4


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    settings = {
        "WATCHSTEP_RECEIVERS__OPS__KIND": "webhook",
        # Refused at once, since nothing private is allowed: a dead letter.
        "WATCHSTEP_RECEIVERS__OPS__URL": "http://127.0.0.1:9/",
    }
    with served(tmp_path_factory.mktemp("cli"), **settings) as running:
        client = running.client
        client.ask("PUT", f"/api/v1/runs/{NAME}", {"project": "trading"})
        client.send("fin", {**upd(1), "event": {"kind": "finished"}})
        client.send("bad", upd(1, train__loss=0.5, train__grad_norm=1.0))
        client.send("bad", upd(2, train__loss="NaN", train__grad_norm=50.0))
        until(lambda: client.get("/deliveries?state=dead").json["items"])
        yield running


@functools.cache
def application() -> typer.Typer:
    return build()


def command(service: Running, *words: str, **settings: str) -> Result:
    """The command in this process: start-up costs more than all that it does."""
    url = f"http://127.0.0.1:{service.client.port}"
    none = {name: None for name in os.environ if name.startswith("WATCHSTEP_")}
    own = {**none, "WATCHSTEP_URL": url, **settings}
    return CliRunner().invoke(application(), words, env=own)


SEVERAL = """
import json, sys
from watchstep.cli.main import build
app = build()
for words in json.loads(sys.argv[1]):
    app(words, standalone_mode=False)
"""


def in_window(service: Running, columns: int, *commands: tuple[str, ...], **settings: str) -> str:
    """What a person sees of these commands in a terminal so wide."""
    url = f"http://127.0.0.1:{service.client.port}"
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    plain = {
        name: value
        for name, value in environment(WATCHSTEP_URL=url, TERM="xterm-256color").items()
        if name not in {"COLUMNS", "LINES", "NO_COLOR", "CI"}
    }
    with subprocess.Popen(
        [sys.executable, "-c", SEVERAL, json.dumps(commands)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**plain, **settings},
    ) as process:
        os.close(theirs)
        parts = []
        while True:
            try:
                part = os.read(ours, 65_536)
            except OSError:
                # Linux tells the end of a terminal as an error.
                break
            if not part:
                break
            parts.append(part)
        assert process.wait(60) == 0
    os.close(ours)
    return b"".join(parts).decode()


def test_tables_fit_the_window_and_are_coloured_there_only(service: Running) -> None:
    tables = (("runs",), ("alerts",), ("status", "bad"), ("deliveries",))

    for columns in (60, 80, 120):
        shown = in_window(service, columns, *tables)
        lines = re.sub(r"\x1b\[[0-9;]*m", "", shown).split("\r\n")
        assert max(map(len, lines)) <= columns
        assert "\x1b[1;31mcritical" in shown
    assert "\x1b[1;31m" not in in_window(service, 80, ("alerts",), NO_COLOR="1")
    assert "\x1b" not in in_window(service, 80, ("alerts",), TERM="dumb")
    assert "\x1b" not in command(service, "alerts").stdout


def test_a_piped_row_is_one_line_with_the_whole_name(service: Running) -> None:
    listed = command(service, "runs").stdout.splitlines()

    assert len(listed) == 4
    assert sum(line.startswith(f"{NAME} ") and "trading" in line for line in listed) == 1


@pytest.mark.parametrize(
    "words",
    [
        ("runs",),
        ("runs", "--status", "finished", "--limit", "1"),
        ("status", "bad"),
        ("alerts", "--state", "", "--severity", "critical"),
        ("silence",),
        ("deliveries", "--state", "dead", "--run", "bad"),
    ],
)
def test_json_is_what_the_api_answers(service: Running, words: tuple[str, ...]) -> None:
    done = command(service, *words, "--json")

    assert (done.exit_code, done.stderr) == (0, "")
    assert isinstance(json.loads(done.stdout), dict)


def test_runs_are_put_away_one_by_one_and_by_pattern(service: Running) -> None:
    for number in (1, 2, 3):
        service.client.send(f"away-{number}", {**upd(1), "event": {"kind": "finished"}})

    closed = command(service, "close", "away-1")
    archived = command(service, "archive", "away-*", "--status", "finished")
    deleted = command(service, "delete", "away-1", "--yes")
    restored = command(service, "unarchive", "away-*")

    assert closed.stdout == "closed away-1\n"
    assert sorted(archived.stdout.splitlines()) == [f"archived away-{n}" for n in (1, 2, 3)]
    assert deleted.stdout == "deleted away-1\n"
    assert sorted(restored.stdout.splitlines()) == ["unarchived away-2", "unarchived away-3"]
    nothing = command(service, "archive", "nobody-*")
    assert (nothing.exit_code, "no run matches" in nothing.stderr) == (1, True)
    goes_on = command(service, "delete", "bad", "--yes")
    assert (goes_on.exit_code, "has not ended" in goes_on.stderr) == (1, True)
    command(service, "delete", "away-2", "away-3", "--yes")


def test_what_is_put_away_is_told_as_json_too(service: Running) -> None:
    service.client.send("json-1", {**upd(1), "event": {"kind": "finished"}})

    shown = {
        words[0]: json.loads(command(service, *words, "--json").stdout)
        for words in (
            ("close", "json-1"),
            ("archive", "json-1"),
            ("unarchive", "json-1"),
            ("delete", "json-1", "--yes"),
        )
    }
    tested = command(service, "receivers", "test", "ops", "--json")

    assert shown == {
        "close": {"closed": ["json-1"]},
        "archive": {"archived": ["json-1"]},
        "unarchive": {"unarchived": ["json-1"]},
        "delete": {"deleted": ["json-1"]},
    }
    assert (tested.exit_code, json.loads(tested.stdout)["delivered"]) == (1, False)


@pytest.mark.parametrize(
    "words", [("runs", "--nope"), ("postmortem",), ("nonsense",), ("serve", "--port", "abc")]
)
def test_wrong_usage_is_one_line(words: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "watchstep", *words], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("watchstep: ")
    assert done.stderr.count("\n") == 1


def test_replaying_to_nobody_is_exit_3(tmp_path: Path) -> None:
    watch = watchstep.init(run="r", directory=tmp_path, mode="offline")
    watch.log({"train/loss": 1.0})
    watch.finish()

    done = subprocess.run(
        [sys.executable, "-m", "watchstep", "replay", tmp_path, "--url", "http://127.0.0.1:1"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 3
    assert "replaying ended early" in done.stderr


def test_deleting_asks_first(service: Running) -> None:
    done = command(service, "delete", "fin")

    assert done.exit_code == 1
    assert service.client.get("/runs/fin").status == 200


def test_an_alert_is_answered(service: Running) -> None:
    alert = service.client.get("/alerts?run=bad").json["items"][0]

    answered = command(service, "answer", alert["id"], "false-alarm", "--by", "ann")

    assert answered.stdout == f"{alert['rule']} of bad: false alarm\n"
    assert service.client.get(f"/alerts/{alert['id']}").json["answered_by"] == "ann"
    assert command(service, "answer", alert["id"], "perhaps").exit_code == 1


def test_an_address_that_says_https_where_http_is_spoken_is_called_that(service: Running) -> None:
    refused = command(service, "runs", "--url", f"https://127.0.0.1:{service.client.port}")

    assert refused.exit_code == 3
    assert "speaks http, and the address says https" in refused.stderr


def test_a_receiver_is_tested_and_its_trouble_told(service: Running) -> None:
    tested = command(service, "receivers", "test", "ops")
    listed = command(service, "receivers")

    assert tested.exit_code == 1
    assert "ops did not take the message: refused: its name leads to a loopback" in tested.stderr
    assert "webhook" in listed.stdout


def test_what_is_told_of_a_run_is_what_a_person_asks(service: Running) -> None:
    status = command(service, "status", "bad").stdout

    for words in ("diverged", "divergence", "first bad update", "NaN", "LossGone", "ago"):
        assert words in status
    assert "pinned checkpoint" not in status


@pytest.mark.parametrize("listing", ["alerts", "deliveries"])
def test_a_run_is_found_by_the_name_that_its_trainer_was_started_with(
    service: Running, listing: str
) -> None:
    done = command(service, listing, "--run", "ALE/Pong-v5 @2")

    assert (done.exit_code, done.stderr) == (0, "")


def test_a_halt_a_silence_and_an_acknowledgement_take_effect(service: Running) -> None:
    client = service.client
    client.send("busy", upd(1, train__grad_norm=50.0))

    halted = command(service, "halt", "busy", "--reason", "enough")
    silenced = json.loads(command(service, "silence", 'run="busy"', "--json").stdout)
    shown = command(service, "alerts", "--run", "busy").stdout
    ended = command(service, "silence", "--end", silenced["id"])
    acked = command(service, "ack", "busy", "--by", "ada")

    assert (halted.exit_code, ended.exit_code, acked.exit_code) == (0, 0, 0)
    assert [each["kind"] for each in client.get("/runs/busy").json["commands"]] == ["halt"]
    assert "silenced" in shown
    assert "acked" in acked.stdout
    assert client.get("/alerts?run=busy").json["items"][0]["acknowledged_by"] == "ada"


def test_dead_messages_are_seen_with_their_reason_and_sent_again(service: Running) -> None:
    shown = command(service, "deliveries", "--state", "dead", "--run", "bad").stdout
    again = command(service, "deliveries", "--resend", "all", "--run", "bad")
    tried = until(
        lambda: [
            item
            for item in service.client.get("/deliveries?run=bad&state=dead").json["items"]
            if item["attempts"] >= 2
        ]
    )

    assert "loopback" in shown
    assert again.stdout == "1 sent again\n"
    assert len(tried) == 1


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("status", "nobody"), 1, "404"),
        (("halt", "fin"), 1, "has ended"),
        (("ack", "nobody"), 1, "no alert fires"),
        (("silence", "x y"), 1, "must look like"),
        (("runs", "--url", "ftp://x"), 2, "no address"),
        (("runs", "--limit", "0"), 2, "limit"),
        (("runs", "--url", "http://127.0.0.1:1"), 3, "cannot be reached"),
    ],
)
def test_what_goes_wrong_is_on_stderr_with_its_own_exit_code(
    service: Running, words: tuple[str, ...], code: int, says: str
) -> None:
    done = command(service, *words)

    assert (done.exit_code, done.stdout) == (code, "")
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_the_shell_completes_commands() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "watchstep"],
        capture_output=True,
        text=True,
        env=environment(
            _WATCHSTEP_COMPLETE="complete_bash",
            COMP_WORDS="watchstep deli",
            COMP_CWORD="1",
        ),
        timeout=60,
        check=False,
    )

    assert done.stdout.split() == ["deliveries"]
