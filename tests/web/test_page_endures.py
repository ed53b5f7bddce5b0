"""What the page makes of hostile texts, cut streams, tokens and many runs."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from web.stage import Trainer, healthy_readings, serve, serving, tell_healthy

pytestmark = pytest.mark.long

OpenPage = Callable[..., Any]
HOSTILE = '<img src=x onerror="window.broken=1"><script>window.broken=1</script>\'"&{{7*7}}'


def test_hostile_texts_stay_texts_on_every_view(
    open_page: OpenPage, service: str, client: httpx.Client
) -> None:
    trainer = Trainer(client, "javascript:alert.1.-_:x").begin(
        tags={"note": HOSTILE[:200]},
        config={"<b>": HOSTILE, "deep": {"x": [HOSTILE]}},
        trainer="<svg onload=x>",
    )
    tell_healthy(trainer, 3)
    trainer.log({"a/b:c.d": 1.0}, {"kind": "log", "level": "<i>warn</i>", "text": HOSTILE})
    trainer.log({}, {"kind": "failed", "error": HOSTILE})
    trainer.send()

    page = open_page(f"{service}/?q=javascript")
    page.locator("tbody tr", has_text="onerror").wait_for()
    page.get_by_role("link", name="javascript:alert.1.-_:x").click()
    page.locator(".timeline", has_text="onerror").wait_for()
    page.locator("section[aria-label='Configuration']", has_text="onerror").wait_for()

    assert page.evaluate("window.broken") is None
    assert page.locator("img, main script").count() == 0
    assert HOSTILE in page.locator("header p.mono").inner_text()


RULES = """
groups:
  - name: '<img src=x onerror=window.broken=1>'
    rules:
      - alert: Always
        expr: x > 0
        labels: {severity: critical}
        annotations:
          summary: '<img src=x onerror=window.broken=1>'
          cause: '<img src=x onerror=window.broken=1>'
          runbook_url: 'javascript:window.broken=1'
"""


@pytest.fixture(scope="module")
def odd_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Hostile rules, and a receiver that no one may send to."""
    folder = tmp_path_factory.mktemp("odd")
    rules, config = folder / "rules.yaml", folder / "watchstep.yaml"
    rules.write_text(RULES)
    config.write_text(
        "alerts: {group_wait_s: 0.05}\n"
        "notify: {max_attempts: 1, retry_base_s: 0.05}\n"
        'receivers: {pager: {kind: webhook, url: "http://127.0.0.1:9/x"}}\n'
    )
    with (
        serving(folder / "store", "--config", str(config), "--rules", str(rules)) as url,
        httpx.Client(base_url=url) as client,
    ):
        trainer = Trainer(client, "watched").begin()
        trainer.log({"x": 1.0})
        trainer.log({"x": 2.0})
        trainer.send()
        yield url


def test_hostile_rules_stay_texts(open_page: OpenPage, odd_service: str) -> None:
    page = open_page(f"{odd_service}/rules")
    page.get_by_text("onerror").first.wait_for()
    page.goto(f"{odd_service}/runs/watched")
    page.locator(".incident", has_text="onerror").wait_for()

    assert page.evaluate("window.broken") is None
    assert page.locator("img").count() == 0
    assert page.locator('a[href^="javascript"]').count() == 0


def test_a_dead_delivery_is_seen_and_sent_again(open_page: OpenPage, odd_service: str) -> None:
    page = open_page(f"{odd_service}/receivers")

    page.get_by_role("button", name="Send again to pager").first.click()
    page.get_by_text("pager is told again").wait_for()
    page.get_by_role("button", name="Send a test to pager").click()

    page.get_by_text("pager did not take it").wait_for()


def test_a_cut_stream_is_said_and_taken_up_again(open_page: OpenPage, tmp_path: Path) -> None:
    first = serve(tmp_path / "store")
    port = first.url.rpartition(":")[2]
    with httpx.Client(base_url=first.url) as client:
        trainer = Trainer(client, "surviving").begin()
        tell_healthy(trainer, 10)
        page = open_page(f"{first.url}/runs/surviving", quiet=False)
        page.locator("#live[data-state=live]").wait_for()

        first.stop()
        page.locator("#live[data-state=cut]", has_text="Reconnecting").wait_for()
        second = serve(tmp_path / "store", "--port", port)
        try:
            trainer.log(healthy_readings(11, random.Random(1)))
            trainer.send()
            page.locator("#live[data-state=live]").wait_for()
            page.locator('[data-metric="train/approx_kl"]').scroll_into_view_if_needed()
            page.locator('[data-metric="train/approx_kl"][data-loaded="11"]').wait_for()
        finally:
            page.context.close()
            second.stop()


