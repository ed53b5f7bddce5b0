"""Mail, through a real SMTP server on a real socket."""

from __future__ import annotations

import email
import email.policy
import socket
import ssl
import warnings
from contextlib import contextmanager
from shutil import which

import pytest

from notify.kit import ManualClock, MemoryOutbox, certificate_for, config, notice, running
from watchstep_monitor.notify import ReceiverConfig, Worker
from watchstep_monitor.notify.mail import mail_server
from watchstep_monitor.notify.render.wording import worded
from watchstep_monitor.service.ports import Dead, Delivered, Retry

needs_openssl = pytest.mark.skipif(which("openssl") is None, reason="needs openssl")
controller = pytest.importorskip("aiosmtpd.controller", reason="needs aiosmtpd")

AuthResult = pytest.importorskip("aiosmtpd.smtp").AuthResult


class Mailbox:
    def __init__(self, reply="250 OK"):
        self.reply = reply
        self.envelopes = []

    async def handle_DATA(self, server, session, envelope):
        self.envelopes.append(envelope)
        return self.reply


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


@contextmanager
def smtp_server(mailbox, **options):
    server = controller.Controller(mailbox, hostname="127.0.0.1", port=free_port(), **options)
    with warnings.catch_warnings():
        # aiosmtpd's start looks for an event loop in a way that Python deprecates.
        warnings.simplefilter("ignore", DeprecationWarning)
        server.start()
    try:
        yield server.port
    finally:
        server.stop()


def outcome_of_one(url, **changes):
    outbox = MemoryOutbox()
    outbox.put("mail", notice())
    mail = ReceiverConfig("mail", "email", url, secret=changes.pop("secret", ""))
    manners = config(mail, retry_base_s=60.0, **changes)
    with running(Worker(outbox, manners, ManualClock(), resolve=lambda *_: ["127.0.0.1"])):
        outbox.until_settled(1)
    return outbox.outcomes()[0]


def test_a_mail_arrives_with_its_envelope():
    mailbox = Mailbox()
    with smtp_server(mailbox) as port:
        outcome = outcome_of_one(
            f"smtp://127.0.0.1:{port}?from=watch@example.org&to=ann@example.org,bo@example.org"
        )

    assert outcome == Delivered()
    (envelope,) = mailbox.envelopes
    assert envelope.mail_from == "watch@example.org"
    assert envelope.rcpt_tos == ["ann@example.org", "bo@example.org"]
    arrived = email.message_from_bytes(envelope.content, policy=email.policy.default)
    assert arrived["Subject"].strip() == worded(notice()).title


@pytest.mark.parametrize(("reply", "kind"), [("550 no such user", Dead), ("451 try later", Retry)])
def test_a_mail_servers_no_is_for_now_or_for_good(reply, kind):
    with smtp_server(Mailbox(reply)) as port:
        outcome = outcome_of_one(f"smtp://127.0.0.1:{port}?from=a@b.example&to=c@d.example")

    assert isinstance(outcome, kind)
    assert outcome.reason == f"SMTP {reply[:3]}"


def test_a_login_is_not_sent_over_an_open_line():
    mailbox = Mailbox()
    with smtp_server(mailbox) as port:
        outcome = outcome_of_one(
            f"smtp://ann@127.0.0.1:{port}?from=a@b.example&to=c@d.example", secret="hush"
        )

    assert outcome == Dead("the mail server lacks TLS or login")
    assert mailbox.envelopes == []


def server_tls(folder, monkeypatch):
    certificate, key = certificate_for("mail.example.org", folder)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


@needs_openssl
def test_a_login_goes_over_starttls_and_the_certificate_is_the_names(tmp_path, monkeypatch):
    mailbox, logins = Mailbox(), []

    def authenticate(_server, _session, _envelope, _mechanism, login):
        logins.append((login.login, login.password))
        return AuthResult(success=True)

    with smtp_server(
        mailbox,
        tls_context=server_tls(tmp_path, monkeypatch),
        auth_required=True,
        authenticator=authenticate,
    ) as port:
        outcome = outcome_of_one(
            f"smtp://ann@mail.example.org:{port}?from=a@b.example&to=c@d.example", secret="hush"
        )
        stranger = outcome_of_one(
            f"smtp://ann@other.example.org:{port}?from=a@b.example&to=c@d.example", secret="hush"
        )

    assert outcome == Delivered()
    assert logins == [(b"ann", b"hush")]
    assert isinstance(stranger, Retry)
    assert stranger.reason == "TLS failed"


@needs_openssl
def test_a_mail_goes_over_tls_from_the_first_byte(tmp_path, monkeypatch):
    mailbox = Mailbox()
    with smtp_server(mailbox, ssl_context=server_tls(tmp_path, monkeypatch)) as port:
        outcome = outcome_of_one(f"smtps://mail.example.org:{port}?from=a@b.example&to=c@d.example")

    assert outcome == Delivered()
    assert len(mailbox.envelopes) == 1


def test_a_private_mail_server_is_refused_like_any_private_target():
    with smtp_server(Mailbox()) as port:
        outcome = outcome_of_one(
            f"smtp://127.0.0.1:{port}?from=a@b.example&to=c@d.example", allow_private_cidrs=()
        )

    assert outcome == Dead("refused: its name leads to a loopback address")


def test_a_mail_server_that_is_down_is_tried_again():
    outcome = outcome_of_one(f"smtp://127.0.0.1:{free_port()}?from=a@b.example&to=c@d.example")

    assert isinstance(outcome, Retry)


def test_the_address_says_everything_about_the_server():
    receiver = ReceiverConfig(
        "mail", "email", "smtps://ann%40x@mail.example.org?from=w@x.example&to=a@x.example"
    )

    server = mail_server(receiver)

    assert (server.host, server.port, server.user) == ("mail.example.org", 465, "ann@x")
    assert (server.sender, server.to, server.tls) == ("w@x.example", ("a@x.example",), "direct")


def test_a_login_requires_tls_unless_the_address_says_otherwise():
    def tls(url):
        return mail_server(ReceiverConfig("mail", "email", url)).tls

    assert tls("smtp://ann@m.example?to=a@x.example") == "required"
    assert tls("smtp://m.example?to=a@x.example") == "offered"
    assert tls("smtp://m.example?to=a@x.example&tls=off") == "off"
    with pytest.raises(ValueError, match="tls is off, offered or required"):
        tls("smtp://m.example?to=a@x.example&tls=maybe")
