"""What importing the client may cost a trainer."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("torch", "numpy", "httpx", "pydantic", "ruamel", "typer", "rich", "fastapi", "asyncio")


def test_importing_watchstep_pulls_in_nothing_heavy() -> None:
    program = f"import sys, watchstep; print([m for m in {HEAVY!r} if m in sys.modules])"

    process = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert process.stdout.strip() == "[]"


def test_making_a_watch_imports_neither_torch_nor_an_http_library() -> None:
    program = (
        "import sys, tempfile, watchstep\n"
        "w = watchstep.init(run='r', directory=tempfile.mkdtemp(), url='http://127.0.0.1:1')\n"
        "heavy = ('torch', 'numpy', 'httpx', 'pydantic', 'asyncio', 'importlib.resources')\n"
        "print([m for m in heavy if m in sys.modules])\n"
        "w.finish()\n"
    )

    process = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert process.stdout.strip() == "[]"