def test_a_tab_out_of_sight_gives_its_stream_back(open_page: OpenPage, service: str) -> None:
    page = open_page(service, quiet=False)
    page.locator("#live[data-state=live]").wait_for()
    turn = (
        "hidden => { Object.defineProperty(document, 'hidden', {get: () => hidden, configurable:"
        " true}); document.dispatchEvent(new Event('visibilitychange')); }"
    )

    page.evaluate(turn, True)
    page.locator("#live[data-state=cut]").wait_for()
    page.evaluate(turn, False)

    page.locator("#live[data-state=live]").wait_for()


def _token(store: Path, *scopes: str) -> str:
    command = [sys.executable, "-m", "watchstep_monitor", "token", "create", "page"]
    options = [word for scope in scopes for word in ("--scope", scope)]
    made = subprocess.run(
        [*command, *options, "--data-dir", str(store)], capture_output=True, text=True, check=True
    )
    return next(word for word in made.stdout.split() if word.startswith("wst_"))


def test_a_token_is_asked_for_once_and_kept_where_no_script_reads_it(
    open_page: OpenPage, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    token = _token(store, "read", "ingest", "admin")
    with (
        serving(store) as url,
        httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}) as client,
    ):
        page = open_page(url, quiet=False)
        addresses: list[str] = []
        page.on("request", lambda request: addresses.append(request.url))

        page.get_by_role("textbox", name="Token").fill("wst_wrong")
        page.get_by_role("button", name="Go on").click()
        page.get_by_text("was not accepted").wait_for()
        page.get_by_role("textbox", name="Token").fill(token)
        page.get_by_role("button", name="Go on").click()
        page.get_by_text("No run yet").wait_for()
        page.locator("#live[data-state=live]").wait_for()
        tell_healthy(Trainer(client, "guarded").begin(), 5)
        page.get_by_role("link", name="guarded").wait_for()
        second = page.context.new_page()
        second.set_default_timeout(15_000)
        second.goto(f"{url}/runs/guarded")
        second.get_by_role("heading", name="guarded").wait_for()
        second.get_by_role("button", name="Halt", exact=True).click()
        second.get_by_role("button", name="Halt the run").click()
        second.get_by_role("button", name="Halt asked for").wait_for()

        stored = second.evaluate("JSON.stringify([{...sessionStorage}, {...localStorage}])")
        assert token not in stored
        cookie = page.context.cookies()[0]
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        assert page.evaluate("document.cookie") == ""
        assert not any(token in address for address in addresses)
        second.get_by_role("button", name="Sign out").click()
        second.get_by_role("textbox", name="Token").wait_for()
        assert page.context.cookies() == []
        page.context.close()


def test_a_cookie_alone_changes_nothing_from_elsewhere(tmp_path: Path) -> None:
    store = tmp_path / "store"
    token = _token(store, "admin")
    with serving(store) as url, httpx.Client(base_url=url) as browser:
        signed = browser.post("/session", headers={"Authorization": f"Bearer {token}"})
        reads = browser.get("/api/v1/runs")
        answers = {
            origin: browser.post(
                "/-/reload", json={}, headers={"Origin": origin} if origin else {}
            ).status_code
            for origin in ("", "https://elsewhere.example", url)
        }
        browser.delete("/session", headers={"Origin": url})

        assert signed.status_code == 204
        assert reads.status_code == 200
        assert answers == {"": 403, "https://elsewhere.example": 403, url: 200}
        assert browser.get("/api/v1/runs").status_code == 401


def test_a_run_that_is_not_there_is_said_to_be_unknown(open_page: OpenPage, service: str) -> None:
    page = open_page(f"{service}/runs/no-such-run", quiet=False)

    page.get_by_role("alert").get_by_text("no such run").wait_for()
    assert page.get_by_role("button", name="Try again").count() == 1
