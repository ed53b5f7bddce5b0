"""A browser, a service with some runs in it, and pages that must not complain."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from web.stage import Trainer, serving, tell_explosion, tell_healthy

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WAIT_MS = 15_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One for each file: while it lives its event loop does, and no other test's could run."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("Chromium is not installed")
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=list(ARGUMENTS))
        yield running
        running.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens pages; fails the test when one of them reported an error."""
    contexts, complaints = [], []

    def opened(url: str, *, quiet: bool = True, **options: Any) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        context.set_default_timeout(WAIT_MS)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        if quiet:
            page.on(
                "console",
                lambda entry: complaints.append(entry.text) if entry.type == "error" else None,
            )
        page.goto(url)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service with a run that exploded, healthy ones, and one that failed."""
    folder: Path = tmp_path_factory.mktemp("service")
    with serving(folder) as url, httpx.Client(base_url=url, timeout=30) as client:
        tell_explosion(
            Trainer(client, "ppo-bad").begin(project="trading", tags={"seed": "7"}, trainer="sb3")
        )
        tell_healthy(Trainer(client, "ppo-good").begin(project="trading", tags={"seed": "8"}), 120)
        failing = Trainer(client, "walker").begin(project="robotics", tags={"env": "Walker"})
        tell_healthy(failing, 40)
        failing.log({}, {"kind": "failed", "error": "RuntimeError: out of memory"})
        failing.send()
        yield url


@pytest.fixture
def client(service: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service, timeout=30) as opened:
        yield opened
