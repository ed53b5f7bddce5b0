"""One mail through an SMTP server, to a vetted address and no other."""

from __future__ import annotations

import logging
import smtplib
import socket
import ssl
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from email.message import EmailMessage
from urllib.parse import parse_qs, unquote, urlsplit

from watchstep_monitor.notify.config import Network, ReceiverConfig
from watchstep_monitor.notify.outcomes import Answer, Refused, Taken
from watchstep_monitor.notify.targets import Resolver, find, in_daemon_thread

log = logging.getLogger(__name__)

_SUBMISSION_PORT = 587
_TLS_PORT = 465


@dataclass(frozen=True, slots=True)
class MailServer:
    """What a mail receiver's address says.

    Attributes:
        tls: "off", "offered" (STARTTLS when the server has it), "required" (STARTTLS or
            nothing) or "direct" (TLS from the first byte).
    """

    host: str
    port: int
    user: str
    sender: str
    to: tuple[str, ...]
    tls: str


def mail_server(receiver: ReceiverConfig) -> MailServer:
    """Read `smtp://[user@]host[:port]?from=A&to=B,C[&tls=off|offered|required]`.

    Without `tls` a login requires it, and anything else takes it when it is offered.

    Raises:
        ValueError: Nobody to send to, or no such word for `tls`.
    """
    parts = urlsplit(receiver.url)
    query = parse_qs(parts.query)
    to = tuple(address.strip() for text in query.get("to", ()) for address in text.split(","))
    user = unquote(parts.username or "")
    host = parts.hostname or ""
    direct = parts.scheme == "smtps"
    tls = "direct" if direct else query.get("tls", ["required" if user else "offered"])[-1]
    if not any(to):
        raise ValueError(f"receivers.{receiver.name}.url: ?to= names nobody")
    if tls not in {"direct", "off", "offered", "required"}:
        raise ValueError(f"receivers.{receiver.name}.url: tls is off, offered or required")
    return MailServer(
        host=host,
        port=parts.port or (_TLS_PORT if direct else _SUBMISSION_PORT),
        user=user,
        sender=query.get("from", [f"watchstep@{host}"])[-1],
        to=tuple(address for address in to if address),
        tls=tls,
    )


async def send(
    receiver: ReceiverConfig,
    message: EmailMessage,
    resolve: Resolver,
    allowed: Iterable[Network],
    timeout_s: float,
) -> Answer:
    """Hand one message to the server; each wait on it is limited, the caller limits the whole."""
    server = mail_server(receiver)
    addresses = await find(server.host, server.port, resolve, allowed)
    if isinstance(addresses, Refused):
        return addresses
    password = unquote(urlsplit(receiver.url).password or "") or receiver.secret
    return await in_daemon_thread(
        lambda: _hand_over(server, addresses[0], password, message, timeout_s)
    )


def _hand_over(
    server: MailServer, address: str, password: str, message: EmailMessage, timeout_s: float
) -> Answer:
    try:
        with closing(_client(server, address, timeout_s)) as smtp:
            _greet(smtp, server)
            if server.user:
                smtp.login(server.user, password)
            left_out = smtp.send_message(message, server.sender, list(server.to))
            if left_out:
                log.warning("mail refused for some", extra={"recipients": len(left_out)})
            # A server that hangs up instead of saying goodbye has taken the message all the same.
            try:
                smtp.quit()
            except (smtplib.SMTPException, OSError):
                return Taken()
    except (smtplib.SMTPException, OSError) as error:
        return _refused(error)
    return Taken()


def _refused(error: smtplib.SMTPException | OSError) -> Refused:
    """Without the server's words: they may quote addresses."""
    if isinstance(error, smtplib.SMTPResponseException):
        return Refused(f"SMTP {error.smtp_code}", permanent=error.smtp_code >= 500)
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        codes = [code for code, _ in error.recipients.values()]
        return Refused(f"SMTP {max(codes)}: no recipient", permanent=min(codes) >= 500)
    if isinstance(error, smtplib.SMTPNotSupportedError):
        return Refused("the mail server lacks TLS or login", permanent=True)
    if isinstance(error, ssl.SSLError):
        return Refused("TLS failed")
    return Refused("the mail server could not be reached, or broke off")


def _client(server: MailServer, address: str, timeout_s: float) -> _Pinned:
    if server.tls == "direct":
        return _PinnedOverTls(address, server.host, timeout_s)
    return _Pinned(address, server.host, timeout_s)


def _greet(smtp: _Pinned, server: MailServer) -> None:
    smtp.open(server.port)
    smtp.ehlo_or_helo_if_needed()
    is_offered = server.tls == "offered" and smtp.has_extn("starttls")
    if is_offered or server.tls == "required":
        smtp.starttls(context=ssl.create_default_context())
        smtp.ehlo_or_helo_if_needed()


class _Pinned(smtplib.SMTP):
    """Speaks to one address; certificates are still judged by the server's name."""

    def __init__(self, address: str, name: str, timeout_s: float) -> None:
        # Given, because smtplib asks the name server for it otherwise.
        super().__init__(local_hostname=socket.gethostname(), timeout=timeout_s)
        self._address = address
        self._host = name

    def open(self, port: int) -> None:
        code, _ = self.connect(self._host, port)
        if code != 220:
            raise smtplib.SMTPResponseException(code, b"")

    # smtplib has no public way to say where to connect apart from the name. Delete when it does.
    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:  # noqa: ARG002 - smtplib's own signature
        return socket.create_connection((self._address, port), timeout)


class _PinnedOverTls(_Pinned):
    """The same, with TLS from the first byte."""

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        plain = super()._get_socket(host, port, timeout)
        return ssl.create_default_context().wrap_socket(plain, server_hostname=host)
