"""A small picture of the reading that a message is about, with Pillow, an optional extra."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

from watchstep_monitor.notify.render.plain import clip, line, number
from watchstep_monitor.service.series import Point

WIDTH, HEIGHT = 640, 240
POINTS = 320
"""Readings in a picture: one every other pixel."""

_LEFT, _RIGHT, _TOP, _BOTTOM = 72, 16, 30, 26
_INK, _GREY, _BLUE, _RED = "#222222", "#d0d0d0", "#1f6fb2", "#c0392b"
_WIDE = 1_000.0
"""Greatest over least value above which the scale is logarithmic."""


def draw(metric: str, points: Sequence[Point], first_bad_step: int | None) -> bytes | None:
    """A PNG; None without Pillow, or where there is no line to draw.

    Readings that are not finite are red marks at the top, where no line reaches.
    """
    try:
        from PIL import Image, ImageDraw, ImageFont
    except ImportError:
        return None
    finite = [point.value for point in points if math.isfinite(point.value)]
    if len(finite) < 2:
        return None
    low, high = min(finite), max(finite)
    is_log = low > 0 and high / low > _WIDE
    first, last = points[0].step, max(point.step for point in points)

    def across(step: int) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * (step - first) / max(1, last - first)

    def down(value: float) -> float:
        ends = [math.log(each) if is_log else each for each in (low, value, high)]
        # Halved, so that the difference of the largest doubles is no infinity.
        share = (ends[1] / 2 - ends[0] / 2) / ((ends[2] / 2 - ends[0] / 2) or 1.0)
        return HEIGHT - _BOTTOM - (HEIGHT - _BOTTOM - _TOP) * share

    picture = Image.new("RGB", (WIDTH, HEIGHT), "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(12)
    for value in (low, high):
        pen.line([(_LEFT, down(value)), (WIDTH - _RIGHT, down(value))], _GREY)
        pen.text((_LEFT - 6, down(value)), number(value), _INK, font, anchor="rm")
    scale = ", logarithmic" if is_log else ""
    pen.text((_LEFT, 8), clip(line(metric), 70) + scale, _INK, font)
    pen.text((_LEFT, HEIGHT - 18), f"step {first:,}", _INK, font)
    pen.text((WIDTH - _RIGHT, HEIGHT - 18), f"{last:,}", _INK, font, anchor="ra")
    stretch: list[tuple[float, float]] = []
    for before, point in zip((points[0], *points), points, strict=False):
        if not math.isfinite(point.value) or point.step < before.step:
            pen.line(stretch, _BLUE, 2)
            stretch = []
        if math.isfinite(point.value):
            stretch.append((across(point.step), down(point.value)))
        else:
            pen.line([(across(point.step), _TOP - 6), (across(point.step), _TOP)], _RED)
    pen.line(stretch, _BLUE, 2)
    if first_bad_step is not None and first <= first_bad_step <= last:
        pen.line([(across(first_bad_step), _TOP), (across(first_bad_step), HEIGHT - _BOTTOM)], _RED)
    png = io.BytesIO()
    picture.save(png, "PNG")
    return png.getvalue()
