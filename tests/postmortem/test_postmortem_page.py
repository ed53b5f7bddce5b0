"""The page: self-contained, escaped, small, and with everything on it."""

from __future__ import annotations

import math
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest

from postmortem.kit_postmortem import HEALTHY, LOGS, examined, healthy_rows, run_of
from watchstep.core.thresholds import Threshold, zones
from watchstep.postmortem import page
from watchstep.postmortem.charts import chart, frame_of
from watchstep.postmortem.downsampled_series import POINTS, Series


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.counts[tag] += 1
        self.links += [value or "" for name, value in attrs if name in {"src", "href"}]


def _page_of(path: Path) -> str:
    examination = examined(path, draw=True)
    return page.render([examination], Counter([examination.verdict]))


def test_a_page_needs_nothing_from_anywhere_and_runs_nothing() -> None:
    tags = _Tags()

    tags.feed(_page_of(LOGS / "made_bad_rew1e20_pendulum" / "progress.csv"))

    assert tags.counts["script"] == tags.counts["link"] == tags.counts["img"] == 0
    assert tags.counts["svg"] >= 5
    assert all(link.startswith("#") for link in tags.links)


def test_a_page_shades_zones_and_marks_events() -> None:
    html = _page_of(LOGS / "made_prev_regime_noclip" / "updates.jsonl")

    assert 'class="zone critical"' in html
    assert "first bad update 24" in html
    assert "would halt at 9027" in _page_of(LOGS / "bloom104b_exp12" / "log.txt")


def test_a_page_of_a_normal_run_is_small() -> None:
    html = _page_of(LOGS / "made_bad_rew1e20_pendulum" / "progress.csv")

    assert len(html.encode()) < 200_000


def test_a_page_of_a_long_run_is_small_as_well(tmp_path: Path) -> None:
    rows = [
        {
            name: value * (1.0 + 0.3 * math.sin(at * k))
            for k, (name, value) in enumerate(HEALTHY.items(), 1)
        }
        for at in range(5_000)
    ]

    assert len(_page_of(run_of(tmp_path / "run.jsonl", rows)).encode()) < 200_000


def test_names_from_a_log_are_text_and_never_markup(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>"
    folder = tmp_path / "<img src=x onerror=alert(1)>"
    rows = [*healthy_rows(12), {**HEALTHY, hostile: 1.0, "train/value_loss": "NaN"}]

    html = _page_of(run_of(folder / "updates.jsonl", rows))

    assert "<script" not in html
    assert "<img" not in html


def test_a_fleet_lists_every_run_and_links_the_bad_ones(tmp_path: Path) -> None:
    lost = [*healthy_rows(12), {**HEALTHY, "train/value_loss": "NaN"}]
    paths = [run_of(tmp_path / f"r{n}" / "updates.jsonl", healthy_rows(12)) for n in range(4)]
    paths.insert(0, run_of(tmp_path / "lost" / "updates.jsonl", lost))
    runs = [examined(path, draw=True) for path in paths]

    html = page.render(runs, Counter(run.verdict for run in runs))

    assert '<a href="#run0">lost</a>' in html
    assert html.count("<section") == 1
    assert all(f"r{n}" in html for n in range(4))


@pytest.mark.parametrize(
    "values",
    [
        [1.0],
        [math.nan, math.inf, -math.inf],
        [0.0, 0.0, 0.0],
        [1e308, -1e308, 1e308],
        [5e-324, 1e308, 0.0],
        [1e-300, 1e300],
        [-1e21, 3.0, 2.0, 1.0, math.nan, 2.0],
    ],
)
def test_a_chart_of_any_numbers_has_finite_coordinates(values: list[float]) -> None:
    series = Series()
    for row, value in enumerate(values, start=1):
        series.add(row, row, value)
    thresholds = [
        Threshold(0.3, "warning", "above", "A"),
        Threshold(-1.0, "critical", "below", "B"),
    ]

    svg = chart("m", series, zones(thresholds), frame_of([series]), [])

    coordinates = re.sub(r"<title>.*?</title>|<text.*?</text>", "", svg)
    assert "nan" not in coordinates
    assert "inf" not in coordinates


def test_a_series_keeps_its_extremes_and_counts_what_was_lost() -> None:
    series = Series()
    for row in range(1, 100_001):
        value = 1e6 if row == 54_321 else -7.0 if row == 99_999 else 1.0
        series.add(row, row, math.nan if row in {10, 77_777} else value)

    assert len(series.buckets) <= POINTS
    assert max(bucket.high for bucket in series.buckets) == 1e6
    assert min(bucket.low for bucket in series.buckets) == -7.0
    assert sum(bucket.lost for bucket in series.buckets) == 2
