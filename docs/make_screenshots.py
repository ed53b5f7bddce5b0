"""Takes the pictures of the page in docs/screenshots.

    python docs/make_screenshots.py

Needs Playwright and Chromium. The runs in them are told to a real service by the stand-in
trainers of the tests: what is seen is what the service made of them.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from web.conftest import ARGUMENTS
from web.stage import Trainer, serving, tell_explosion, tell_healthy

PICTURES = Path(__file__).parent / "screenshots"
DESK = {"viewport": {"width": 1360, "height": 850}}
PHONE = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 2,
    "is_mobile": True,
    "has_touch": True,
}
SHOTS: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("runs", "/", "tbody tr .spark", DESK),
    ("runs-dark", "/", "tbody tr .spark", {**DESK, "color_scheme": "dark"}),
    ("run-incident", "/runs/ppo-trading-7", ".diagnosis", DESK),
    ("run-charts", "/runs/ppo-trading-7", ".chart[data-loaded]", DESK),
    (
        "run-charts-dark",
        "/runs/ppo-trading-7",
        ".chart[data-loaded]",
        {**DESK, "color_scheme": "dark"},
    ),
    ("run-phone", "/runs/ppo-trading-7", ".diagnosis", PHONE),
    ("alerts", "/alerts", "tbody tr", DESK),
    ("rules", "/rules", "article.rule", DESK),
    ("receivers", "/receivers", "tbody tr", DESK),
    ("compare", "/compare?a=ppo-trading-7&b=ppo-trading-8", ".chart[data-loaded]", DESK),
    ("postmortem", "/runs/ppo-trading-7/postmortem", "article .incident", DESK),
)


class Listener(BaseHTTPRequestHandler):
    """A receiver that takes everything."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def listening() -> Iterator[str]:
    """A place to send notifications to; gives its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Listener)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/hook"
    server.shutdown()
    server.server_close()


def main() -> None:
    """Start a service, tell it a story, take the pictures."""
    PICTURES.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="screenshots-"))
    with listening() as hook:
        settings = {
            "alerts": {"group_wait_s": 0.1},
            "notify": {"allow_private_cidrs": ["127.0.0.0/8"]},
            "receivers": {
                "team": {"kind": "webhook", "url": hook},
                "on-call": {"kind": "webhook", "url": hook, "min_severity": "critical"},
            },
        }
        (folder / "watchstep.yaml").write_text(json.dumps(settings))
        with (
            serving(folder / "store", "--config", str(folder / "watchstep.yaml")) as url,
            httpx.Client(base_url=url, timeout=30) as client,
        ):
            tell_the_story(client)
            take(url)
    shutil.rmtree(folder)


def tell_the_story(client: httpx.Client) -> None:
    """Runs of three projects, one of which explodes."""

    def trainer(run: str, updates: int, project: str, by: str, **tags: str) -> Trainer:
        begun = Trainer(client, run, began=time.time() - updates * 1.5)
        config = {"learning_rate": 3e-4, "n_steps": 2_048, "clip_range": 0.2, "gamma": 0.99}
        return begun.begin(project=project, trainer=by, tags=tags, config=config)

    tell_healthy(trainer("llm-grpo-math-2", 240, "llm", "trl", model="small"), 240, seed=4)
    finished = trainer("walker-seed-1", 300, "robotics", "cleanrl", env="Walker2d")
    tell_healthy(finished, 300, seed=6)
    finished.log({}, {"kind": "finished"})
    finished.send()
    failed = trainer("walker-seed-2", 130, "robotics", "cleanrl", env="Walker2d")
    tell_healthy(failed, 130, seed=8)
    failed.log({}, {"kind": "failed", "error": "RuntimeError: CUDA out of memory"})
    failed.send()
    tell_explosion(trainer("ppo-trading-7", 328, "trading", "sb3", env="Trading-v2", seed="7"))
    for seed in ("8", "9", "10"):
        updates = 280 + 20 * int(seed)
        tell_healthy(
            trainer(f"ppo-trading-{seed}", updates, "trading", "sb3", env="Trading-v2", seed=seed),
            updates,
            seed=int(seed),
        )


def take(url: str) -> None:
    """One picture for each of the shots."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=list(ARGUMENTS)
        )
        for name, path, awaited, options in SHOTS:
            context = browser.new_context(**options)
            page = context.new_page()
            page.goto(url + path)
            if ".chart" in awaited:
                page.locator(".chart").first.wait_for()
                page.evaluate(
                    "scrollTo(0, document.querySelector('.charts').getBoundingClientRect().top"
                    " + scrollY - 160)"
                )
            page.locator(awaited).first.wait_for()
            page.wait_for_timeout(1_500)
            page.screenshot(path=PICTURES / f"{name}.png")
            print(f"docs/screenshots/{name}.png")
            context.close()
        browser.close()


if __name__ == "__main__":
    main()
