"""Where notifications may go: judged on the address that is connected to."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from shutil import which

import pytest

from notify.kit import (
    HttpReceiver,
    ManualClock,
    MemoryOutbox,
    certificate_for,
    config,
    http_receiver,
    notice,
    running,
)
from watchstep_monitor.notify import ReceiverConfig, Worker
from watchstep_monitor.notify.outcomes import Refused
from watchstep_monitor.notify.targets import (
    TargetRefusedError,
    find,
    refusal,
    system_resolver,
    vetted,
)
from watchstep_monitor.service.ports import Dead, Delivered, Retry

DENIED = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "100.127.255.254",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.1.1",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "168.63.129.16",
    "100.100.100.200",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::808:808",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::1",
    "3fff::1",
    "4000::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "no address",
    "",
]
PUBLIC = ["1.1.1.1", "8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:8.8.8.8"]


@pytest.mark.parametrize("address", DENIED)
def test_what_is_not_public_is_refused(address):
    assert refusal(address, ())


@pytest.mark.parametrize("address", PUBLIC)
def test_what_is_public_is_allowed(address):
    assert refusal(address, ()) is None


def test_each_edge_of_a_denied_network_is_denied_and_its_neighbour_is_not():
    edges = {"10.0.0.0": "9.255.255.255", "10.255.255.255": "11.0.0.0"}
    edges |= {"100.64.0.0": "100.63.255.255", "100.127.255.255": "100.128.0.0"}
    edges |= {"172.16.0.0": "172.15.255.255", "172.31.255.255": "172.32.0.0"}
    edges |= {"2002::": "2001:ffff:ffff::1"}

    assert all(refusal(inside, ()) for inside in edges)
    assert not any(refusal(outside, ()) for outside in edges.values())


def test_an_allowed_network_opens_itself_and_nothing_else():
    allowed = [ipaddress.ip_network("10.1.0.0/16"), ipaddress.ip_network("fd12::/64")]

    assert refusal("10.1.2.3", allowed) is None
    assert refusal("::ffff:10.1.2.3", allowed) is None
    assert refusal("fd12::5", allowed) is None
    assert refusal("10.2.0.1", allowed)
    assert refusal("fd13::5", allowed)


def test_a_clouds_metadata_address_needs_to_be_allowed_by_itself():
    wide = [ipaddress.ip_network("169.254.0.0/16"), ipaddress.ip_network("100.64.0.0/10")]
    exact = [ipaddress.ip_network("169.254.169.254/32")]

    assert refusal("169.254.1.1", wide) is None
    assert refusal("169.254.169.254", wide) == "cloud metadata"
    assert refusal("100.100.100.200", wide) == "cloud metadata"
    assert refusal("169.254.169.254", exact) is None


def test_one_bad_answer_among_good_ones_refuses_them_all():
    with pytest.raises(TargetRefusedError, match="loopback"):
        vetted(["8.8.8.8", "2606:4700::1111", "127.0.0.1"], ())


@pytest.mark.parametrize("form", ["127.1", "0x7f000001", "2130706433", "017700000001", "[::1]"])
def test_odd_spellings_of_loopback_are_seen_through(form):
    answer = asyncio.run(find(form, 80, system_resolver, ()))

    assert isinstance(answer, Refused)
    assert answer.permanent


def test_a_private_target_is_refused_before_anything_is_sent():
    outbox = MemoryOutbox()
    with http_receiver() as server:
        outbox.put("ops", notice())
        ops = ReceiverConfig("ops", "webhook", server.url)

        with running(Worker(outbox, config(ops, allow_private_cidrs=()), ManualClock())):
            outbox.until_settled(1)

        assert outbox.outcomes() == [Dead("refused: its name leads to a loopback address")]
        assert server.requests == []


def test_a_name_that_is_bound_anew_after_the_check_is_not_followed():
    outbox, lookups = MemoryOutbox(), []

    def rebinding(host, port):
        lookups.append(host)
        return ["127.0.0.2"] if len(lookups) == 1 else ["127.0.0.1"]

    with http_receiver() as internal, _http_receiver_at("127.0.0.2", internal.port) as meant:
        url = f"http://hook.example.org:{internal.port}/x"
        ops = ReceiverConfig("ops", "webhook", url)
        outbox.put("ops", notice())
        outbox.put("ops", notice(edge="resolved"))
        manners = config(ops, allow_private_cidrs=("127.0.0.2/32",))

        with running(Worker(outbox, manners, ManualClock(), resolve=rebinding)):
            outbox.until_settled(2)

        # One lookup an attempt: what was vetted is what is connected to.
        assert lookups == ["hook.example.org"] * 2
        assert list(meant) == [f"hook.example.org:{internal.port}"]
        assert internal.requests == []
        assert outbox.outcomes()[0] == Delivered()
        assert isinstance(outbox.outcomes()[1], Dead)


def test_the_next_vetted_address_is_tried_when_the_first_does_not_connect():
    outbox = MemoryOutbox()
    with http_receiver() as server:
        ops = ReceiverConfig("ops", "webhook", f"http://hook.example.org:{server.port}/")
        outbox.put("ops", notice())
        manners = config(ops, allow_private_cidrs=("127.0.0.0/8",))

        with running(
            Worker(outbox, manners, ManualClock(), resolve=lambda *_: ["127.0.0.9", "127.0.0.1"])
        ):
            outbox.until_settled(1)

    assert outbox.outcomes() == [Delivered()]


def test_proxies_of_the_environment_are_ignored(monkeypatch):
    outbox = MemoryOutbox()
    with http_receiver() as proxy, http_receiver() as server:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        outbox.put("ops", notice())

        with running(
            Worker(outbox, config(ReceiverConfig("ops", "webhook", server.url)), ManualClock())
        ):
            outbox.until_settled(1)

        assert len(server.requests) == 1
        assert proxy.requests == []


@pytest.mark.skipif(which("openssl") is None, reason="needs openssl to make a certificate")
def test_tls_asks_for_and_judges_the_name_although_it_connects_to_an_address(tmp_path, monkeypatch):
    outbox, names = MemoryOutbox(), []
    certificate, key = certificate_for("hook.example.org", tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    server = HttpReceiver()
    server._server.socket = context.wrap_socket(server._server.socket, server_side=True)
    good = ReceiverConfig("good", "webhook", f"https://hook.example.org:{server.port}/")
    other = ReceiverConfig("other", "webhook", f"https://other.example.org:{server.port}/")
    outbox.put("good", notice())
    outbox.put("other", notice())

    try:
        with running(
            Worker(
                outbox,
                config(good, other, retry_base_s=60),
                ManualClock(),
                resolve=lambda *_: ["127.0.0.1"],
                chance=lambda: 0.5,
            )
        ):
            outbox.until_settled(2)
    finally:
        server.close()

    assert outbox.rows[0].outcomes == [Delivered()]
    assert isinstance(outbox.rows[1].outcomes[0], Retry)
    assert outbox.rows[1].outcomes[0].reason == "its certificate is not trusted"
    assert sorted(names) == ["hook.example.org", "other.example.org"]
    assert server.requests[0].headers["host"] == f"hook.example.org:{server.port}"


class _http_receiver_at:  # noqa: N801 - used as a context manager beside http_receiver
    """A receiver at another loopback address; gives the Host headers it was asked with."""

    def __init__(self, address, port):
        self.hosts = hosts = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers["content-length"]))
                hosts.append(self.headers["host"])
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_):
                return

        self._server = HTTPServer((address, port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self):
        self._thread.start()
        return self.hosts

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
