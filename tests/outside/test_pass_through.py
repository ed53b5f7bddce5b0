"""`watchstep run` changes nothing of what a command prints, gets and returns."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import subprocess
import termios
from pathlib import Path

import pytest

from outside.kit_outside import (
    PATIENCE_S,
    environment,
    on_terminal,
    piped,
    python,
    until,
    wrapped,
)

EVERY_BYTE = """
import os, sys
every = bytes(range(256))
for size in (1, 7, 4096, 65536, 300_000):
    block = (every * (size // 256 + 1))[:size]
    while block:
        block = block[os.write(1, block):]
    os.write(2, b"size %d\\r" % size)
os.write(1, b"no line feed at the end")
"""
IN_TURNS = """
import os
for turn in range(2000):
    os.write(1, b"first %d\\n" % turn)
    os.write(2, b"second %d\\n" % turn)
"""
SHOWS_ITS_TERMINAL = """
import os, sys
print([os.isatty(number) for number in range(3)])
print(tuple(os.get_terminal_size()), flush=True)
for done in range(0, 101, 10):
    sys.stderr.write(f"\\r\\x1b[32m{done:3d}%\\x1b[0m|{'#' * (done // 10):10s}|")
    sys.stderr.flush()
print("\\nend\\tof it")
"""


def test_every_byte_passes_a_pipe_unchanged_and_each_stream_stays_apart(tmp_path: Path) -> None:
    bare = piped(python(EVERY_BYTE), tmp_path)

    passed = piped(wrapped(python(EVERY_BYTE)), tmp_path)

    assert (passed.stdout, passed.stderr) == (bare.stdout, bare.stderr)
    assert passed.returncode == 0


def test_a_file_that_takes_both_streams_has_them_in_their_order(tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    with log.open("wb") as file:
        subprocess.run(
            wrapped(python(IN_TURNS)),
            cwd=tmp_path,
            env=environment(),
            stdout=file,
            stderr=file,
            timeout=PATIENCE_S,
            check=True,
        )

    expected = b"".join(b"first %d\nsecond %d\n" % (turn, turn) for turn in range(2000))
    assert log.read_bytes() == expected


def test_on_a_terminal_the_command_prints_what_it_would_have_printed(tmp_path: Path) -> None:
    bare = on_terminal(python(SHOWS_ITS_TERMINAL), tmp_path)
    assert bare.end() == 0

    passed = on_terminal(wrapped(python(SHOWS_ITS_TERMINAL)), tmp_path)

    assert passed.end() == 0
    assert b"[True, True, True]" in bare.printed
    assert passed.printed == bare.printed


def test_each_stream_is_a_terminal_only_where_it_was_one(tmp_path: Path) -> None:
    show = "import os; print([os.isatty(n) for n in range(3)])"
    command = ["sh", "-c", 'exec "$@" 2> errors', "sh", *wrapped(python(show))]

    terminal = on_terminal(command, tmp_path)

    assert terminal.end() == 0
    assert b"[True, True, False]" in terminal.printed


def test_the_command_learns_of_a_new_size_of_the_window(tmp_path: Path) -> None:
    program = """
import os, signal
changed = []
signal.signal(signal.SIGWINCH, lambda *_: changed.append(1))
print("ready", tuple(os.get_terminal_size(1)), flush=True)
while tuple(os.get_terminal_size(1)) != (91, 33):
    signal.pause()
print("now", tuple(os.get_terminal_size(1)), flush=True)
"""
    terminal = on_terminal(wrapped(python(program)), tmp_path)
    terminal.read_until(b"ready")

    fcntl.ioctl(terminal.master, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 91, 0, 0))

    terminal.read_until(b"now (91, 33)")
    assert terminal.end() == 0


def test_ctrl_c_reaches_the_command_once(tmp_path: Path) -> None:
    program = """
import signal, time
seen = []
signal.signal(signal.SIGINT, lambda *_: seen.append(1))
print("ready", flush=True)
while not seen:
    time.sleep(0.01)
time.sleep(0.5)
print("interrupts:", len(seen))
raise SystemExit(5)
"""
    terminal = on_terminal(wrapped(python(program)), tmp_path)
    terminal.read_until(b"ready")

    terminal.type(b"\x03")

    assert terminal.end() == 5
    assert b"interrupts: 1" in terminal.printed


LEADER = """
import os, signal, sys
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
job = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, setpgroup=0)
os.tcsetpgrp(0, job)
_, status = os.waitpid(job, os.WUNTRACED)
os.tcsetpgrp(0, os.getpgrp())
print("stopped:", os.WIFSTOPPED(status), flush=True)
input()
os.tcsetpgrp(0, job)
os.killpg(job, signal.SIGCONT)
_, status = os.waitpid(job, 0)
print("left with", os.waitstatus_to_exitcode(status), flush=True)
"""
"""A shell's job control, no more of it than a test needs."""


def test_ctrl_z_stops_the_command_and_fg_lets_it_go_on(tmp_path: Path) -> None:
    program = """
import pathlib, time
print("ready", flush=True)
while not pathlib.Path("go").exists():
    time.sleep(0.02)
print("went on")
"""
    terminal = on_terminal(python(LEADER, *wrapped(python(program))), tmp_path)
    terminal.read_until(b"ready")

    terminal.type(b"\x1a")
    terminal.read_until(b"stopped: True")
    (tmp_path / "go").touch()
    terminal.type(b"\n")

    terminal.read_until(b"left with 0")
    assert b"went on" in terminal.printed
    terminal.end()


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("exit 0", 0),
        ("exit 3", 3),
        ("exit 76", 76),
        ("kill -9 $$", 137),
        ("kill -15 $$", 143),
        ("kill -11 $$", 139),
    ],
)
def test_the_exit_code_is_the_commands_own(tmp_path: Path, script: str, code: int) -> None:
    assert piped(wrapped(["sh", "-c", script]), tmp_path).returncode == code


