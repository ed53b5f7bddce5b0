"""Pictures of readings: drawn, attached, and never waited for."""

from __future__ import annotations

import io
import json
import math
import time

import pytest

from notify.kit import ManualClock, MemoryOutbox, Reply, config, http_receiver, notice, running
from notify.test_render import receiver
from watchstep_monitor.notify import ReceiverConfig, Worker
from watchstep_monitor.notify.chart import HEIGHT, WIDTH, draw
from watchstep_monitor.notify.render import email_message
from watchstep_monitor.service.ports import Dead, Delivered, Retry
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


def to_slack(replies, png):
    outbox = MemoryOutbox()
    with http_receiver() as server:
        url = f"http://127.0.0.1:{server.port}/api"
        place = {"ok": True, "upload_url": f"{url}/upload/1", "file_id": "F1"}
        answers = [{"ok": True, "channel": "C1", "ts": "1.2"}, place, {"ok": True}, {"ok": True}]
        server.replies = [Reply(body=json.dumps(each).encode()) for each in replies or answers]
        bot = ReceiverConfig("ops", "slack", f"{url}/chat.postMessage?channel=C1", secret="xoxb-1")
        outbox.put("ops", notice())
        with running(Worker(outbox, config(bot), ManualClock(), chart=lambda _: png)):
            outbox.until_settled(1)
    return server.requests, outbox.outcomes()[0]


def test_a_slack_bot_attaches_it_in_the_thread_of_the_message():
    requests, outcome = to_slack([], b"PNG")

    assert outcome == Delivered()
    assert [request.path.rpartition("/")[2] for request in requests] == [
        *("chat.postMessage", "files.getUploadURLExternal", "1", "files.completeUploadExternal")
    ]
    message, place, upload, done = requests
    assert json.loads(message.body)["channel"] == "C1"
    assert message.headers["authorization"] == "Bearer xoxb-1"
    assert place.body == b"filename=chart.png&length=3"
    assert (upload.body, upload.headers.get("authorization")) == (b"PNG", None)
    assert json.loads(done.body) == {
        "files": [{"id": "F1", "title": "chart"}],
        "channel_id": "C1",
        "thread_ts": "1.2",
    }


def test_a_file_that_slack_refuses_does_not_send_the_message_again():
    requests, outcome = to_slack([{"ok": True}, {"ok": False, "error": "missing_scope"}], b"PNG")

    assert outcome == Delivered()
    assert len(requests) == 2


@pytest.mark.parametrize(("error", "kind"), [("channel_not_found", Dead), ("ratelimited", Retry)])
def test_what_slack_refuses_with_a_200_is_for_good_or_for_now(error, kind):
    _, outcome = to_slack([{"ok": False, "error": error}], None)

    assert isinstance(outcome, kind)
    assert outcome.reason == f"Slack says {error}"


def broken(_):
    raise RuntimeError("no font")


@pytest.mark.parametrize("chart", [broken, lambda _: time.sleep(30)])
def test_a_message_goes_without_a_picture_that_breaks_or_takes_long(chart):
    request = sent_to_discord(chart, timeout_s=0.4)

    assert request.headers["content-type"] == "application/json"
