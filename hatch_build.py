"""What building a wheel adds: the packs as JSON, and the rule engine compiled by mypyc.

`WATCHSTEP_COMPILE=1` demands the compiled engine and fails without it, `0` never compiles, and
`auto`, the default, compiles where a C compiler is. The same source runs interpreted, so an
editable installation, which is never compiled, only judges more slowly.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

CORE = Path("client", "watchstep", "core")
COMPILED = (
    "arithmetic",
    "spans",
    "windows",
    "sorted_windows",
    "running_stats",
    "extremes",
    "context",
    "nodes",
    "evaluator",
    "state",
    "engine",
)
SETUP = """
from mypyc.build import mypycify
from setuptools import setup

modules = mypycify(
    ["--ignore-missing-imports", "--follow-imports=silent", *{files!r}],
    group_name="watchstep_core",
)
setup(name="watchstep-core", packages=[], py_modules=[], ext_modules=modules)
"""


class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Called by hatchling for every build; only wheels that are no editable ones are changed."""

    @property
    def choice(self) -> str:
        """What `WATCHSTEP_COMPILE` says."""
        choice = os.environ.get("WATCHSTEP_COMPILE", "auto")
        if choice not in {"0", "1", "auto"}:
            raise ValueError(f"WATCHSTEP_COMPILE is {choice!r}; it can be 0, 1 or auto")
        return choice

    def dependencies(self) -> list[str]:
        """What an isolated build must install; a build that cannot compile needs no mypyc."""
        if self.choice == "0" or (self.choice == "auto" and not _has_compiler()):
            return ["ruamel.yaml>=0.18"]
        return ["ruamel.yaml>=0.18", "mypy>=2.4", "setuptools>=77"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add files to the wheel."""
        if self.target_name != "wheel" or version == "editable":
            return
        made = Path(self.root, "build", "wheel")
        shutil.rmtree(made, ignore_errors=True)
        self._add(build_data, _packs_as_json(Path(self.root), made), made)
        if self.choice == "0" or (self.choice == "auto" and not _has_compiler()):
            return
        try:
            modules = _compiled(Path(self.root), made)
        except (OSError, RuntimeError) as error:
            if self.choice == "1":
                raise
            self.app.display_warning(f"the rule engine is not compiled: {error}")
            return
        self._add(build_data, modules, made)
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def _add(self, build_data: dict[str, Any], paths: list[Path], made: Path) -> None:
        for path in paths:
            build_data["force_include"][str(path)] = path.relative_to(made).as_posix()


def _has_compiler() -> bool:
    compiler = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    return os.name == "nt" or shutil.which(compiler.split()[0]) is not None


def _packs_as_json(root: Path, made: Path) -> list[Path]:
    """The packs as `watchstep.rules.files` reads them when they need not be parsed."""
    sys.path.insert(0, str(root / "client"))
    try:
        from watchstep.rules.files import PARSED_PACKS
        from watchstep.rules.parsed_packs import write
    finally:
        sys.path.remove(str(root / "client"))
    written = made / "watchstep/rules/packs" / PARSED_PACKS
    written.parent.mkdir(parents=True)
    write(written)
    return [written]


def _compiled(root: Path, made: Path) -> list[Path]:
    """The extension modules of the core.

    Raises:
        RuntimeError: mypyc or the C compiler refused, with the end of what they said.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # The core alone: `watchstep/__init__.py` would lead mypy to the hook, and on to torch.
        shutil.copytree(root / "client/watchstep/core", folder / "watchstep/core")
        shutil.copy(root / "client/watchstep/errors.py", folder / "watchstep")
        (folder / "watchstep/__init__.py").touch()
        files = [f"watchstep/core/{module}.py" for module in COMPILED]
        (folder / "setup.py").write_text(SETUP.format(files=files), encoding="utf-8")
        command = [sys.executable, "setup.py", "build_ext", "--inplace"]
        built = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if built.returncode:
            raise RuntimeError((built.stdout + built.stderr)[-2_000:])
        modules = []
        for pattern in ("*.so", "*.pyd", "watchstep/core/*.so", "watchstep/core/*.pyd"):
            for path in folder.glob(pattern):
                target = made / path.relative_to(folder)
                target.parent.mkdir(parents=True, exist_ok=True)
                modules.append(Path(shutil.copy(path, target)))
    if len(modules) != len(COMPILED) + 1:
        names = ", ".join(path.name for path in modules)
        raise RuntimeError(f"expected {len(COMPILED)} modules and what they share, got: {names}")
    return modules
