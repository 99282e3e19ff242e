"""Fixtures of the tests of outgoing calls."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.net.http_servers import Script, Serve, Server


@pytest.fixture
def internal_addresses_allowed(settings: Any) -> None:
    settings.BASKETS_INTERNAL_ADDRESSES = True


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start a local server and return its URL."""
    servers: list[Server] = []

    def serve(script: Script) -> str:
        servers.append(Server(script))
        return f"http://127.0.0.1:{servers[-1].port}"

    yield serve
    for server in servers:
        server.close()
