"""Fixtures of the launcher's tests."""

import signal
import socket
from collections.abc import Iterator

import pytest

from basket_project.launcher.failure import STOP_SIGNALS


@pytest.fixture(autouse=True)
def stop_signals_restored() -> Iterator[None]:
    """Restore what the launcher changes in this process: programs that later tests start would ignore the signals that end them."""
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def listening_port() -> Iterator[int]:
    """Return a port of the loopback interface with a listener."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]
