"""A partner's back end that calls the demo with cells, and the users whose baskets are in a cell."""

import contextlib
import http.client
import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest

from basket_project.launcher.cluster import free_port, port_is_free
from baskets.domain.cells.slot_division import divide
from baskets.domain.slots import slot_of

PRODUCT = "demo-mug"


@dataclass
class Client:
    """A partner's back end behind the proxy.

    :param keep_alive: whether each thread keeps its connection, which is then always one to the proxy.
    """

    port: int
    key: str
    keep_alive: bool = False
    calls: int = 0
    _kept: threading.local = field(default_factory=threading.local)

    def call(
        self, method: str, path: str, body: Any = None, *, cell: int = 0, port: int = 0, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        """Make a call.

        :param cell: call at the host name of this cell.
        :param port: another port than the proxy's.
        :param headers: more headers.
        """
        self.calls += 1
        host = f"cell{cell}.localhost" if cell else "localhost"
        headers = {"X-API-Key": self.key, "Content-Type": "application/json", "Host": host, **(headers or {})}
        body = None if body is None else json.dumps(body)
        with self._connection(port or self.port) as connection:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read())

    @contextlib.contextmanager
    def _connection(self, port: int) -> Iterator[http.client.HTTPConnection]:
        """Yield a connection; with `keep_alive` that of the thread, unless the last call on it failed."""
        connection: http.client.HTTPConnection = getattr(self._kept, "connection", None) or http.client.HTTPConnection(
            "127.0.0.1", port, timeout=30
        )
        self._kept.connection = None
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        if self.keep_alive:
            self._kept.connection = connection
        else:
            connection.close()

    def buy(self, user: str) -> str | None:
        """Buy one piece; return the order number, or None if the service did not answer as it does."""
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
            if self.call("POST", f"/baskets/users/{user}/products/{PRODUCT}", {"count": 1})[0] != 200:
                return None
            status, started = self.call("POST", f"/baskets/users/{user}/checkout/sessions")
            if status != 200:
                return None
            order_no = str(started["data"]["orderNo"])
            body = {"ordered": True, "orderNo": order_no}
            if self.call("POST", f"/baskets/users/{user}/checkout/sessions/finish-active", body)[0] == 200:
                return order_no
        return None


def users_of(cell: int, *, cells: int, name: str = "buyer") -> Iterator[str]:
    """Generate user ids of a cell."""
    division = divide(cells)
    return (user for user in (f"{name}-{number}" for number in count(1)) if division[slot_of(user)] == cell)


def free_ports(count: int) -> int:
    """Return the first of several free ports in a row."""
    for _ in range(50):
        first = free_port()
        if all(port_is_free(first + number) for number in range(count)):
            return first
    pytest.fail("there are no free ports")
