"""Many runs and long runs."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from web.stage import Trainer, serving, tell_explosion, tell_many

pytestmark = pytest.mark.long

OpenPage = Callable[..., Any]
RUNS = 120
UPDATES = 10_000


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with (
        serving(tmp_path_factory.mktemp("crowded")) as url,
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        tell_many(client, RUNS, updates=1)
        trainer = Trainer(client, "long", pace_s=0.01, steps_an_update=1).begin()
        for at in range(1, UPDATES + 1):
            odd = {3_333: math.nan, 5_432: 1e9, 7_000: -math.inf}
            trainer.log({"train/grad_norm": odd.get(at, 1 + math.sin(at / 500))})
        trainer.send()
        yield url


def test_all_runs_are_reached_page_by_page(open_page: OpenPage, crowded: str) -> None:
    page = open_page(crowded)
    seen: set[str] = set()

    for number in range(1, 4):
        page.get_by_text(f"Page {number} of 3").wait_for()
        seen |= set(page.locator("tbody .run-link").all_inner_texts())
        if number < 3:
            page.get_by_role("button", name="Next").click()

    assert len(seen) == RUNS + 1


def test_a_search_among_many_finds_the_one(open_page: OpenPage, crowded: str) -> None:
    page = open_page(crowded)
    page.locator("tbody tr").first.wait_for()

    page.get_by_label("Search").fill("sweep-00077")

    page.get_by_text(re.compile("^1 shown")).wait_for()
    assert page.locator("tbody .run-link").all_inner_texts() == ["sweep-00077"]


def test_a_long_run_keeps_its_extremes_and_what_was_no_number(
    open_page: OpenPage, crowded: str
) -> None:
    page = open_page(f"{crowded}/runs/long")
    chart = page.locator('[data-metric="train/grad_norm"][data-loaded]')

    chart.wait_for()

    hint = chart.locator(".hint").inner_text()
    assert "1.00e9" in hint
    assert "2 not finite" in hint
    assert int(chart.get_attribute("data-loaded")) <= 1_000


def test_a_run_told_of_after_the_list_was_read_is_in_the_next_answer(crowded: str) -> None:
    with httpx.Client(base_url=crowded) as client:
        before = client.get("/page/runs").json()["total"]
        Trainer(client, "late-comer").begin(project="late")
        answer = {"total": before}
        while answer["total"] == before:
            answer = client.get("/page/runs", params={"sort": "heard"}).json()

        assert answer["items"][0]["run"] == "late-comer"
        assert answer["total"] == before + 1


def test_the_first_chart_is_asked_for_first_and_the_scales_once(
    open_page: OpenPage, crowded: str
) -> None:
    page = open_page("about:blank")
    paths: list[str] = []
    page.on("request", lambda request: paths.append(request.url.split("?")[0].split("/")[-1]))

    page.goto(f"{crowded}/runs/sweep-00001")
    page.locator(".chart[data-loaded]").first.wait_for()

    assert paths.index("series") < paths.index("timeline")
    assert paths.count("scales") == 1


def test_of_hundreds_of_alerts_the_gravest_and_oldest_come_first(
    open_page: OpenPage, tmp_path: Path
) -> None:
    with serving(tmp_path) as url, httpx.Client(base_url=url, timeout=60) as client:
        for number in range(6):
            tell_explosion(Trainer(client, f"bad-{number}").begin(), burst=60)
        page = open_page(f"{url}/alerts")
        page.locator("tbody tr").first.wait_for()

        severities = page.locator("tbody td:nth-child(3)").all_inner_texts()
        assert len(severities) == 100
        assert severities == sorted(severities, key=["critical", "warning", "info"].index)
        assert page.locator("tbody .run-link").first.inner_text() == "bad-0"

        page.get_by_role("button", name="Show more").click()
        page.locator("tbody tr").nth(100).wait_for()
