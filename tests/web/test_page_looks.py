"""The page in the dark, on a phone, and to those who do not see it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

OpenPage = Callable[..., Any]
VIEWS = {
    "/": "tbody tr .spark",
    "/runs/ppo-bad": ".chart[data-loaded]",
    "/alerts?run=ppo-bad": "tbody tr",
    "/rules": "article.rule",
    "/receivers": "main h2",
    "/compare?a=ppo-bad&b=ppo-good": ".chart[data-loaded]",
    "/postmortem": "#logs",
    "/runs/ppo-bad/postmortem": ".chart[data-loaded]",
}
LOOKS = ("light", "dark", "narrow")
PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}


def _settle(page: Any, view: str) -> None:
    """Wait until a view shows what it is for; charts load when they come into sight."""
    if ".chart" in VIEWS[view]:
        page.locator(".chart").first.scroll_into_view_if_needed()
    page.locator(VIEWS[view]).first.wait_for()


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("view", VIEWS)
def test_axe_finds_nothing(open_page: OpenPage, service: str, view: str, look: str) -> None:
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe is not installed"
    )
    options = PHONE if look == "narrow" else {"color_scheme": look}
    page = open_page(f"{service}{view}", **options)
    _settle(page, view)

    violations = axe.Axe().run(page).response["violations"]

    flaws = [
        (flaw["id"], [node["html"][:160] for node in flaw["nodes"]][:3]) for flaw in violations
    ]
    assert flaws == [], json.dumps(flaws, indent=1)


@pytest.mark.parametrize("view", VIEWS)
def test_nothing_is_cut_off_on_a_phone(open_page: OpenPage, service: str, view: str) -> None:
    page = open_page(f"{service}{view}", **PHONE)
    _settle(page, view)

    wide = page.evaluate("document.documentElement.scrollWidth")

    assert wide <= 360


def test_the_whole_menu_is_seen_on_a_phone(open_page: OpenPage, service: str) -> None:
    page = open_page(f"{service}/rules", **PHONE)

    for link in page.locator("nav[aria-label=Main] a").all():
        box = link.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 360, link.inner_text()


def test_what_to_do_is_reached_on_a_phone(open_page: OpenPage, service: str) -> None:
    page = open_page(f"{service}/", **PHONE)

    page.locator("tbody tr.urgent a").first.tap()

    page.get_by_role("heading", name="What to do").wait_for()
    halt = page.get_by_role("button", name="Halt", exact=True)
    box = halt.bounding_box()
    assert box["y"] + box["height"] < 740
    assert box["height"] >= 38


def test_the_dark_page_is_dark_and_its_charts_with_it(open_page: OpenPage, service: str) -> None:
    shades = {}
    for scheme in ("light", "dark"):
        page = open_page(f"{service}/runs/ppo-good", color_scheme=scheme)
        _settle(page, "/runs/ppo-bad")
        shades[scheme] = page.evaluate(
            "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
        )

    assert max(shades["dark"]) < 40
    assert min(shades["light"]) > 200


def test_everything_is_reached_by_tab_and_the_focus_is_seen(
    open_page: OpenPage, service: str
) -> None:
    page = open_page(service)
    page.locator("tbody tr .spark").first.wait_for()
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate(
                "[document.activeElement.textContent.trim() || document.activeElement.name,"
                " getComputedStyle(document.activeElement).outlineStyle]"
            )
        )
        if reached[-1][0] == "ppo-bad":
            break

    names = [name for name, _ in reached]
    assert names[0] == "Skip to content"
    assert {"Alerts", "q", "ppo-bad"} <= set(names)
    assert {style for _, style in reached} <= {"solid", "auto"}


def test_a_search_and_a_filter_survive_a_reload(open_page: OpenPage, service: str) -> None:
    page = open_page(service)
    page.get_by_label("Search").fill("walker")
    page.locator("tbody tr").get_by_text("ppo-good").wait_for(state="detached")
    page.get_by_role("button", name="failed").click()

    page.reload()

    page.get_by_role("link", name="walker").wait_for()
    assert page.get_by_label("Search").input_value() == "walker"
    assert page.get_by_role("button", name="failed").get_attribute("aria-pressed") == "true"
    assert page.locator("tbody tr").count() == 1


def test_the_wall_shows_runs_and_no_controls(open_page: OpenPage, service: str) -> None:
    page = open_page(f"{service}/?wall=1", viewport={"width": 1920, "height": 1080})

    page.locator("tbody tr").first.wait_for()

    assert not page.locator(".controls").is_visible()
