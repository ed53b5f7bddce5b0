"""Which network addresses a receiver may have: an explicit list of those it may not.

`ipaddress.is_global` is no guard: it calls NAT64, 6to4 and multicast addresses global. The
lists follow IANA's special-purpose address registries for IPv4 and IPv6.
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from watchstep_monitor.notify.config import Network
from watchstep_monitor.notify.outcomes import Refused

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolver = Callable[[str, int], Sequence[str]]
"""Host and port to addresses, all of them; blocks; raises `OSError` when there are none."""

_Found = TypeVar("_Found")

_DENIED: Sequence[tuple[str, str]] = (
    ("0.0.0.0/8", "unspecified"),
    ("10.0.0.0/8", "private"),
    ("100.64.0.0/10", "carrier-grade NAT"),
    ("127.0.0.0/8", "loopback"),
    ("169.254.0.0/16", "link-local"),
    ("172.16.0.0/12", "private"),
    ("192.0.0.0/24", "protocol assignment"),
    ("192.0.2.0/24", "documentation"),
    ("192.31.196.0/24", "AS112"),
    ("192.52.193.0/24", "AMT relay"),
    ("192.88.99.0/24", "6to4 relay"),
    ("192.168.0.0/16", "private"),
    ("192.175.48.0/24", "AS112"),
    ("198.18.0.0/15", "benchmarking"),
    ("198.51.100.0/24", "documentation"),
    ("203.0.113.0/24", "documentation"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),
    ("::/128", "unspecified"),
    ("::1/128", "loopback"),
    ("::/96", "IPv4-compatible"),
    ("::ffff:0:0:0/96", "IPv4-translated"),
    ("64:ff9b::/96", "NAT64"),
    ("64:ff9b:1::/48", "NAT64"),
    ("100::/64", "discard"),
    ("2001::/23", "protocol assignment"),
    ("2001:db8::/32", "documentation"),
    ("2002::/16", "6to4"),
    ("3fff::/20", "documentation"),
    ("5f00::/16", "segment routing"),
    ("fc00::/7", "private"),
    ("fe80::/10", "link-local"),
    ("fec0::/10", "site-local"),
    ("ff00::/8", "multicast"),
)
_DENIED_NETWORKS = tuple((ipaddress.ip_network(text), word) for text, word in _DENIED)

# Cloud machines get their credentials from these. The last is public and would pass the list.
_METADATA = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "169.254.169.254",
        "169.254.170.2",
        "169.254.170.23",
        "100.100.100.200",
        "192.0.0.192",
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",
        "168.63.129.16",
    )
)
_GLOBAL_UNICAST_V6 = ipaddress.IPv6Network("2000::/3")


class TargetRefusedError(Exception):
    """A receiver's name leads to an address that nothing may be sent to.

    Its text says which kind of address, never the address or the name.
    """


def refusal(text: str, allowed: Iterable[Network]) -> str | None:
    """Why this address may not be connected to, in a word or two; None when it may.

    Args:
        text: An address as a resolver gives it.
        allowed: Networks of the settings. A cloud's metadata address is allowed only by a
            network that holds nothing else.
    """
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return "not an address"
    # ::ffff:127.0.0.1 connects to 127.0.0.1: judge what is connected to.
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    homes = [net for net in allowed if net.version == address.version and address in net]
    if address in _METADATA:
        return None if any(net.num_addresses == 1 for net in homes) else "cloud metadata"
    if homes:
        return None
    return _denied(address)


def _denied(address: Address) -> str | None:
    for network, word in _DENIED_NETWORKS:
        if address.version == network.version and address in network:
            return word
    if isinstance(address, ipaddress.IPv6Address) and address not in _GLOBAL_UNICAST_V6:
        return "reserved"
    return None


def vetted(addresses: Sequence[str], allowed: Iterable[Network]) -> tuple[str, ...]:
    """The addresses again, when every single one may be connected to.

    One bad answer among good ones refuses them all: it is how a rebinding name looks.

    Raises:
        TargetRefusedError: For the first that may not.
    """
    networks = tuple(allowed)
    for address in addresses:
        word = refusal(address, networks)
        if word is not None:
            raise TargetRefusedError(f"refused: its name leads to a {word} address")
    return tuple(dict.fromkeys(addresses))


def system_resolver(host: str, port: int) -> Sequence[str]:
    """What the operating system knows of a name; also reads forms such as 127.1."""
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return [str(place[4][0]) for place in addresses]


async def find(
    host: str, port: int, resolve: Resolver, allowed: Iterable[Network]
) -> tuple[str, ...] | Refused:
    """Resolve once and vet every answer; the caller connects to these and nothing else."""
    try:
        addresses: Sequence[str] = [str(ipaddress.ip_address(host.strip("[]")))]
    except ValueError:
        try:
            addresses = await in_daemon_thread(lambda: resolve(host, port))
        except (OSError, UnicodeError):
            addresses = ()
    try:
        return vetted(addresses, allowed) or Refused("its name has no address")
    except TargetRefusedError as error:
        return Refused(str(error), permanent=True)


async def in_daemon_thread(work: Callable[[], _Found]) -> _Found:
    """Run blocking work beside the loop, in a thread of its own.

    Not the loop's thread pool: a name server that does not answer would fill that and stop
    everybody's deliveries, and a pool is joined when the interpreter exits.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_Found] = loop.create_future()

    def report(set_it: Callable[[], None]) -> None:
        if not done.cancelled():
            set_it()

    def run() -> None:
        try:
            set_it = functools.partial(done.set_result, work())
        except Exception as error:
            set_it = functools.partial(done.set_exception, error)
        try:
            loop.call_soon_threadsafe(report, set_it)
        except RuntimeError:
            # The loop closed while we worked: nobody waits any more.
            return

    threading.Thread(target=run, name="watchstep-notify-call", daemon=True).start()
    return await done
