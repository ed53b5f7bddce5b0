"""Every Python block of the documentation runs.

A block runs in an empty folder, in a process of its own, after the blocks above it on the same
page. What a block needs, or why it does not run, stands after the word `python`:

- `python service`: SERVICE is the address of a service without runs.
- `python shown="reason"`: not run, for that reason.

Pages of the trainers are run by their own tests.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from service.http_kit import served

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```python([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FENCED = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHELLS = {"", "sh", "bash", "shell", "console"}
ELSEWHERE = {
    "integrations": "tests/integrations runs those",
    "causes": "fragments that show a mistake and its cure, not programs",
}
FRAGMENTS = {
    "README.md": "the six lines stand in the reader's own loop",
}


def pages() -> list[Path]:
    pages = [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md"]
    return [
        page
        for page in pages
        if BLOCK.search(page.read_text("utf-8"))
        and page.parent.name not in ELSEWHERE
        and page.name not in FRAGMENTS
    ]


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_the_python_of_the_page_runs(page: Path, tmp_path: Path) -> None:
    blocks = BLOCK.findall(page.read_text("utf-8"))
    program = "\n".join(code for marks, code in blocks if not re.search(r'shown="[^"]+"', marks))
    if not program:
        pytest.skip("all of its blocks say why they are only shown")
    if "import torch" in program and find_spec("torch") is None:
        pytest.skip("torch is not installed")

    if any("service" in marks.split() for marks, _ in blocks):
        with served(tmp_path / "service", "--rules", "generic") as running:
            address = f"SERVICE = 'http://127.0.0.1:{running.client.port}'\n"
            run(address + program, tmp_path)
    else:
        run(program, tmp_path)


def run(program: str, folder: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WATCHSTEP_")}
    (folder / "block.py").write_text(program, "utf-8")
    ended = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:__main__", "block.py"],
        cwd=folder,
        env=kept,
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]


def test_every_mark_of_a_block_is_one_that_is_known() -> None:
    unknown = []
    for page in (ROOT / "docs").rglob("*.md"):
        if page.parent.name in ELSEWHERE:
            continue
        for marks, _ in BLOCK.findall(page.read_text("utf-8")):
            left = re.sub(r'shown="[^"]+"', "", marks).replace("service", "").strip()
            if left:
                unknown.append((page.name, marks))

    assert unknown == []


def test_every_shell_line_that_calls_watchstep_names_a_command_and_options_that_exist() -> None:
    from typer.main import get_command

    from watchstep.cli.main import build

    mistakes = []
    for page in [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]:
        # What was captured from a terminal is output, and not for typing.
        text = re.sub(r"<!-- capture:.*?^```$", "", page.read_text("utf-8"), flags=re.M | re.S)
        shell = [code for kind, code in FENCED.findall(text) if kind in SHELLS]
        for line in re.findall(r"^(?:\$ )?watchstep ([a-z].*)$", "\n".join(shell), re.MULTILINE):
            mistake = mistake_in(get_command(build()), line.split("#")[0].split())
            if mistake:
                mistakes.append((page.name, line, mistake))

    assert mistakes == []


def mistake_in(command: object, words: list[str]) -> str:
    while getattr(command, "commands", None):
        if not words or words[0] not in command.commands:
            return f"no command {words[:1]}"
        command, words = command.commands[words[0]], words[1:]
    # What follows `--` are the words of another command.
    words = words[: words.index("--")] if "--" in words else words
    options = {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
    wrong = [word for word in words if word.startswith("--") and word.split("=")[0] not in options]
    return f"no option {wrong}" if wrong else ""
