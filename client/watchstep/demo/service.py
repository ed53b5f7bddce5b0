"""The real service as a process of its own, for the length of a story."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from watchstep.demo.receiver import Receiver
from watchstep.errors import UnreachableError

_READY = "watchstep ready "


class Service:
    """Runs `watchstep serve` on a free port, with one webhook receiver.

    Args:
        folder: For its data, its configuration and its log.
        receiver: Gets every message.

    Raises:
        UnreachableError: It does not become ready; the message is the end of its log.
    """

    def __init__(self, folder: Path, receiver: Receiver) -> None:
        self.folder = folder
        self.url = ""
        config = folder / "watchstep.yaml"
        config.write_text(_configuration(receiver))
        command = [sys.executable, "-m", "watchstep", "serve", "--port", "0"]
        command += ["--config", str(config), "--data-dir", str(folder / "data")]
        self._log = (folder / "service.log").open("wb")
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self._log)

    def __enter__(self) -> Self:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().decode()
        if not line.startswith(_READY):
            self._process.wait(10)
            output = (self.folder / "service.log").read_text()[-500:]
            raise UnreachableError(f"the service did not start: {output}")
        self.url = line.removeprefix(_READY).strip()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _e: BaseException | None, _t: TracebackType | None
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def get(self, path: str) -> Any:
        return json.loads(self.text(f"/api/v1{path}"))

    def text(self, path: str) -> str:
        try:
            with urllib.request.urlopen(self.url + path, timeout=10) as answer:  # noqa: S310 - our own URL
                body: bytes = answer.read()
        except urllib.error.URLError as error:
            raise UnreachableError(f"GET {path}: {error}") from error
        return body.decode()


def _configuration(receiver: Receiver) -> str:
    # JSON is YAML; a receiver on this machine has to be allowed by name.
    return json.dumps(
        {
            "notify": {"allow_private_cidrs": ["127.0.0.0/8"], "retry_base_s": 0.2},
            "alerts": {"group_wait_s": 0},
            "receivers": {
                "pager": {"kind": "webhook", "url": receiver.url, "secret": receiver.secret}
            },
        }
    )
