"""One service for all tests that leave it as they found it: a start takes seconds."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import HTTPServer

import pytest

from service.described import DescribedClient
from service.http_kit import Running, served
from service.receiver import Receiver


@pytest.fixture(scope="session")
def receiver() -> Iterator[int]:
    server = HTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory, receiver: int) -> Iterator[Running]:
    settings = {
        "WATCHSTEP_RECEIVERS__OPS__KIND": "webhook",
        "WATCHSTEP_RECEIVERS__OPS__URL": f"http://127.0.0.1:{receiver}/hook",
        "WATCHSTEP_RECEIVERS__OPS__SECRET": "whsec_" + "A" * 32,
        "WATCHSTEP_NOTIFY__ALLOW_PRIVATE_CIDRS": "127.0.0.0/8",
    }
    with served(tmp_path_factory.mktemp("service"), **settings) as running:
        yield running


@pytest.fixture(scope="session")
def client(service: Running) -> DescribedClient:
    return DescribedClient(service.client)
