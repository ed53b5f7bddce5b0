"""What a person does when a run goes wrong, in a real browser."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from service.http_kit import until
from web.stage import (
    Trainer,
    exploding_readings,
    healthy_readings,
    tell_explosion,
    tell_healthy,
)

OpenPage = Callable[..., Any]


def test_the_bad_run_is_found_its_diagnosis_read_and_its_alert_acknowledged(
    open_page: OpenPage, service: str, client: httpx.Client
) -> None:
    page = open_page(service)

    page.locator("tbody tr.urgent a").first.click()
    page.wait_for_url("**/runs/ppo-bad")
    panel = page.locator(".incident")
    panel.get_by_text("Likely cause").wait_for()
    panel_text = panel.inner_text()
    assert "another sample's statistics" in panel_text
    assert "cannot exceed 45.24" in panel_text
    assert "last good one" in panel_text
    assert "watch.restore" in panel_text
    assert "poisoned optimizer steps kept away" in panel_text
    panel.get_by_role("button", name="Acknowledge AdvantagesBeyondBound of ppo-bad").click()
    panel.get_by_text("seen by local").wait_for()

    alerts = client.get("/api/v1/alerts", params={"run": "ppo-bad"}).json()["items"]
    seen = [alert["rule"] for alert in alerts if alert["acknowledged"]]
    assert seen == ["AdvantagesBeyondBound"]


def test_a_halt_is_asked_for_confirmed_heard_and_seen(
    open_page: OpenPage, service: str, client: httpx.Client
) -> None:
    trainer = Trainer(client, "to-be-halted").begin(project="halting")
    tell_explosion(trainer, burst=60, after=3)
    page = open_page(f"{service}/runs/to-be-halted")
    page.locator(".status-diverged, .status-running").wait_for()

    page.get_by_role("button", name="Halt", exact=True).click()
    page.get_by_label("Reason").fill("seen on the page")
    page.get_by_role("button", name="Halt the run").click()
    page.get_by_role("button", name="Halt asked for").wait_for()
    trainer.log(exploding_readings(64, 60, random.Random(3)))
    trainer.send()
    assert [command["kind"] for command in trainer.commands] == ["halt"]
    trainer.log({}, {"kind": "halted", "reason": "asked for by hand"})
    trainer.send()

    page.locator(".status-halted").wait_for()
    page.get_by_text("seen on the page").wait_for()
    assert page.get_by_role("button", name="Halt", exact=True).count() == 0


def test_a_dialog_that_is_closed_halts_nothing(
    open_page: OpenPage, service: str, client: httpx.Client
) -> None:
    tell_healthy(Trainer(client, "left-alone").begin(), 5)
    page = open_page(f"{service}/runs/left-alone")

    page.get_by_role("button", name="Halt", exact=True).click()
    page.keyboard.press("Escape")

    page.get_by_role("dialog").wait_for(state="detached")
    assert client.get("/api/v1/runs/left-alone").json()["commands"] == []


def test_a_chart_grows_while_the_trainer_trains(
    open_page: OpenPage, service: str, client: httpx.Client
) -> None:
    trainer = Trainer(client, "growing").begin(project="live")
    tell_healthy(trainer, 30)
    page = open_page(f"{service}/runs/growing")
    page.locator('[data-metric="train/grad_norm"]').scroll_into_view_if_needed()
    page.locator('[data-metric="train/grad_norm"][data-loaded="30"]').wait_for()

    trainer.log(healthy_readings(31, random.Random(5)) | {"train/grad_norm": float("nan")})
    trainer.send()

    grown = page.locator('[data-metric="train/grad_norm"][data-loaded="31"]')
    grown.wait_for()
    assert "1 not finite" in grown.inner_text()
    assert "NaN" in grown.locator(".value").inner_text()


def test_all_charts_zoom_together_and_the_link_keeps_the_zoom(
    open_page: OpenPage, service: str
) -> None:
    page = open_page(f"{service}/runs/ppo-good")
    page.locator('[data-metric="train/policy_loss"]').scroll_into_view_if_needed()
    chart = page.locator('[data-metric="train/policy_loss"][data-loaded] .plot')
    chart.wait_for()
    box = chart.bounding_box()

    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + 60, steps=4)
    page.mouse.up()

    page.get_by_role("button", name="Reset zoom", disabled=False).wait_for()
    other = page.locator('[data-metric="train/value_loss"] .plot')
    start = float(chart.get_attribute("aria-valuemin"))
    assert start > 0
    assert float(other.get_attribute("aria-valuemin")) == start
    assert f"zoom={int(start)}" in page.url
    page.reload()
    chart.scroll_into_view_if_needed()
    until(lambda: chart.get_attribute("aria-valuemin") not in {None, "0"})
    assert float(chart.get_attribute("aria-valuemin")) == pytest.approx(start)
    page.get_by_role("button", name="Reset zoom").click()
    page.get_by_role("button", name="Reset zoom", disabled=True).wait_for()
    chart.scroll_into_view_if_needed()
    until(lambda: chart.get_attribute("aria-valuemin") == "0")


def test_a_chart_can_be_read_with_the_keyboard_alone(open_page: OpenPage, service: str) -> None:
    page = open_page(f"{service}/runs/ppo-bad")
    page.locator('[data-metric="train/policy_loss"]').scroll_into_view_if_needed()
    chart = page.locator('[data-metric="train/policy_loss"][data-loaded] .plot')

    chart.focus()
    page.keyboard.press("ArrowLeft")
    last = chart.get_attribute("aria-valuetext")
    page.keyboard.press("ArrowLeft")
    before = chart.get_attribute("aria-valuetext")

    assert "update 327" in last
    assert "NaN" in last
    assert "update 326" in before


def test_an_alert_is_silenced_and_the_silence_ended(
    open_page: OpenPage, service: str, client: httpx.Client
) -> None:
    page = open_page(f"{service}/alerts?run=ppo-bad")

    page.get_by_role("button", name="Silence PolicyLossRecord of ppo-bad").click()
    page.get_by_label("Why").fill("known, being looked at")
    page.get_by_role("button", name="Silence", exact=True).last.click()
    page.locator("section[aria-label=Silences]").get_by_text("known, being looked at").wait_for()
    made = client.get("/api/v1/silences").json()["items"]
    page.get_by_role("button", name="End", exact=True).click()
    page.get_by_text("Nothing is silenced").wait_for()

    assert [silence["comment"] for silence in made] == ["known, being looked at"]
    assert client.get("/api/v1/silences").json()["items"] == []


def test_rules_are_searched_and_loaded_again(open_page: OpenPage, service: str) -> None:
    page = open_page(f"{service}/rules")

    page.get_by_label("Search").fill("AdvantagesBeyondBound")
    page.locator("article.rule", has_text="sqrt(N - 1)").wait_for()
    page.get_by_role("button", name="Load the files again").click()

    page.get_by_text("rules loaded").wait_for()


def test_two_runs_are_compared(open_page: OpenPage, service: str) -> None:
    page = open_page(f"{service}/compare?a=ppo-bad")

    page.get_by_label("Add a run").fill("ppo-good")
    page.keyboard.press("Enter")

    page.get_by_role("row", name=re.compile("tag seed 7 8")).wait_for()
    page.locator(".chart").first.scroll_into_view_if_needed()
    page.locator(".chart[data-loaded]").first.wait_for()
    assert "run=ppo-good" in page.url


def test_the_record_of_a_rule_stands_beside_it(open_page: OpenPage, service: str) -> None:
    page = open_page(f"{service}/rules")

    rule = page.locator("#AdvantagesBeyondBound")
    rule.get_by_text("fired in").wait_for()

    assert "diverged, failed, halted, stalled or lost" in rule.inner_text()
    assert "Backtest" in rule.inner_text()


def test_who_is_at_a_button_by_the_keyboard_stays_there_while_the_run_goes_on(
    open_page: OpenPage, service: str, client: httpx.Client
) -> None:
    trainer = Trainer(client, "walked").begin(project="walking")
    tell_healthy(trainer, 30)
    page = open_page(f"{service}/runs/walked")
    page.get_by_role("button", name="Halt", exact=True).focus()
    page.evaluate("window.held = document.activeElement")

    tell_healthy(trainer, 5, seed=9)
    page.get_by_text("35", exact=True).first.wait_for()

    assert page.evaluate("document.activeElement.textContent") == "Halt"
    assert page.evaluate("document.activeElement === window.held")


def test_who_is_at_an_alert_by_the_keyboard_stays_there_when_another_one_fires(
    open_page: OpenPage, service: str, client: httpx.Client
) -> None:
    trainer = Trainer(client, "tabbed").begin(project="walking")
    tell_explosion(trainer, burst=60, after=3)
    page = open_page(f"{service}/alerts?run=tabbed")
    name = "Silence AdvantagesBeyondBound of tabbed"
    page.get_by_role("button", name=name).focus()
    shown = page.locator("tbody tr[data-alert]").count()

    for late in range(8):
        trainer.log(exploding_readings(63 + late, 60, random.Random(5)))
    trainer.send()
    page.wait_for_function(
        "count => document.querySelectorAll('tbody tr[data-alert]').length > count", arg=shown
    )

    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == name
