"""A log sent from the page, and the post-mortem of a run in the store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

LOGS = Path(__file__).parents[1] / "postmortem" / "logs"
OpenPage = Callable[..., Any]


def test_a_log_file_is_sent_and_its_report_read(
    open_page: OpenPage, service: str, tmp_path: Path
) -> None:
    page = open_page(f"{service}/postmortem")

    page.get_by_label("Log files of a run").set_input_files(
        LOGS / "noeps_constreward" / "updates.jsonl"
    )

    report = page.get_by_role("article", name="Report on updates.jsonl")
    report.wait_for()
    assert "updates.jsonl" in report.inner_text()
    assert report.get_by_role("region", name="Verdict").is_visible()
    report.locator(".chart").first.scroll_into_view_if_needed()
    report.locator(".chart[data-loaded]").first.wait_for()
    with page.expect_download() as saved:
        report.get_by_role("button", name="Save as one page").click()
    assert saved.value.suggested_filename == "updates.jsonl.html"
    assert "Made by watchstep" in saved.value.path().read_text()


def test_what_is_no_log_is_said_beside_the_reports_of_what_is(
    open_page: OpenPage, service: str, tmp_path: Path
) -> None:
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(200))
    page = open_page(f"{service}/postmortem", quiet=False)
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url))

    page.get_by_label("Log files of a run").set_input_files(
        [picture, LOGS / "made_ok_regime_s0" / "progress.csv"]
    )

    page.get_by_role("article", name="Report on progress.csv").wait_for()
    refusal = page.get_by_role("alert")
    assert "picture.png" in refusal.inner_text()
    assert "not a training log" in refusal.inner_text()
    assert not any("picture.png" in url for url in sent)


def test_the_post_mortem_of_a_run_is_reached_from_its_page_and_agrees_with_it(
    open_page: OpenPage, service: str
) -> None:
    page = open_page(f"{service}/runs/ppo-bad")

    page.locator("main").get_by_role("link", name="Post-mortem").click()

    page.wait_for_url("**/runs/ppo-bad/postmortem")
    report = page.get_by_role("article", name="Report on ppo-bad")
    report.wait_for()
    text = report.inner_text()
    assert "another sample's statistics" in text
    assert "AdvantagesBeyondBound" in text
    assert "It began at step 655,360" in text
