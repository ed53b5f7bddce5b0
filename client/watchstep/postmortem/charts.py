"""Small charts as inline SVG: zones shaded, events marked, nothing to load."""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape

from watchstep.core.thresholds import Zone
from watchstep.postmortem.downsampled_series import Bucket, Series

WIDTH, HEIGHT = 560, 170
LEFT, RIGHT, TOP, BOTTOM = 60, 8, 14, 20
_PLOT_W = WIDTH - LEFT - RIGHT
_PLOT_H = HEIGHT - TOP - BOTTOM
_WIDE = 50.0
"""A largest magnitude so many times the usual one is drawn on a logarithmic scale."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened at an update, drawn as a line over the whole height.

    Attributes:
        style: CSS class: "bad", "halt", "critical" or "warning".
    """

    update: int
    text: str
    style: str


@dataclass(frozen=True, slots=True)
class Frame:
    """The stretch of a run that every chart of a page shows, so that they line up.

    Attributes:
        reference: Buckets of the metric with most of them, which tell where an update lies.
    """

    first_row: int
    last_row: int
    reference: Sequence[Bucket]

    def x(self, row: float) -> float:
        share = (row - self.first_row) / ((self.last_row - self.first_row) or 1)
        return round(LEFT + _PLOT_W * min(max(share, 0.0), 1.0), 1)

    def x_of(self, update: int) -> float:
        """Pixels from the left, by the log's own number."""
        for bucket in self.reference:
            if bucket.first_update <= update <= bucket.last_update:
                span = bucket.last_update - bucket.first_update
                share = (update - bucket.first_update) / span if span else 0.5
                return self.x(bucket.first_row + share * (bucket.last_row - bucket.first_row))
        nearest = min(self.reference, key=lambda bucket: abs(bucket.first_update - update))
        return self.x(nearest.first_row)


def frame_of(series: Iterable[Series]) -> Frame:
    """The frame that holds all of these series, of which there is at least one."""
    every = [single.buckets for single in series]
    reference = max(every, key=lambda buckets: (buckets[-1].last_row, len(buckets)))
    return Frame(
        min(buckets[0].first_row for buckets in every),
        max(buckets[-1].last_row for buckets in every),
        reference,
    )


@dataclass(frozen=True, slots=True)
class _Scale:
    """From readings to pixels; `forward` is monotonic over all floats in use."""

    forward: Callable[[float], float]
    low: float
    high: float
    logarithmic: bool

    def y(self, value: float) -> float:
        """Pixels from the top, kept inside the plot."""
        bottom, top = self.forward(self.low), self.forward(self.high)
        inside = min(max(value, self.low), self.high)
        share = (self.forward(inside) - bottom) / ((top - bottom) or 1.0)
        return round(TOP + _PLOT_H * (1.0 - share), 1)


def chart(
    metric: str, series: Series, zones: Iterable[Zone], frame: Frame, marks: Iterable[Mark]
) -> str:
    """One metric over the summary of a run.

    Args:
        series: At least one bucket.
        zones: Of its rules; those without a severity are not shaded.
    """
    buckets = series.buckets
    scale = _scale(buckets)
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(metric)}">',
        *_shades(zones, scale),
        *_axis(scale, frame),
        *_curve(buckets, frame, scale),
        *_lost(buckets, frame),
        *(_mark(mark, frame) for mark in marks),
        "</svg>",
    ]
    return "".join(parts)


def _scale(buckets: Sequence[Bucket]) -> _Scale:
    ends = [end for bucket in buckets for end in (bucket.low, bucket.high) if math.isfinite(end)]
    if not ends:
        return _Scale(lambda value: value, 0.0, 1.0, logarithmic=False)
    low, high = min(ends), max(ends)
    magnitudes = [abs(end) for end in ends if end]
    usual = statistics.median(magnitudes) if magnitudes else 1.0
    largest = max(magnitudes, default=1.0)
    smallest = min(magnitudes, default=1.0)
    if low > 0.0 and high > _WIDE * low:
        return _Scale(math.log, low, high, logarithmic=True)
    if largest > _WIDE * usual or (low == 0.0 and largest > _WIDE * smallest):
        # Linear around zero, logarithmic beyond the usual magnitude, so zero has a place.
        knee = usual if largest > _WIDE * usual else smallest
        return _Scale(functools.partial(_bent, knee=knee), low, high, logarithmic=True)
    if low == high:
        pad = abs(low) * 0.1 or 1.0
        return _Scale(lambda value: value, low - pad, high + pad, logarithmic=False)
    # Halved, since the difference of two huge floats of opposite sign overflows.
    return _Scale(lambda value: value / 2, low, high, logarithmic=False)


