"""Charts of a run: grouped, found, pinned, smoothed, overlaid, saved; and what stands beside."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from web.stage import Trainer, checkpoint_event, healthy_readings, tell_explosion, tell_healthy

OpenPage = Callable[..., Any]
MODULE = "document.querySelector('link[href$=\"/series.js\"]').href"
ENVIRONMENT = {
    "host": "node-7",
    "user": "ada",
    "python": "3.11.7",
    "packages": {"torch": "2.3.1"},
    "git_commit": "0123456789abcdef",
    "git_dirty": True,
}


@pytest.fixture(scope="module")
def saver(service: str) -> Iterator[str]:
    """A run with a checkpoint at each of its 300 updates, and the guard's and machine's metrics."""
    with httpx.Client(base_url=service, timeout=30) as client:
        trainer = Trainer(client, "saver").begin(
            project="saving", config={"lr": 0.1, "environment": ENVIRONMENT}
        )
        chance = random.Random(3)
        for at in range(300):
            readings = {"guard/skipped": 0.0, "system/gpu0": 90.0, "lonely": 1.0}
            step = (trainer.seq + 1) * trainer.steps_an_update
            trainer.log(healthy_readings(at, chance) | readings, checkpoint_event(step))
        trainer.send()
        yield f"{service}/runs/saver"


def _groups(page: Any) -> list[str]:
    return page.locator(".group > summary strong").all_inner_texts()


def test_charts_come_in_groups_what_matters_first_and_the_machine_last(
    open_page: OpenPage, service: str, saver: str
) -> None:
    healthy, bad = open_page(saver), open_page(f"{service}/runs/ppo-bad")
    healthy.locator(".group").first.wait_for()
    bad.locator(".incident").wait_for()

    assert _groups(healthy) == ["Loss and reward", "Other", "time", "train", "guard", "system"]
    assert _groups(bad)[:2] == ["Incident", "Loss and reward"]
    first = bad.locator(".chart").first
    assert first.get_attribute("data-metric") == "train/advantages_norm_max_abs"


def test_metrics_are_found_by_a_pattern_folded_and_pinned_and_the_link_shows_the_same(
    open_page: OpenPage, saver: str
) -> None:
    page = open_page(saver)
    page.get_by_role("button", name="Pin train/approx_kl").click()
    page.locator(".group > summary", has_text="system").click()
    page.get_by_label("Find metrics").fill("kl$|^system")
    page.locator('[data-metric="train/clip_fraction"]').wait_for(state="detached")
    assert _groups(page) == ["Pinned", "system"]

    other = open_page(page.url)
    other.locator(".group").first.wait_for()
    again = page.context.new_page()
    again.goto(saver)
    again.locator(".group").first.wait_for()

    assert _groups(other) == ["Pinned", "system"]
    assert not other.locator(".group", has_text="system").evaluate("group => group.open")
    assert _groups(again)[0] == "Pinned"  # This browser keeps the pin, also without the link.


def test_half_a_pattern_finds_what_contains_it(open_page: OpenPage, saver: str) -> None:
    page = open_page(f"{saver}?find=%28kl")

    page.get_by_text("No metric fits").wait_for()


def test_runs_are_drawn_over_each_other_and_their_settings_laid_side_by_side(
    open_page: OpenPage, service: str, saver: str, client: httpx.Client
) -> None:
    for run in ("over-1", "over-2"):
        tell_healthy(Trainer(client, run).begin(config={"lr": 0.2}), 40)
    page = open_page(f"{saver}?find=approx_kl&axis=relative&smooth=0.9")
    page.get_by_label("Draw another run").fill("over-1")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Take over-1 away").wait_for()
    page.get_by_label("Draw another run").fill("over-2")
    page.keyboard.press("Enter")

    chart = page.locator('[data-metric="train/approx_kl"][data-loaded="380"]')
    chart.wait_for()

    assert "with=over-1&with=over-2" in page.url
    assert page.locator(".legend .swatch").count() == 3
    row = page.locator("section[aria-label=Configuration] tr", has_text="lr").first
    assert row.inner_text().split() == ["lr", "0.1", "0.2", "0.2"]
    page.get_by_role("button", name="Take over-1 away").click()
    page.locator('[data-metric="train/approx_kl"][data-loaded="340"]').wait_for()


def test_the_horizontal_axis_is_step_time_or_time_since_the_start(
    open_page: OpenPage, saver: str
) -> None:
    page = open_page(f"{saver}?find=approx_kl")
    plot = page.locator('[data-metric="train/approx_kl"][data-loaded] .plot')
    plot.wait_for()
    ends = {}
    for axis in ("step", "relative", "time"):
        page.get_by_label("Horizontal axis").select_option(axis)
        page.wait_for_timeout(100)
        ends[axis] = [float(plot.get_attribute(f"aria-value{end}")) for end in ("min", "max")]

    assert ends["step"] == [0, 300 * 2_048]
    assert ends["relative"] == pytest.approx([0, 299 * 1.5], abs=0.1)
    assert ends["time"][1] - ends["time"][0] == pytest.approx(299 * 1.5, abs=0.1)


def test_a_chart_is_saved_as_numbers_and_as_a_picture(open_page: OpenPage, saver: str) -> None:
    page = open_page(f"{saver}?find=approx_kl")
    chart = page.locator('[data-metric="train/approx_kl"][data-loaded]')
    chart.get_by_text("Table and files").click()

    with page.expect_download() as numbers:
        chart.get_by_role("button", name="CSV").click()
    with page.expect_download() as picture:
        chart.get_by_role("button", name="PNG").click()

    lines = numbers.value.path().read_text().splitlines()
    assert lines[0] == "run,attempt,seq,step,time,value"
    assert (len(lines), lines[1].split(",")[:4]) == (301, ["saver", "1", "1", "2048"])
    assert picture.value.suggested_filename == "train_approx_kl.png"
    assert picture.value.path().read_bytes().startswith(b"\x89PNG")


def test_a_logarithmic_scale_is_chosen_for_one_chart_and_kept_in_the_link(
    open_page: OpenPage, saver: str
) -> None:
    page = open_page(f"{saver}?find=approx_kl|clip_fr")
    chart = page.locator('[data-metric="train/approx_kl"][data-loaded]')
    chart.get_by_text("Table and files").click()
    chart.get_by_label("Vertical scale of train/approx_kl").select_option("log")

    other = open_page(page.url)
    other.locator(".chart[data-loaded]").first.wait_for()
    for unfold in other.get_by_text("Table and files").all():
        unfold.click()

    assert "log=train%2Fapprox_kl" in page.url
    scales = other.locator("select[aria-label^=Vertical]").evaluate_all(
        "selects => selects.map(select => select.value)"
    )
    assert sorted(scales) == ["auto", "log"]


def test_a_save_at_each_update_paints_neither_the_chart_nor_the_timeline(
    open_page: OpenPage, saver: str
) -> None:
    page = open_page(f"{saver}?find=approx_kl")
    page.locator(".timeline").wait_for()
    drawn = page.evaluate(
        f"""async () => {{
            const {{ marks }} = await import({MODULE}.replace("series.js", "layers.js"));
            let signs = 0;
            const ctx = new Proxy({{}}, {{
              get: (_, name) => () => name === "fillText" && signs++, set: () => true,
            }});
            const bbox = {{ left: 0, top: 0, width: 600, height: 100 }};
            const u = {{ bbox, ctx, valToPos: x => x }};
            const many = Array.from({{ length: 600 }}, (_, x) => ({{ kind: "checkpoint", x }}));
            marks(u, [...many, {{ kind: "critical", x: 301 }}], () => "red");
            return signs;
        }}"""
    )

    entries = page.locator(".timeline li").all_inner_texts()
    assert 2 <= drawn <= 10
    assert len([entry for entry in entries if "heckpoint" in entry]) == 1
    assert any("300 checkpoints, steps 2,048 to 614,400" in entry for entry in entries)


def test_the_end_of_a_run_is_told_however_much_happened_before(
    open_page: OpenPage, service: str, client: httpx.Client
) -> None:
    trainer = Trainer(client, "eventful").begin()
    for at in range(2_200):
        trainer.log({"train/loss": 1.0}, {"kind": "log", "level": "info", "text": f"line {at}"})
    trainer.log({}, {"kind": "failed", "error": "no", "traceback": "line 212, in <module>"})
    trainer.send()

    page = open_page(f"{service}/runs/eventful")

    page.get_by_role("region", name="How it ended").get_by_text("line 212").wait_for()
    newest = page.locator(".timeline li").first.inner_text()
    assert "line 0" not in newest


def test_lines_rise_part_where_a_resumed_run_repeats_steps_and_are_smoothed_without_gaps(
    open_page: OpenPage, saver: str
) -> None:
    page = open_page(saver)

    resumed, gap, again, smooth = page.evaluate(
        f"""async () => {{
            const {{ lines, smoothed }} = await import({MODULE});
            const at = point => point.step;
            const of = rows => rows.map(([attempt, step, value]) => ({{ attempt, step, value }}));
            return [
              lines(of([[1, 1, 5], [1, 2, 6], [2, 2, 7], [2, 3, 8]]), at),
              lines(of([[1, 1, 5], [1, 2, NaN], [2, 4, 7]]), at),
              lines(of([[1, 0, 5], [1, 0, 6], [1, 1, 7]]), at),
              smoothed([[0, 1, 2, 3], [1, 1, null, 1]], 0.9)[1],
            ];
        }}"""
    )

    assert resumed == [[[1, 2], [5, 6]], [[2, 3], [7, 8]]]
    assert again == [[[0, 1], [6, 7]]]
    assert gap == [[[1, 2, 3, 4], [5, None, None, 7]]]
    assert smooth == [pytest.approx(1), pytest.approx(1), None, pytest.approx(1)]


def test_notes_and_tags_are_edited_in_place(
    open_page: OpenPage, service: str, client: httpx.Client
) -> None:
    tell_healthy(Trainer(client, "noted").begin(tags={"seed": "1"}), 3)
    page = open_page(f"{service}/runs/noted")

    page.get_by_role("button", name="Edit notes").click()
    page.get_by_label("Notes", exact=True).last.fill("The baseline.\nKeep it.")
    page.get_by_role("button", name="Save", exact=True).click()
    page.locator("p.notes", has_text="Keep it.").wait_for()
    page.get_by_role("button", name="Edit tags").click()
    page.get_by_label("Tags, one name=value a line").fill("seed=2\nkind=baseline")
    page.get_by_role("button", name="Save", exact=True).click()
    page.locator(".tag", has_text="kind=baseline").wait_for()

    run = client.get("/api/v1/runs/noted").json()
    assert (run["notes"], run["tags"]) == (
        "The baseline.\nKeep it.",
        {"seed": "2", "kind": "baseline"},
    )


def test_where_a_run_ran_from_which_code_and_how_it_ended_are_shown(
    open_page: OpenPage, service: str, client: httpx.Client
) -> None:
    trainer = Trainer(client, "told-all").begin(config={"lr": 0.1, "environment": ENVIRONMENT})
    trainer.log({"train/loss": 1.0})
    failure = {
        "traceback": "line 212, in <module>\nValueError: no",
        "last_lines": ["epoch 3", "Epoch 4", "done"],
    }
    trainer.log({}, {"kind": "failed", "error": "ValueError: no", **failure})
    trainer.send()

    page = open_page(f"{service}/runs/told-all")

    ended = page.get_by_role("region", name="How it ended")
    ended.wait_for()
    assert "line 212" in ended.inner_text()
    page.get_by_label("Find in the last lines").fill("EPOCH")
    assert ended.get_by_role("region", name="Last lines").inner_text() == "epoch 3\nEpoch 4"
    facts = page.locator("section[aria-label=Configuration]").inner_text()
    for fact in ("node-7", "ada", "0123456789ab, with changes", "torch 2.3.1", "0.1"):
        assert fact in facts


def test_a_death_alone_has_no_stages_and_is_told_what_helps_against_it(
    open_page: OpenPage, service: str, client: httpx.Client
) -> None:
    trainer = Trainer(client, "out-of-memory").begin()
    tell_healthy(trainer, 30)
    trainer.log({}, {"kind": "failed", "error": "CUDA out of memory.", "oom": "device"})
    trainer.send()

    panel = open_page(f"{service}/runs/out-of-memory").locator(".incident")

    panel.get_by_text("Make the batch or the sequences smaller").wait_for()
    assert "Start again from the newest checkpoint" in panel.inner_text()
    assert "Divergence" not in panel.inner_text()
    assert "memory.." not in panel.inner_text()


def test_an_alert_is_called_right_or_a_false_alarm_and_the_rule_counts_it(
    open_page: OpenPage, service: str, client: httpx.Client
) -> None:
    tell_explosion(Trainer(client, "answered").begin(), burst=60, after=3)
    page = open_page(f"{service}/runs/answered")

    page.get_by_role("button", name="False alarm: AdvantagesBeyondBound of answered").click()
    page.locator(
        '[aria-label="False alarm: AdvantagesBeyondBound of answered"][aria-pressed=true]'
    ).wait_for()
    page.goto(f"{service}/rules")

    rule = page.locator("#AdvantagesBeyondBound")
    rule.get_by_text("0 right, 1 false alarm").wait_for()


NOTICES = """
window.shown = [];
window.Notification = class {
  static permission = "granted";
  static requestPermission() { return Promise.resolve("granted"); }
  constructor(title) { window.shown.push(title); }
};
"""


def test_a_critical_alert_is_shown_by_the_browser_once_somebody_asked_for_it(
    open_page: OpenPage, service: str, client: httpx.Client
) -> None:
    page = open_page("about:blank")
    page.add_init_script(NOTICES)
    page.goto(service)
    page.get_by_role("button", name="Notify me").click()
    page.get_by_role("button", name="Notifications are on").wait_for()
    page.locator("#live[data-state=live]").wait_for()

    tell_explosion(Trainer(client, "loud").begin(), burst=60, after=3)
    page.wait_for_function("window.shown.some(title => title.startsWith('loud: '))")

    titles = page.evaluate("window.shown")
    assert "loud: AdvantagesBeyondBound" in titles
