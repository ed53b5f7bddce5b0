"""The message as mail: text and HTML, one thread an incident."""

from __future__ import annotations

import re
from email.message import EmailMessage
from email.utils import format_datetime
from html import escape

from watchstep_monitor.notify.config import ReceiverConfig
from watchstep_monitor.notify.mail import mail_server
from watchstep_monitor.notify.render import plain_text
from watchstep_monitor.notify.render.wording import Wording, weight, worded
from watchstep_monitor.service.ports import Notice

_CHART = "chart@watchstep.invalid"
_ODD_IN_ID = re.compile(r"[^A-Za-z0-9.-]")


def message(notice: Notice, receiver: ReceiverConfig, png: bytes | None = None) -> EmailMessage:
    """The whole mail, with a picture if there is one.

    Its Message-ID stays the same over retries, so that copies can be told.
    """
    words = worded(notice)
    server = mail_server(receiver)
    mail = EmailMessage()
    mail["Subject"] = words.title
    mail["From"] = server.sender
    mail["To"] = ", ".join(server.to)
    mail["Date"] = format_datetime(notice.at)
    mail["Message-ID"] = _mail_id(notice.id)
    mail["References"] = _mail_id(notice.incident)
    mail["In-Reply-To"] = _mail_id(notice.incident)
    # Keeps holiday replies away, see RFC 3834.
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-Priority"] = "1" if weight(notice) == "critical" else "3"
    mail.set_content(plain_text.body(notice))
    mail.add_alternative(_html(words, picture=png is not None), subtype="html")
    html = mail.get_body(("html",))
    if png is not None and isinstance(html, EmailMessage):
        html.add_related(png, "image", "png", cid=f"<{_CHART}>", filename="chart.png")
    return mail


def _mail_id(text: str) -> str:
    return f"<{_ODD_IN_ID.sub('-', text)}@watchstep.invalid>"


def _html(words: Wording, *, picture: bool) -> str:
    rows = "".join(_row(label, text) for label, text in words.points)
    readings = "".join(_row(metric, value) for metric, value in words.readings)
    lines = escape("\n".join(words.traceback))
    image = f'<p><img src="cid:{_CHART}" alt="chart" width="640"></p>' if picture else ""
    traceback = f"<pre>{lines}</pre>" if lines else ""
    links = " · ".join(f'<a href="{escape(url)}">{escape(name)}</a>' for name, url in words.links)
    return (
        '<html><body style="font-family:sans-serif">'
        f"<h3>{escape(words.title)}</h3><table>{rows}</table>"
        f'<table style="font-family:monospace">{readings}</table>{traceback}{image}'
        f"<p>{links}</p><p><small>{escape(words.footer)}</small></p></body></html>\n"
    )


def _row(head: str, text: str) -> str:
    return f'<tr><th align="left" valign="top">{escape(head)}</th><td>{escape(text)}</td></tr>'
