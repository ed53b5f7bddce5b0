"""What the page asks the service for, without a browser."""

from __future__ import annotations

import gzip
import re
from dataclasses import replace
from typing import Any

import httpx
import pytest

from watchstep.rules import load
from watchstep_monitor.web.rule_history import backtested


def _runs(client: httpx.Client, **query: Any) -> list[str]:
    answer = client.get("/page/runs", params=query)
    assert answer.status_code == 200, answer.text
    return [item["run"] for item in answer.json()["items"]]


def test_a_live_run_in_trouble_comes_first(client: httpx.Client) -> None:
    names = _runs(client)

    assert names.index("ppo-bad") < names.index("walker") < names.index("ppo-good")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"q": "GOOD"}, ["ppo-good"]),
        ({"q": "trading sb3"}, ["ppo-bad"]),
        ({"q": "nothing-like-it"}, []),
        ({"tag": "env=Walker"}, ["walker"]),
        ({"tag": "env"}, ["walker"]),
        ({"tag": "seed=9"}, []),
        ({"status": "failed"}, ["walker"]),
        ({"project": "robotics"}, ["walker"]),
        ({"sort": "name", "size": 1, "page": 2, "project": "trading"}, ["ppo-good"]),
    ],
)
def test_runs_are_searched_filtered_and_paged(
    client: httpx.Client, query: dict[str, Any], expected: list[str]
) -> None:
    assert _runs(client, **query) == expected


def test_counts_of_statuses_do_not_depend_on_the_chosen_one(client: httpx.Client) -> None:
    everything = client.get("/page/runs", params={"project": "trading"}).json()
    diverged = client.get("/page/runs", params={"project": "trading", "health": "diverged"}).json()

    assert diverged["counts"] == everything["counts"]
    assert diverged["total"] == 1


def test_a_preview_names_the_metric_of_the_gravest_first_alert(client: httpx.Client) -> None:
    answer = client.get("/page/previews", params={"run": ["ppo-bad", "ppo-good", "no-such-run"]})

    bad, good = answer.json()["items"]
    assert bad["worst"] == {"metric": "train/advantages_norm_max_abs", "zone": "critical"}
    assert bad["firing"] > 3
    assert good["firing"] == 0
    assert good["steps_per_s"] == pytest.approx(2_048 / 1.5, rel=0.01)
    assert 2 <= len(good["spark"]) <= 60


def test_zones_cover_the_whole_line_and_adjoin(client: httpx.Client) -> None:
    scales = client.get("/page/runs/ppo-bad/scales").json()

    for metric, scale in scales.items():
        zones = scale["zones"]
        if not zones:
            continue
        assert (zones[0]["from"], zones[-1]["to"]) == (None, None), metric
        ends = [zone["to"] for zone in zones[:-1]]
        assert ends == [zone["from"] for zone in zones[1:]] == sorted(ends), metric
        assert {zone["zone"] for zone in zones} <= {
            "ok",
            "info",
            "warning",
            "critical",
        }


def test_a_line_and_its_zone_are_where_a_rule_fires_by_this_reading_alone(
    client: httpx.Client,
) -> None:
    scale = client.get("/page/runs/ppo-bad/scales").json()["train/advantages_norm_max_abs"]

    lines = {line["rule"]: (line["op"], line["value"]) for line in scale["thresholds"]}
    assert lines["AdvantagesExtreme"] == (">", 100.0)
    # The bound of the batch is one of two conditions of its rule: a line, and no zone.
    bound = (2_048 - 1) ** 0.5
    assert lines["AdvantagesBeyondBound"] == (">", pytest.approx(1.01 * bound))
    critical = next(zone for zone in scale["zones"][1:] if zone["zone"] == "critical")
    assert critical["from"] == 100.0


def test_charts_are_grouped_by_the_role_and_the_shared_name_of_a_metric(
    client: httpx.Client,
) -> None:
    scales = client.get("/page/runs/ppo-bad/scales").json()

    assert scales["rollout/ep_rew_mean"]["role"] == "reward"
    assert scales["train/policy_loss"]["role"] == "signed_loss"
    assert scales["train/approx_kl"]["canonical"] == "train/approx_kl"


def test_files_are_kept_for_ever_under_an_address_that_names_their_content(
    client: httpx.Client,
) -> None:
    shell = client.get("/")
    script = re.search(r'src="(/static/[0-9a-f]{16}/main\.js)"', shell.text)
    assert script is not None

    answer = client.get(script[1])
    stale = client.get("/static/0123456789abcdef/main.js")

    assert shell.headers["cache-control"] == "no-cache"
    assert "immutable" in answer.headers["cache-control"]
    style = client.get(script[1].replace("main.js", "page.css"))
    assert style.headers["content-encoding"] == "gzip"
    assert (stale.text, stale.headers["cache-control"]) == (answer.text, "no-cache")


def test_every_script_that_a_script_needs_is_announced_by_its_shell(client: httpx.Client) -> None:
    for path in (
        "/",
        "/runs/any",
        "/alerts",
        "/rules",
        "/receivers",
        "/compare",
        "/postmortem",
        "/runs/any/postmortem",
    ):
        announced = set(re.findall(r'modulepreload" href="([^"]+)"', client.get(path).text))
        assert announced
        for script in announced:
            base = script.rpartition("/")[0]
            needed = re.findall(r'from "\./(\w+\.js)"', client.get(script).text)
            assert {f"{base}/{name}" for name in needed} <= announced, (path, script)


@pytest.mark.parametrize("path", ["/static/x/..%2f..%2fpages.py", "/static/x/none.js", "/nowhere"])
def test_there_are_no_other_files(client: httpx.Client, path: str) -> None:
    assert client.get(path).status_code == 404


def test_the_page_allows_nothing_from_elsewhere_and_nothing_inline(client: httpx.Client) -> None:
    shell = client.get("/runs/%3Cscript%3E")

    policy = shell.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert "style=" not in shell.text
    assert not re.search(r"<script(?![^>]*src=)", shell.text)
    assert "%3C" not in shell.text
    assert "&lt;script" not in shell.text


def test_all_that_the_list_needs_weighs_little(client: httpx.Client) -> None:
    shell = client.get("/").text
    files = set(re.findall(r'(?:href|src)="(/static/[^"]+)"', shell))

    weight = sum(len(gzip.compress(client.get(path).content)) for path in files)

    assert weight < 40_000


def test_a_rule_shows_its_record_over_labelled_logs_and_over_the_runs_here(
    client: httpx.Client,
) -> None:
    record = client.get("/page/rules/record").json()

    here = record["here"]["AdvantagesBeyondBound"]
    assert (here["runs"], here["bad"]) == (1, 1)
    assert record["backtest"]["healthy_updates"] > 1_000
    for figures in record["backtest"]["rules"].values():
        assert figures["tried"] <= sum(record["backtest"]["logs"].values())
        assert figures["tried"] or not figures["firings"]


def test_figures_are_not_shown_of_a_rule_that_has_changed_since_they_were_counted() -> None:
    rules = load(["ppo", "generic"]).rules
    shipped = backtested(rules)["rules"]
    name = next(iter(shipped))
    changed = [replace(rule, warmup=rule.warmup + 1) for rule in rules if rule.name == name]
    reworded = [replace(rule, annotations={}) for rule in rules if rule.name == name]

    assert backtested(changed)["rules"] == {}
    assert backtested(reworded)["rules"] == {name: shipped[name]}
