"""The listening sockets of the workers: which of them get new connections."""

import contextlib
import socket
import sys
from collections.abc import Iterator

import pytest

from basket_project.http_server import listeners
from basket_project.http_server.listeners import Listeners
from basket_project.launcher.cluster import free_port

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the workers accept from one socket")


@pytest.fixture
def opened() -> Iterator[Listeners]:
    opened = Listeners("127.0.0.1", free_port(), 4)
    for each in opened.sockets:
        each.setblocking(False)
    yield opened
    for each in opened.sockets:
        each.close()


def accepted(opened: Listeners, *, clients: int = 200) -> list[int]:
    """Connect; returns how many connections each socket got."""
    numbers = []
    with contextlib.ExitStack() as stack:
        for _ in range(clients):
            stack.enter_context(socket.create_connection(opened.sockets[0].getsockname(), timeout=5))
        for each in opened.sockets:
            numbers.append(0)
            with contextlib.suppress(BlockingIOError):
                while True:
                    each.accept()[0].close()
                    numbers[-1] += 1
    return numbers


@pytest.mark.parametrize("places", [[0, 1, 2, 3], [2], [0, 3], [1, 2, 3]])
def test_only_the_chosen_sockets_get_connections_and_each_its_share(places: list[int], opened: Listeners) -> None:
    opened.choose(places)
    numbers = accepted(opened)
    assert sum(numbers) == 200
    assert {place for place, number in enumerate(numbers) if number} == set(places)
    assert min(numbers[place] for place in places) > 200 / len(places) / 3  # Five standard deviations below its share.


def test_all_sockets_get_connections_again(opened: Listeners) -> None:
    opened.choose([1])
    opened.choose([])
    assert min(accepted(opened)) > 20


def test_a_kernel_without_the_filter_gives_connections_to_all(opened: Listeners, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listeners, "_SO_ATTACH_REUSEPORT_CBPF", 9999)
    opened.choose([1])
    assert min(accepted(opened)) > 20
