"""What the page weighs and how soon it shows something, in real Chromium.

    python benchmarks/page_speed.py [--runs 5000] [--updates 100000] [--metrics 100]

Starts a service of its own in a temporary folder, fills it over HTTP, and opens its page with
an empty cache, one browser context each time. Every figure is the median and the worst of five:
first what the browser calls the first contentful paint, then the moment at which the rows of the
list, or the first chart, are drawn.
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from web.conftest import ARGUMENTS  # noqa: E402 - the path comes first
from web.stage import Trainer, healthy_readings, serving, tell_explosion, until  # noqa: E402

TIMES = 5
WATCHER = """
new MutationObserver((_, watcher) => {
  if (!document.querySelector(%r)) return;
  watcher.disconnect();
  requestAnimationFrame(() => requestAnimationFrame(() => { window.drawn = performance.now(); }));
}).observe(document, { subtree: true, childList: true, attributes: true });
"""
"""Notes when the browser has drawn a frame with what is looked for in it."""
FIRST_PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=5_000)
    parser.add_argument("--updates", type=int, default=100_000)
    parser.add_argument("--metrics", type=int, default=100, help="of the long run")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="page-speed-"))
    with (
        serving(folder / "store") as url,
        httpx.Client(base_url=url, timeout=120) as client,
        sync_playwright() as playwright,
    ):
        fill(client, options.runs, options.updates, options.metrics)
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=list(ARGUMENTS)
        )
        measure(browser, f"list of {options.runs:,} runs", url, "tbody tr .run-link")
        measure(browser, "the same, sparklines drawn", url, "tbody tr .spark")
        measure(
            browser,
            f"{options.metrics} metrics x {options.updates:,} updates, first chart",
            f"{url}/runs/long",
            ".chart[data-loaded]",
        )
        measure(browser, "run with an incident, its diagnosis", f"{url}/runs/bad", ".diagnosis")
        questions(client)
        browser.close()
    shutil.rmtree(folder)


def fill(client: httpx.Client, runs: int, updates: int, metrics: int) -> None:
    start = time.perf_counter()

    def small(at: int) -> None:
        trainer = Trainer(client, f"sweep-{at:05d}", attempt=1)
        chance = random.Random(at)
        for step in range(4):
            trainer.log(healthy_readings(step * 50, chance))
        trainer.send()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(small, range(runs)))
    tell_explosion(Trainer(client, "bad").begin(project="trading"))
    trainer, chance = Trainer(client, "long", pace_s=0.01).begin(), random.Random(1)
    names = [f"layer-{number // 4}/norm_{number % 4}" for number in range(metrics - 3)]
    for at in range(updates):
        trainer.log(
            {
                "train/loss": 4 / (1 + at / 9_000) + chance.gauss(0, 0.05),
                "train/grad_norm": abs(chance.gauss(0.6, 0.15)),
                "rollout/ep_rew_mean": at / 500 + chance.gauss(0, 8),
            }
            | {name: round(chance.gauss(1, 0.05), 6) for name in names}
        )
        # A body has at most 1 MiB.
        if at % 200 == 0:
            trainer.send()
    trainer.send()
    print(
        f"{runs:,} runs, and one of {updates:,} updates of {metrics} metrics, sent in "
        f"{time.perf_counter() - start:.0f} s",
        flush=True,
    )


def measure(browser: Any, name: str, url: str, useful: str) -> None:
    paints, waits, weights, counts = [], [], [], []
    for _ in range(TIMES):
        context = browser.new_context(viewport={"width": 1440, "height": 900})
        page = context.new_page()
        network = context.new_cdp_session(page)
        network.send("Network.enable")
        received: list[float] = []
        network.on(
            "Network.loadingFinished",
            lambda event, to=received: to.append(event["encodedDataLength"]),
        )
        page.add_init_script(WATCHER % useful)
        page.goto(url, wait_until="commit")
        waits.append(until(lambda page=page: page.evaluate("window.drawn"), 60))
        page.wait_for_timeout(300)
        paints.append(page.evaluate(FIRST_PAINT))
        weights.append(sum(received))
        counts.append(len(received))
        context.close()
    print(
        f"{name:<44} {statistics.median(paints):6.0f} ms, worst {max(paints):6.0f} ms; "
        f"drawn {statistics.median(waits):6.0f} ms, worst {max(waits):6.0f} ms; "
        f"{statistics.median(weights) / 1000:7.0f} kB in {statistics.median(counts):.0f} answers"
    )


def questions(client: httpx.Client) -> None:
    requests: dict[str, Callable[[], httpx.Response]] = {
        "page of 50 of all runs": partial(client.get, "/page/runs"),
        "search over all runs": partial(client.get, "/page/runs?q=sweep-04"),
        "50 previews": partial(
            client.get, "/page/previews", params={"run": [f"sweep-{at:05d}" for at in range(50)]}
        ),
        "series of the long run, 1,600 points": partial(
            client.get, "/api/v1/runs/long/series?metric=train/loss&points=1600"
        ),
    }
    for name, ask in requests.items():
        took = []
        for _ in range(TIMES):
            start = time.perf_counter()
            ask().raise_for_status()
            took.append((time.perf_counter() - start) * 1_000)
        print(f"{name:<44} {statistics.median(took):6.0f} ms, worst {max(took):6.0f} ms")


if __name__ == "__main__":
    main()
