"""The process server: a worker that is killed is replaced, however often."""

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.db import connection

from basket_project.launcher.cluster import free_port
from basket_project.launcher.processes import end_group, group_members

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def server(port: int, transactional_db: None) -> "Iterator[subprocess.Popen[bytes]]":
    """A process server with two workers, on the database of the test."""
    settings = connection.settings_dict
    variables = os.environ | {
        "DATABASE_URL": f"postgres://{settings['USER']}:{settings['PASSWORD']}@{settings['HOST']}:{settings['PORT']}/{settings['NAME']}"
    }
    command = [sys.executable, "-m", "basket_project.server", "--port", str(port), "--workers", "2", "--threads", "1"]
    with subprocess.Popen(
        command, cwd=PROJECT, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, process_group=0
    ) as process:
        yield process
        end_group(process.pid, grace_seconds=15)


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 60
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def answers(port: int) -> bool:
    caller = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    with contextlib.closing(caller), contextlib.suppress(OSError, http.client.HTTPException):
        caller.request("GET", "/livez")
        return caller.getresponse().status == 200
    return False


def test_workers_are_replaced_however_often_they_are_killed(server: "subprocess.Popen[bytes]", port: int) -> None:
    """Both at once, again and again, sooner than a failing worker would be given up."""
    assert eventually(lambda: answers(port))
    killed: set[int] = set()
    for _ in range(3):
        assert eventually(lambda: len(workers(server) - killed) == 2)
        for worker in workers(server) - killed:
            os.kill(worker, signal.SIGKILL)
            killed.add(worker)
    assert eventually(lambda: len(workers(server) - killed) == 2)
    assert eventually(lambda: answers(port))
    assert server.poll() is None


def workers(server: "subprocess.Popen[bytes]") -> set[int]:
    return set(group_members(server.pid)) - {server.pid}
