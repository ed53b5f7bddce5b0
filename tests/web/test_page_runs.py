"""The list of runs: it holds still, shows what a person chose, and lets runs be put away."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from web.stage import Trainer, serving, tell_healthy

OpenPage = Callable[..., Any]


@contextmanager
def swept(folder: Path) -> Iterator[httpx.Client]:
    with serving(folder) as url, httpx.Client(base_url=url, timeout=30) as client:
        for run, rate, score in (("a", 1e-3, 2.0), ("b", 3e-4, float("nan")), ("c", 1e-2, 7.0)):
            config = {"optimizer": {"lr": rate}, "net": "mlp"}
            trainer = Trainer(client, run).begin(config=config, tags={"seed": run})
            trainer.log({"eval/score": score})
            trainer.log({}, {"kind": "finished"})
            trainer.send()
        yield client


@pytest.fixture
def sweep(tmp_path: Path) -> Iterator[httpx.Client]:
    """Three runs that differ in a setting and in a metric, one of which is not finite."""
    with swept(tmp_path) as client:
        yield client


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """The same with a fourth that has none of these, for all tests that only look."""
    with swept(tmp_path_factory.mktemp("seen")) as client:
        without = Trainer(client, "without").begin()
        without.log({"x": 1.0})
        without.send()
        yield client


def _runs(client: httpx.Client, **query: Any) -> list[str]:
    return [item["run"] for item in client.get("/page/runs", params=query).json()["items"]]


@pytest.mark.parametrize(
    ("sort", "rising", "falling"),
    [
        ("config:optimizer.lr", ["b", "a", "c"], ["c", "a", "b"]),
        ("metric:eval/score", ["a", "c", "b"], ["b", "c", "a"]),
        ("tag:seed", ["a", "b", "c"], ["c", "b", "a"]),
        ("name", ["a", "b", "c"], ["c", "b", "a"]),
    ],
)
def test_the_list_is_sorted_by_any_setting_metric_or_tag(
    seen: httpx.Client, sort: str, rising: list[str], falling: list[str]
) -> None:
    ordered = _runs(seen, sort=sort)
    reversed_order = _runs(seen, sort=sort, descending=True)

    last = [] if sort == "name" else ["without"]
    assert [run for run in ordered if run != "without"] == rising
    assert [run for run in reversed_order if run != "without"] == falling
    assert ordered[-1:] == reversed_order[-1:] == last or sort == "name"


def test_columns_hold_what_runs_have_and_say_what_there_is(seen: httpx.Client) -> None:
    columns = ["config:optimizer.lr", "metric:eval/score", "tag:none"]
    items = seen.get("/page/runs", params={"column": columns, "sort": "name"}).json()["items"]
    names = seen.get("/page/columns", params={"run": ["a", "no-such-run"]}).json()["items"]

    assert items[0]["columns"] == {
        "config:optimizer.lr": 1e-3,
        "metric:eval/score": 2.0,
        "tag:none": None,
    }
    assert items[1]["columns"]["metric:eval/score"] == "NaN"
    assert {"config:net", "config:optimizer.lr", "metric:eval/score", "tag:seed"} <= set(names)


def test_rows_hold_still_and_what_is_new_waits_for_a_click(
    sweep: httpx.Client, open_page: OpenPage
) -> None:
    page = open_page(f"{sweep.base_url}?sort=heard")
    page.locator("tbody .run-link").nth(2).wait_for()
    before = page.locator("tbody .run-link").all_inner_texts()
    row = page.locator("tbody tr").first.element_handle()

    tell_healthy(Trainer(sweep, "newcomer").begin(), 3)
    page.get_by_role("button", name="1 new").wait_for()

    assert page.locator("tbody .run-link").all_inner_texts() == before
    assert row.evaluate("row => row.isConnected")
    page.get_by_role("button", name="1 new").click()
    page.locator("tbody .run-link", has_text="newcomer").wait_for()
    assert page.locator("tbody .run-link").all_inner_texts() == ["newcomer", *before]


def test_a_column_is_added_sorted_by_and_kept_for_the_next_visit(
    seen: httpx.Client, open_page: OpenPage
) -> None:
    page = open_page(str(seen.base_url))
    page.locator("tbody tr").first.wait_for()

    page.get_by_text("Columns", exact=True).click()
    page.get_by_label("Any metric, setting or tag").fill("config:optimizer.lr")
    page.get_by_label("Any metric, setting or tag").press("Enter")
    page.get_by_role("checkbox", name="Speed").uncheck()
    page.get_by_label("Any metric, setting or tag").press("Escape")
    page.get_by_role("columnheader", name="optimizer.lr").get_by_role("button").click()
    page.locator("th[aria-sort=ascending]", has_text="optimizer.lr").wait_for()

    assert "sort=config%3Aoptimizer.lr" in page.url
    page.goto(str(seen.base_url))
    page.get_by_role("columnheader", name="optimizer.lr").wait_for()
    assert page.get_by_role("columnheader", name="Speed").count() == 0


def test_chosen_runs_are_archived_brought_back_and_deleted_after_a_confirmation(
    sweep: httpx.Client, open_page: OpenPage
) -> None:
    page = open_page(str(sweep.base_url))
    page.get_by_role("checkbox", name="Choose a", exact=True).check()
    page.get_by_role("checkbox", name="Choose b", exact=True).check()

    page.get_by_role("button", name="Archive").click()
    page.keyboard.press("Escape")
    assert sweep.get("/api/v1/runs/a").json()["archived"] is False
    page.get_by_role("button", name="Archive").click()
    page.get_by_role("dialog").get_by_role("button", name="Archive").click()
    page.locator("tbody tr").nth(1).wait_for(state="detached")
    page.get_by_role("checkbox", name="Archived").check()
    page.get_by_role("checkbox", name="Choose a", exact=True).check()
    page.get_by_role("button", name="Back into the list").click()
    page.get_by_role("dialog").get_by_role("button", name="Back into the list").click()
    page.get_by_role("checkbox", name="Choose a", exact=True).wait_for(state="detached")
    page.get_by_role("checkbox", name="Choose b", exact=True).check()
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    page.get_by_text("No run fits").wait_for()

    assert sweep.get("/api/v1/runs/a").json()["archived"] is False
    assert sweep.get("/api/v1/runs/b").status_code == 404


def test_a_refused_deletion_is_said(sweep: httpx.Client, open_page: OpenPage) -> None:
    tell_healthy(Trainer(sweep, "alive").begin(), 3)
    page = open_page(str(sweep.base_url), quiet=False)
    page.get_by_role("checkbox", name="Choose alive").check()

    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()

    page.locator(".note-bad", has_text="alive:").wait_for()
    assert sweep.get("/api/v1/runs/alive").status_code == 200
