"""One POST to a receiver: to a vetted address and no other, briefly, and without following."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Iterable, Mapping
from datetime import datetime
from importlib.metadata import version

import certifi
import httpx

from watchstep_monitor.notify.config import NotifyConfig, ReceiverConfig
from watchstep_monitor.notify.outcomes import Answer, Refused, Taken, http_answer
from watchstep_monitor.notify.targets import Resolver, find

_ANSWER_BYTES = 64 * 1024
_ADDRESSES_TRIED = 3
_PORTS: Mapping[str, int] = {"http": 80, "https": 443}


class Poster:
    """Sends bodies to receivers; owned by the worker's loop.

    Every receiver has a client of its own. A shared one would keep its connections by
    address, and would hand one receiver's TLS connection to another behind the same address.
    """

    def __init__(
        self, receivers: Iterable[ReceiverConfig], config: NotifyConfig, resolve: Resolver
    ) -> None:
        # Both write whole addresses, which hold Slack's and Discord's secrets, into the log.
        for chatty in ("httpx", "httpcore"):
            logging.getLogger(chatty).setLevel(logging.WARNING)
        self._resolve = resolve
        self._allowed = config.networks()
        tls = _tls()
        self._clients = {
            receiver.name: httpx.AsyncClient(
                verify=tls,
                trust_env=False,
                follow_redirects=False,
                # The worker limits the whole; this leaves time for the next address.
                timeout=httpx.Timeout(
                    config.timeout_s, connect=config.timeout_s / _ADDRESSES_TRIED
                ),
                headers={"user-agent": f"watchstep/{version('watchstep')}", "accept": "*/*"},
            )
            for receiver in receivers
        }

    async def post(
        self, receiver: ReceiverConfig, body: bytes, headers: Mapping[str, str], now: datetime
    ) -> Answer:
        """POST a body.

        Args:
            body: JSON, unless the headers say otherwise.
            headers: Beside the content's length and host.
            now: UTC; what a `Retry-After` date is measured from.
        """
        reply = await self.ask(receiver, receiver.url, body, headers, now)
        return reply if isinstance(reply, Refused) else Taken()

    async def ask(
        self,
        receiver: ReceiverConfig,
        address: str,
        body: bytes,
        headers: Mapping[str, str],
        now: datetime,
    ) -> bytes | Refused:
        """POST a body to any address for a receiver; what a success answered, at most 64 KiB."""
        try:
            url = httpx.URL(address)
            port = url.port or _PORTS[url.scheme]
        except (httpx.InvalidURL, KeyError):
            return Refused("is no address", permanent=True)
        addresses = await find(url.raw_host.decode("ascii"), port, self._resolve, self._allowed)
        if isinstance(addresses, Refused):
            return addresses
        return await self._first_that_connects(receiver, url, addresses, (body, headers, now))

    async def aclose(self) -> None:
        for client in self._clients.values():
            await client.aclose()

    async def _first_that_connects(
        self,
        receiver: ReceiverConfig,
        url: httpx.URL,
        addresses: tuple[str, ...],
        sending: tuple[bytes, Mapping[str, str], datetime],
    ) -> bytes | Refused:
        body, headers, now = sending
        answer = Refused("could not connect")
        for address in addresses[:_ADDRESSES_TRIED]:
            request = self._clients[receiver.name].build_request(
                "POST",
                # Connects to the vetted address itself: a name looked up again could lead
                # elsewhere by then. Host and certificate still belong to the name.
                url.copy_with(host=address),
                content=body,
                headers={
                    "content-type": "application/json",
                    **headers,
                    "host": url.netloc.decode("ascii"),
                },
                extensions={"sni_hostname": url.raw_host.decode("ascii")},
            )
            try:
                return await self._send(receiver, request, now)
            except httpx.ConnectTimeout:
                answer = Refused("could not connect in time")
            except httpx.ConnectError as error:
                answer = Refused(_connect_trouble(error))
            except httpx.TimeoutException:
                answer = Refused("no answer in time")
                break
            except httpx.TransportError:
                answer = Refused("the connection broke")
                break
        return answer

    async def _send(
        self, receiver: ReceiverConfig, request: httpx.Request, now: datetime
    ) -> bytes | Refused:
        response = await self._clients[receiver.name].send(request, stream=True)
        read = b""
        try:
            # Raw: what it decompresses to is nobody's business. Read so that the connection can be
            # used again; more than the cap closes it instead.
            async for piece in response.aiter_raw():
                read += piece
                if len(read) > _ANSWER_BYTES:
                    break
        except httpx.TransportError:
            # The status has arrived and counts, whatever became of the text behind it.
            read = b""
        finally:
            await response.aclose()
        answer = http_answer(response.status_code, response.headers.get("retry-after"), now)
        return answer if isinstance(answer, Refused) else read


def _connect_trouble(error: httpx.ConnectError) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return "its certificate is not trusted"
        if isinstance(cause, ssl.SSLError):
            return "TLS failed"
        cause = cause.__cause__ or cause.__context__
    return "could not connect"


def _tls() -> ssl.SSLContext:
    # The system's authorities, for a company's own; certifi's, for images that have none.
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context
