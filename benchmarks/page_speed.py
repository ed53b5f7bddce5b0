"""What the page weighs and how soon it shows something, in real Chromium.

    python benchmarks/page_speed.py [--runs 5000] [--updates 100000] [--metrics 100]

Fills a store in a temporary folder, starts a service of its own on it, and opens its page with
an empty cache, one browser context each time. Every figure is the median and the worst of five:
first what the browser calls the first contentful paint, then the moment at which the rows of the
list, or the first chart, are drawn.
"""

from __future__ import annotations

import argparse
import functools
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from service.http_kit import until  # noqa: E402
from watchstep.core.engine import State, step  # noqa: E402
from watchstep.core.updates import Update  # noqa: E402
from watchstep_monitor.service.clock import to_us  # noqa: E402
from watchstep_monitor.service.run_state.records import (  # noqa: E402
    AttemptRecord,
    RunRecord,
    StateSnapshot,
)
from watchstep_monitor.service.run_state.rulebook import RuleBook  # noqa: E402
from watchstep_monitor.service.run_state.run_cache import Fold  # noqa: E402
from watchstep_monitor.store.opening import StoreOptions, open_store  # noqa: E402
from watchstep_monitor.store.transaction import SqlTransaction  # noqa: E402
from web.conftest import ARGUMENTS  # noqa: E402 - the path comes first
from web.stage import Trainer, healthy_readings, serving, tell_explosion  # noqa: E402

TIMES = 5
SNAPSHOTS: dict[tuple[tuple[str, ...], int], StateSnapshot] = {}
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
    fill(folder / "store", options.runs, options.updates, options.metrics)
    with (
        serving(folder / "store") as url,
        httpx.Client(base_url=url, timeout=120) as client,
        sync_playwright() as playwright,
    ):
        tell_explosion(Trainer(client, "bad").begin(project="trading"))
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


def fill(folder: Path, runs: int, updates: int, metrics: int) -> None:
    """Write the runs into a store, as the service would have; judged are only their ends."""
    start, began = time.perf_counter(), time.time() - 3_600
    opened, book = open_store(StoreOptions(folder)), RuleBook(["auto"])
    names = [f"layer-{number // 4}/norm_{number % 4}" for number in range(metrics - 3)]
    chance = random.Random(1)

    def long_run(at: int) -> Update:
        readings = {
            "train/loss": 4 / (1 + at / 9_000) + chance.gauss(0, 0.05),
            "train/grad_norm": abs(chance.gauss(0.6, 0.15)),
            "rollout/ep_rew_mean": at / 500 + chance.gauss(0, 8),
        } | {name: 1 + chance.random() / 20 for name in names}
        return Update(at, at * 2_048, began + at * 0.01, readings, None, 1)

    def small_run(at: int) -> Update:
        readings = healthy_readings(at * 50, chance)
        return Update(at, at * 2_048, began + at, readings, None, 1)

    def stored(seen: RunRecord, count: int, make: Callable[[int], Update]) -> None:
        for first in range(1, count + 1, 256):
            chunk = [make(at) for at in range(first, min(count + 1, first + 256))]
            job = functools.partial(append, seen, chunk, book)
            seen = opened.store.write(seen.run, job).result(60)

    now = datetime.now(UTC)
    past = now - timedelta(days=1)
    ended = RunRecord("", "sweep", past, heard_at=past, status="finished", ended_at=past)
    for at in range(runs):
        stored(replace(ended, run=f"sweep-{at:05d}"), 4, small_run)
    stored(RunRecord("long", "sweep", now, heard_at=now), updates, long_run)
    opened.close()
    print(
        f"{runs:,} runs, and one of {updates:,} updates of {metrics} metrics, stored in "
        f"{time.perf_counter() - start:.0f} s"
    )


def append(
    seen: RunRecord, chunk: list[Update], book: RuleBook, transaction: SqlTransaction
) -> RunRecord:
    newest = chunk[-1]
    if seen.version == 0:
        seen = replace(seen, attempt=1, timeline_us=to_us(seen.created_at))
        transaction.create_run(seen)
        transaction.save_attempt(seen.run, AttemptRecord(1, None, 0, seen.created_at))
    at = {"last_seq": newest.seq, "step": newest.step, "time": newest.time, "updates": newest.seq}
    record = replace(seen, version=seen.version + 1, health="healthy", **at)
    transaction.append(seen.run, chunk)
    transaction.advance(record, seen)
    transaction.save_snapshot(seen.run, judged(chunk, book))
    return record


def judged(chunk: list[Update], book: RuleBook) -> StateSnapshot:
    """The rule state after the last updates of a chunk; of runs alike one is made for all."""
    key = (tuple(chunk[-1].readings), chunk[-1].seq)
    if key not in SNAPSHOTS:
        rules = book.for_tags({})
        fold = Fold(State(rules))
        for update in chunk[-4:]:
            step(rules, fold.engine, update)
            fold.note(rules, [update])
        SNAPSHOTS[key] = fold.snapshot()
    return SNAPSHOTS[key]


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
        "series of the long run, 1,000 points": partial(
            client.get, "/api/v1/runs/long/series?metric=train/loss&points=1000"
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
