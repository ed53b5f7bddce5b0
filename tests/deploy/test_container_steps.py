"""The Dockerfile's and the compose file's steps, performed without Docker in a clean folder.

Read from the files themselves: what is copied, the commands that install, the environment, the
mounts and secrets, the entry point, the health check. Absolute places (`/src`, `/opt/watchstep`,
`/data`, `/run/secrets`, `/etc/watchstep`) lie under the clean folder. Not performed: FROM (this
machine's Python stands in for the image's), the making of the user (the number alone is used,
where the tests run as root), and the limits that only a kernel's namespaces can set.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from deploy.kit import DEPLOY, ROOT, ask, free_port, read_yaml, running, tell, wait_until

pytestmark = pytest.mark.skipif(
    os.environ.get("WATCHSTEP_SLOW") != "1", reason="slow, installs packages: make test-packaging"
)

UID = 10001
PLACES = ("/opt/watchstep", "/src", "/data", "/run/secrets", "/etc/watchstep")
COMPOSE = read_yaml((ROOT / "docker-compose.yml").read_text())


@dataclass
class Image:
    """What the steps of a stage, and of those it builds on, have made."""

    root: Path
    env: dict[str, str] = field(default_factory=dict)
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)
    workdir: str = "/"
    args: dict[str, str] = field(default_factory=dict)

    def placed(self, text: str) -> str:
        """The text with the image's places as they lie here."""
        for place in PLACES:
            text = re.sub(rf"(?<![\w/.]){re.escape(place)}(?![\w.-])", f"{self.root}{place}", text)
        return text


def stages() -> dict[str, tuple[str, list[tuple[str, str]]]]:
    """Stage to the stage it builds on and its instructions."""
    stages_by_name: dict[str, tuple[str, list[tuple[str, str]]]] = {}
    name = ""
    for line in (DEPLOY / "docker" / "Dockerfile").read_text().splitlines():
        word, _, rest = line.partition(" ")
        if word == "FROM":
            base, name = rest.split(" AS ")
            stages_by_name[name] = (base, [])
        elif word.isupper() and name:
            stages_by_name[name][1].append((word, rest))
    return stages_by_name


def perform(stage: str, image: Image) -> None:
    """Every step of a stage, after those of the stage it builds on."""
    base, steps = stages()[stage]
    if base in stages():
        perform(base, image)
    for word, rest in steps:
        if word == "RUN":
            _run(rest, image)
        elif word == "COPY":
            _copy(rest, image)
        elif word == "ENV":
            image.env |= dict(part.split("=", 1) for part in shlex.split(rest))
        elif word == "ARG":
            image.args.setdefault(*rest.replace('"', "").split("=", 1))
        elif word == "WORKDIR":
            image.workdir = rest
            Path(image.placed(rest)).mkdir(parents=True, exist_ok=True)
        elif word in {"ENTRYPOINT", "CMD"}:
            setattr(image, "entrypoint" if word == "ENTRYPOINT" else "command", json.loads(rest))
        elif word == "HEALTHCHECK":
            image.health = json.loads(rest.partition(" CMD ")[2])
        else:
            assert word in {"USER", "EXPOSE", "VOLUME"}, word


def _run(command: str, image: Image) -> None:
    if "useradd" in command:
        Path(f"{image.root}/data").mkdir(exist_ok=True)
        _give(Path(f"{image.root}/data"))
        return
    kept = {
        key: value
        for key, value in os.environ.items()
        if key.startswith("PIP_") or key.lower().endswith("_proxy") or key == "HOME"
    }
    tools = image.root / "tools"
    tools.mkdir(exist_ok=True)
    if not (tools / "python").exists():
        (tools / "python").symlink_to(_system_python())
    subprocess.run(
        ["/bin/sh", "-ec", image.placed(command)],
        cwd=image.placed(image.workdir),
        env=kept | image.args | {"PATH": f"{tools}:/usr/bin:/bin"},
        check=True,
        timeout=580,
        stdout=subprocess.DEVNULL,
    )