def _bent(value: float, knee: float) -> float:
    """asinh(value / knee), also where the quotient is beyond floats."""
    ratio = value / knee
    if math.isfinite(ratio):
        return math.asinh(ratio)
    far = math.log(2.0) + math.log(abs(value)) - math.log(knee)
    return math.copysign(far, value)


def _shades(zones: Iterable[Zone], scale: _Scale) -> Iterable[str]:
    for low, high, severity in zones:
        top, bottom = scale.y(min(high, scale.high)), scale.y(max(low, scale.low))
        if not severity or high < scale.low or low > scale.high or bottom - top < 0.5:
            continue
        title = f"<title>{severity}: {low:g} to {high:g}</title>"
        yield (
            f'<rect class="zone {severity}" x="{LEFT}" y="{top}" width="{_PLOT_W}" '
            f'height="{round(bottom - top, 1)}">{title}</rect>'
        )


def _axis(scale: _Scale, frame: Frame) -> Iterable[str]:
    bottom, top = scale.y(scale.low), scale.y(scale.high)
    for y, value in ((bottom, scale.low), (top, scale.high)):
        yield f'<text class="tick" x="{LEFT - 4}" y="{y + 3}" text-anchor="end">{value:.3g}</text>'
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>'
    if scale.logarithmic:
        yield f'<text class="tick" x="{LEFT + 3}" y="{TOP - 3}">log scale</text>'
    first, last = frame.reference[0].first_update, frame.reference[-1].last_update
    yield f'<text class="tick" x="{LEFT}" y="{HEIGHT - 5}">{first}</text>'
    yield (
        f'<text class="tick" x="{WIDTH - RIGHT}" y="{HEIGHT - 5}" text-anchor="end">{last}</text>'
    )


def _curve(buckets: Sequence[Bucket], frame: Frame, scale: _Scale) -> Iterable[str]:
    """The area between least and largest, broken where nothing was finite."""
    run: list[Bucket] = []
    for bucket in [*buckets, None]:
        if bucket is not None and math.isfinite(bucket.low):
            run.append(bucket)
            continue
        if run:
            yield _stretch(run, frame, scale)
        run = []


def _stretch(run: Sequence[Bucket], frame: Frame, scale: _Scale) -> str:
    points = [(frame.x((bucket.first_row + bucket.last_row) / 2), bucket) for bucket in run]
    if len(points) == 1:
        x, bucket = points[0]
        return f'<circle class="point" cx="{x}" cy="{scale.y(bucket.high)}" r="2.5"/>'
    upper = [f"{x} {scale.y(bucket.high)}" for x, bucket in points]
    if all(bucket.low == bucket.high for bucket in run):
        return f'<path class="line" d="M{"L".join(upper)}"/>'
    lower = [f"{x} {scale.y(bucket.low)}" for x, bucket in reversed(points)]
    return f'<path class="area" d="M{"L".join(upper + lower)}Z"/>'


def _lost(buckets: Sequence[Bucket], frame: Frame) -> Iterable[str]:
    for bucket in buckets:
        if bucket.lost:
            x = frame.x((bucket.first_row + bucket.last_row) / 2)
            yield (
                f'<path class="lost" d="M{x - 2} {TOP}l4 5m0 -5l-4 5"><title>not finite, '
                f"update {bucket.first_update}</title></path>"
            )


def _mark(mark: Mark, frame: Frame) -> str:
    x = frame.x_of(mark.update)
    return (
        f'<g class="mark {mark.style}"><title>{escape(mark.text)}</title>'
        f'<line x1="{x}" x2="{x}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/></g>'
    )