def test_a_command_that_cannot_be_started_leaves_as_a_shell_would(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("x")

    missing = piped(wrapped(["no-such-command"]), tmp_path)
    forbidden = piped(wrapped(["./data"]), tmp_path)

    assert (missing.returncode, forbidden.returncode) == (127, 126)
    assert missing.stderr == b"watchstep: no-such-command: not found\n"


def test_a_script_without_its_first_line_runs_as_in_a_shell(tmp_path: Path) -> None:
    script = tmp_path / "train.sh"
    script.write_text("echo $1\n")
    script.chmod(0o755)

    assert piped(wrapped(["./train.sh", "a b"]), tmp_path).stdout == b"a b\n"


def test_what_is_typed_reaches_the_command(tmp_path: Path) -> None:
    done = subprocess.run(
        wrapped(["cat"]),
        cwd=tmp_path,
        env=environment(),
        input=b"1\n2",
        capture_output=True,
        timeout=PATIENCE_S,
        check=True,
    )

    assert done.stdout == b"1\n2"


def test_a_command_whose_reader_goes_away_ends_as_it_would_have(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    process = subprocess.Popen(
        wrapped(["sh", "-c", "exec yes"]), cwd=tmp_path, env=environment(), stdout=writer
    )
    os.close(writer)
    os.read(reader, 2)

    os.close(reader)

    assert process.wait(PATIENCE_S) == 128 + signal.SIGPIPE


def test_a_signal_that_is_sent_to_us_is_passed_on(tmp_path: Path) -> None:
    program = """
import signal, sys, time
def end(number, frame):
    print("got", signal.Signals(number).name, flush=True)
    sys.exit(9)
signal.signal(signal.SIGTERM, end)
open("ready", "w").close()
while True:
    time.sleep(0.05)
"""
    process = subprocess.Popen(
        wrapped(python(program)), cwd=tmp_path, env=environment(), stdout=subprocess.PIPE
    )
    until((tmp_path / "ready").exists)

    process.terminate()

    out, _ = process.communicate(timeout=PATIENCE_S)
    assert (out, process.returncode) == (b"got SIGTERM\n", 9)


def test_what_outlives_the_command_goes_on_printing(tmp_path: Path) -> None:
    program = """
import os, pathlib, time
if os.fork() == 0:
    while not pathlib.Path("go").exists():
        time.sleep(0.02)
    print("still here", flush=True)
    os._exit(0)
print("command ends", flush=True)
"""
    process = subprocess.Popen(
        wrapped(python(program)), cwd=tmp_path, env=environment(), stdout=subprocess.PIPE
    )
    assert process.wait(PATIENCE_S) == 0

    (tmp_path / "go").touch()

    out, _ = process.communicate(timeout=PATIENCE_S)
    assert out == b"command ends\nstill here\n"


def test_a_command_inherits_no_signal_that_we_block(tmp_path: Path) -> None:
    show = "import signal; print(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())))"

    assert piped(wrapped(python(show)), tmp_path).stdout == b"[]\n"


def test_a_stream_that_was_closed_is_no_trouble(tmp_path: Path) -> None:
    command = ["sh", "-c", 'exec "$@" <&- 2>&-', "sh", *wrapped(["echo", "here"])]

    assert piped(command, tmp_path).stdout == b"here\n"
