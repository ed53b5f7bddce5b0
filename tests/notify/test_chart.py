"""Pictures of readings: drawn, attached, and never waited for."""

from __future__ import annotations

import io
import math
import time

import pytest

from notify.kit import ManualClock, MemoryOutbox, config, http_receiver, notice, running
from notify.test_render import receiver
from watchstep_monitor.notify import ReceiverConfig, Worker
from watchstep_monitor.notify.chart import HEIGHT, WIDTH, draw
from watchstep_monitor.notify.render import email_message
from watchstep_monitor.service.series import Point

Image = pytest.importorskip("PIL.Image", reason="needs the extra charts")
RED, BLUE = (192, 57, 43), (31, 111, 178)


def points(*values):
    return [Point(1, n, n * 10, float(n), value) for n, value in enumerate(values)]


def colours(png):
    picture = Image.open(io.BytesIO(png))
    assert picture.size == (WIDTH, HEIGHT)
    return {colour for _, colour in picture.getcolors(1_000_000)}


def test_a_line_is_drawn_and_its_first_bad_step_marked():
    png = draw("train/loss", points(3.0, 2.0, 1.0, 9.0), 30)

    assert {RED, BLUE} <= colours(png)
    assert RED not in colours(draw("train/loss", points(3.0, 2.0), None))


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf, 1.7e308, -1.7e308, 5e-324])
def test_any_number_can_be_drawn(odd):
    assert colours(draw("x" * 500, points(1.0, odd, 2.0, -1.7e308, 1.7e308), 20))


def test_there_is_no_picture_of_nothing():
    assert draw("a", [], None) is None
    assert draw("a", points(math.nan, math.nan), None) is None
    assert draw("a", points(1.0), None) is None


def test_a_mail_shows_it_inline():
    png = draw("a", points(1.0, 2.0), None)

    mail = email_message.message(notice(), receiver("email"), png)

    assert [part.get_content_type() for part in mail.walk() if not part.is_multipart()] == [
        *("text/plain", "text/html", "image/png")
    ]
    html = mail.get_body(("html",)).get_content()
    assert 'src="cid:chart@watchstep.invalid"' in html


def sent_to_discord(chart, **manners):
    outbox = MemoryOutbox()
    with http_receiver() as server:
        outbox.put("ops", notice())
        manners = config(ReceiverConfig("ops", "discord", server.url), **manners)
        with running(Worker(outbox, manners, ManualClock(), chart=chart)):
            outbox.until_settled(1)
        (request,) = server.requests
    return request


def test_discord_shows_it_in_the_embed():
    png = draw("a", points(1.0, 2.0), None)

    request = sent_to_discord(lambda _: png)

    assert request.headers["content-type"].startswith("multipart/form-data; boundary=")
    assert b"attachment://chart.png" in request.body
    assert png in request.body


def broken(_):
    raise RuntimeError("no font")


@pytest.mark.parametrize("chart", [broken, lambda _: time.sleep(30)])
def test_a_message_goes_without_a_picture_that_breaks_or_takes_long(chart):
    request = sent_to_discord(chart, timeout_s=0.4)

    assert request.headers["content-type"] == "application/json"
