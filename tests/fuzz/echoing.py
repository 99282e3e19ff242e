"""Starts the echo server for a test."""

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from basket_project.launcher.cluster import free_port
from tests.fuzz.wire import exchange, request

START_SECONDS = 60


@contextlib.contextmanager
def echoing(*, seconds: float) -> Iterator[int]:
    """Run the echo server, and yield its port; at the end it still answers, and ends without an error.

    :param seconds: how long heads, bodies and the next request may take.
    """
    port = free_port()
    command = [sys.executable, "-m", "tests.fuzz.echo", str(port), str(seconds)]
    server = subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.DEVNULL)
    try:
        wait_until_it_answers(port)
        yield port
        assert exchange(port, request("GET", "/last")).status == 200
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(START_SECONDS) == 0


def wait_until_it_answers(port: int) -> None:
    """Wait for the first answer."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if exchange(port, request("GET", "/first")).status == 200:
                return
        time.sleep(0.05)
    pytest.fail("the echo server does not answer")