def _copy(rest: str, image: Image) -> None:
    parts = rest.split()
    if parts[0].startswith("--from="):
        other = parts[0].removeprefix("--from=")
        built = Image(image.root, args=image.args)
        perform(other, built)
        # Same place in both stages, so nothing moves; an environment could not be moved either.
        assert parts[1] == parts[2]
        return
    allowed = re.findall(r"^!(\S+)", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    target = Path(image.placed(parts[-1]))
    if not target.is_absolute():
        target = Path(image.placed(image.workdir)) / target
    for source in parts[:-1]:
        assert source in allowed, f"{source} is not in the build context"
        if (ROOT / source).is_dir():
            left_out = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(ROOT / source, target, ignore=left_out)
        else:
            shutil.copy(ROOT / source, target)


def _system_python() -> str:
    """A Python that any user may run, if there is one; a home folder's is root's alone."""
    for candidate in ("/usr/local/bin/python3.11", "/usr/bin/python3.11", "/usr/bin/python3"):
        can = [candidate, "-c", "import ensurepip, sys; sys.exit(sys.version_info < (3, 11))"]
        if Path(candidate).exists() and subprocess.run(can, check=False).returncode == 0:
            return candidate
    return sys.executable


def _give(folder: Path) -> None:
    if os.geteuid() == 0:
        os.chown(folder, UID, UID)


def _user(image: Image) -> dict[str, int]:
    """How to become the image's user, where that is possible."""
    python = os.path.realpath(f"{image.root}/opt/watchstep/bin/python")
    private = not Path(python).stat().st_mode & 0o001 or python.startswith("/root/")
    return {} if os.geteuid() != 0 or private else {"user": UID, "group": UID}


@pytest.fixture(scope="module")
def clean() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="watchstep-image-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@pytest.fixture(scope="module")
def monitor(clean: Path) -> Image:
    """The monitor's image, and the secrets and mounts that compose gives it."""
    image = Image(clean)
    perform("monitor", image)
    subprocess.run(
        [sys.executable, DEPLOY / "make_secrets.py", clean / "secrets"],
        check=True,
        capture_output=True,
        timeout=30,
    )
    for name, secret in COMPOSE["secrets"].items():
        _mount(clean / secret["file"], clean / "run" / "secrets" / name)
    for volume in COMPOSE["services"]["monitor"]["volumes"]:
        source, target, *_ = volume.split(":")
        if source.startswith("./"):
            _mount(ROOT / source, Path(image.placed(target)))
    return image


def _mount(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    shutil.copy(source, target)


def environment(image: Image, service: str = "monitor") -> dict[str, str]:
    """The image's and compose's; nothing of this process' own."""
    env = dict(image.env)
    for key, value in COMPOSE["services"][service]["environment"].items():
        if value is not None:
            env[key] = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)
    env["PATH"] = env["PATH"].replace("$PATH", "/usr/bin:/bin")
    env["HOME"] = "/data"
    return {key: image.placed(value) for key, value in env.items()}


def health(image: Image, env: dict[str, str]) -> int:
    return subprocess.run(
        [image.placed(part) for part in image.health],
        env=env,
        check=False,
        capture_output=True,
        timeout=10,
        **_user(image),
    ).returncode


def contents(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_the_service_runs_as_compose_starts_it(monitor: Image, clean: Path) -> None:
    port = free_port()
    env = environment(monitor) | {"WATCHSTEP_PORT": str(port)}
    compose = COMPOSE["services"]["monitor"]["command"]
    command = [monitor.placed(part) for part in [*monitor.entrypoint, *compose]]
    token = (clean / "run" / "secrets" / "trainer_token").read_text()
    url = f"http://127.0.0.1:{port}"
    update = {"seq": 1, "step": 1, "time": 1795409730.0, "metrics": {"train/loss": "NaN"}}
    batch = {"attempt": 1, "updates": [update]}
    before = contents(clean / "opt")
    where = {"cwd": monitor.placed(monitor.workdir), **_user(monitor)}

    assert health(monitor, env) == 1
    with running(command, clean / "first.log", env, **where) as first:
        wait_until(lambda: health(monitor, env) == 0 or first.poll() is not None, "healthy")
        assert first.poll() is None, (clean / "first.log").read_text()
        assert tell(f"{url}/api/v1/runs/ppo-7/updates", batch) == 401
        assert tell(f"{url}/api/v1/runs/ppo-7/updates", batch, token) == 202
        first.send_signal(signal.SIGTERM)
        # Compose kills after its stop_grace_period.
        assert first.wait(15) == 0
    with running(command, clean / "second.log", env, **where):
        wait_until(lambda: health(monitor, env) == 0, "healthy again")
        # What was acknowledged is there, so sending it again changes nothing.
        assert tell(f"{url}/api/v1/runs/ppo-7/updates", batch, token) == 202
        assert ask(f"{url}/healthz") == {"status": "ok"}

    # The image's own files are never written: its file system may be read-only.
    assert contents(clean / "opt") == before
    owner = (clean / "data" / "watchstep.db").stat().st_uid
    assert owner == _user(monitor).get("user", os.geteuid())


def test_a_message_from_the_image_has_its_picture_and_every_receiver_its_library(
    monitor: Image, clean: Path
) -> None:
    program = """
import apprise, opentelemetry.proto
from watchstep_monitor.notify.chart import draw
from watchstep_monitor.service.series import Point
print(draw("train/loss", [Point(1, n, n, float(n), n * n) for n in range(9)], 5)[:4])
"""

    done = subprocess.run(
        [monitor.placed("/opt/watchstep/bin/python"), "-c", program],
        env=environment(monitor),
        cwd=clean,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        **_user(monitor),
    )

    assert done.stdout == "b'\\x89PNG'\n", done.stderr


def test_the_default_command_refuses_to_be_open_to_all(monitor: Image, clean: Path) -> None:
    """Without compose's secrets, as `docker run` alone would start it."""
    env = environment(monitor) | {"WATCHSTEP_PORT": str(free_port())}
    del env["WATCHSTEP_AUTH__TOKENS_FILE"]
    empty = clean / "empty"
    empty.mkdir()
    _give(empty)
    env["WATCHSTEP_DATA_DIR"] = str(empty)

    done = subprocess.run(
        [monitor.placed(part) for part in [*monitor.entrypoint, *monitor.command]],
        env=env,
        cwd=empty,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        **_user(monitor),
    )

    assert done.returncode == 2
    assert "no token is configured" in done.stderr


def test_the_demo_trains_and_is_halted(monitor: Image, clean: Path) -> None:
    port = free_port()
    service = environment(monitor) | {"WATCHSTEP_PORT": str(port)}
    root = clean / "demo"
    root.mkdir()
    demo = Image(root)
    perform("demo", demo)
    secrets = root / "run" / "secrets"
    _mount(clean / "secrets" / "trainer_token", secrets / "trainer_token")
    url = f"http://127.0.0.1:{port}"
    admin = (clean / "secrets" / "admin_token").read_text()
    command = [monitor.placed(part) for part in [*monitor.entrypoint, *monitor.command]]

    with running(command, clean / "demo-service.log", service, cwd=monitor.placed("/data")):
        wait_until(lambda: health(monitor, service) == 0, "healthy")
        done = subprocess.run(
            [demo.placed(part) for part in demo.entrypoint],
            env=environment(demo, "demo") | {"WATCHSTEP_URL": url},
            cwd=demo.placed(demo.workdir),
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
            **_user(demo),
        )
        run = ask(f"{url}/api/v1/runs/demo-mountaincar", admin)

    assert done.returncode == 76, done.stderr
    assert run["status"] == "halted"
    assert run["checkpoint"]["sha256"]
