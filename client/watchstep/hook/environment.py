"""What a run was started with: versions, command line, commit, host and GPUs."""

from __future__ import annotations

import getpass
import os
import platform
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from watchstep.boundary import of_stranger
from watchstep.masking import masked_arguments

_LIBRARIES = (
    "torch", "numpy", "jax", "flax", "optax", "transformers", "trl", "accelerate", "datasets",
    "peft", "deepspeed", "lightning", "pytorch_lightning", "stable_baselines3", "gymnasium", "ray",
    "tensorflow", "keras", "torchrl", "skrl", "tianshou",
)  # fmt: skip
_GIT_S = 1.0
_LONGEST_COMMAND = 1_000


def environment() -> dict[str, Any]:
    """Facts about this process, without secrets; touches no network, GPU or logger."""
    facts: dict[str, Any] = {"python": platform.python_version(), "packages": _versions()}
    facts |= process_facts()
    gpus = _gpus()
    if gpus:
        facts["gpus"] = gpus
    return facts | _git()


def process_facts() -> dict[str, Any]:
    """Which process this is: host, user, number and command line, without secrets."""
    command = " ".join(masked_arguments(sys.orig_argv))[:_LONGEST_COMMAND]
    return {"command": command, **place_facts(), "pid": os.getpid()}


def place_facts() -> dict[str, str]:
    """On which host, and as whom."""
    return {
        "host": socket.gethostname()[:80],
        "user": of_stranger(getpass.getuser, "")[:80],
    }


def _versions() -> dict[str, str]:
    """Of what is imported already: importing is the trainer's business."""
    versions = {name: getattr(sys.modules.get(name), "__version__", None) for name in _LIBRARIES}
    return {name: str(version)[:40] for name, version in versions.items() if version is not None}


def _gpus() -> list[str]:
    """Names of NVIDIA GPUs as the driver tells them; asking CUDA would start it."""
    lines = [
        line
        for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
        for line in of_stranger(path.read_text, "").splitlines()
    ]
    models = [line.partition(":")[2] for line in lines if line.startswith("Model:")]
    return [model.strip()[:80] for model in models]


def _git() -> dict[str, Any]:
    """Commit of the folder that the script is in, and whether files in it were changed."""
    script = Path(sys.argv[0]).resolve() if sys.argv and sys.argv[0] else Path.cwd()
    folder = script.parent if script.is_file() else Path.cwd()
    inside = any((parent / ".git").exists() for parent in (folder, *folder.parents))
    git = shutil.which("git")
    if not inside or git is None:
        return {}
    commit = _answer([git, "-C", str(folder), "rev-parse", "HEAD"])
    changed = _answer([git, "-C", str(folder), "status", "--porcelain", "--untracked-files=no"])
    if commit is None:
        return {}
    return {"git_commit": commit} | ({} if changed is None else {"git_dirty": bool(changed)})


def _answer(command: list[str]) -> str | None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_GIT_S, check=True,
            stdin=subprocess.DEVNULL, env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError, UnicodeError):
        return None
    return done.stdout.strip()
