"""The end of a process server and the replacement of its workers, seen from its callers: none loses a response.

The server is the real one, with an application that echoes requests, so a worker starts within a moment.
"""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from basket_project.launcher.cluster import free_port
from basket_project.launcher.processes import group_members, terminate_group
from tests.threads import beside
from tests.waiting import eventually

PROJECT = Path(__file__).parents[2]
# A worker fails to start while a file exists, named by the third argument.
SCRIPT = """
import pathlib, sys, time
from basket_project.http_server.limits import Limits
from basket_project.http_server.supervisor import Supervisor, report_ready
from basket_project.http_server.worker import Worker
from tests.fuzz.echo import EchoPolicy, echo

port, delay, broken = int(sys.argv[1]), float(sys.argv[2]), pathlib.Path(sys.argv[3])

class Policy(EchoPolicy):
    ending = False

    def immediate_response(self, head):
        return (503, [], b"") if head.path == "/now" and self.ending else super().immediate_response(head)

    def announce_end(self):
        self.ending = True

def serve(listener, ready, supervisor):
    if broken.exists():
        raise RuntimeError
    time.sleep(0.1)
    limits = Limits(headers={}, idle_seconds=30, body_seconds=3, drain_seconds=0.5)
    Worker(listener, echo, Policy(), threads=2, limits=limits).run(on_ready=lambda: report_ready(ready), supervisor=supervisor)

service = Supervisor(host="127.0.0.1", port=port, workers=2, serve=serve, on_end=lambda _: None, delay_seconds=delay)
sys.exit(service.run(lifeline=0))
"""


class Server:
    """A running process server."""

    def __init__(self, folder: Path, *, delay_seconds: float) -> None:
        self.port = free_port()
        self.broken = folder / "broken"
        command = [sys.executable, "-c", SCRIPT, str(self.port), str(delay_seconds), str(self.broken)]
        self.process = subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0, text=True)
        self.log: list[str] = []
        self._connections: list[http.client.HTTPConnection] = []
        self._reader = threading.Thread(target=self._read_log)
        self._reader.start()

    def _read_log(self) -> None:
        assert self.process.stdout
        self.log.extend(iter(self.process.stdout.readline, ""))

    def logged(self, event: str) -> int:
        return sum(event in line for line in self.log)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def workers(self) -> set[int]:
        return set(group_members(self.process.pid)) - {self.process.pid}

    def connect(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.connect()
        self._connections.append(connection)
        return connection

    def close(self) -> None:
        for connection in self._connections:
            connection.close()
        terminate_group(self.process.pid, grace_seconds=10)
        with self.process:  # Closes the pipes, and waits.
            self._reader.join()


@pytest.fixture
def server(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    started = Server(tmp_path, delay_seconds=getattr(request, "param", 0))
    try:
        assert eventually(lambda: started.logged("worker_started") == 2)
        yield started
    finally:
        started.close()


def call(connection: http.client.HTTPConnection, path: str = "/a") -> tuple[int, bool]:
    """Send one request; returns the status, and whether the connection stays open."""
    connection.request("GET", path)
    response = connection.getresponse()
    response.read()
    return response.status, not response.will_close


@contextlib.contextmanager
def callers(server: Server, *, number: int = 6) -> Iterator[Counter[str]]:
    """Call without a pause, on kept connections and on new ones; yields the numbers of outcomes."""
    outcomes, ended = Counter[str](), threading.Event()

    def run(*, keep: bool) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        while not ended.is_set():
            try:
                outcomes[str(call(connection, "/slow")[0])] += 1
            except (OSError, http.client.HTTPException) as error:
                outcomes[type(error).__name__] += 1
                connection.close()
            if not keep:
                connection.close()
        connection.close()

    with beside(*(partial(run, keep=bool(place % 2)) for place in range(number)), stop=ended.set):
        yield outcomes


def test_no_call_fails_while_workers_are_replaced_twice(server: Server) -> None:
    """The second SIGHUP comes in the middle of the first replacement, and begins again."""
    before = server.workers()
    with callers(server) as outcomes:
        time.sleep(0.2)
        server.signal(signal.SIGHUP)
        assert eventually(lambda: server.logged("worker_started") >= 3)
        server.signal(signal.SIGHUP)
        assert eventually(lambda: server.logged("worker_started") >= 5)
        assert eventually(lambda: not before & server.workers())
        time.sleep(0.2)
    assert set(outcomes) == {"200"}
    assert outcomes["200"] > 50


def test_a_kept_connection_survives_a_replacement_and_is_closed_politely(server: Server) -> None:
    """It may be idle for as long as ever, and its next response says that it is the last one."""
    connections = [server.connect() for _ in range(8)]
    assert {call(connection) for connection in connections} == {(200, True)}
    server.signal(signal.SIGHUP)
    assert eventually(lambda: server.logged("worker_started") == 4)
    time.sleep(1)  # Longer than an end by SIGTERM would wait.
    assert {call(connection) for connection in connections} == {(200, False)}
    assert eventually(lambda: len(server.workers()) == 2)


def test_workers_stay_while_their_successors_fail_to_start(server: Server) -> None:
    before = server.workers()
    server.broken.touch()
    with callers(server) as outcomes:
        server.signal(signal.SIGHUP)
        assert eventually(lambda: server.logged("workers_not_replaced") == 1)
        time.sleep(1.5)  # Longer than the pause before a failed worker is started again.
    assert set(outcomes) == {"200"}
    assert server.workers() == before
    server.broken.unlink()
    server.signal(signal.SIGHUP)
    assert eventually(lambda: server.logged("worker_started") == 4)
    assert eventually(lambda: not before & server.workers())


def test_a_worker_that_dies_beside_its_retired_predecessor_is_replaced(server: Server) -> None:
    connections = [server.connect() for _ in range(8)]
    assert {call(connection) for connection in connections} == {(200, True)}
    former = server.workers()
    server.signal(signal.SIGHUP)
    assert eventually(lambda: server.logged("worker_started") == 4)
    for worker in server.workers() - former:
        os.kill(worker, signal.SIGKILL)
    assert eventually(lambda: server.logged("worker_started") == 6)
    assert {call(connection) for connection in connections} == {(200, False)}
    assert call(server.connect()) == (200, True)


def test_new_callers_do_not_wait_for_the_successor_of_a_worker_that_died(server: Server) -> None:
    server.broken.touch()
    os.kill(min(server.workers()), signal.SIGKILL)
    assert eventually(lambda: server.logged("worker_failed"))  # Its successor.
    assert {call(server.connect()) for _ in range(32)} == {(200, True)}
    server.broken.unlink()
    assert eventually(lambda: server.logged("worker_started") == 3)


def test_a_slow_caller_is_answered_although_its_worker_ends(server: Server) -> None:
    """A body that began before SIGTERM is read to its end; a request that was sent in that moment is answered."""
    with socket.create_connection(("127.0.0.1", server.port)) as slow:
        kept = server.connect()
        slow.sendall(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab")
        kept.request("GET", "/slow")
        server.signal(signal.SIGTERM)
        assert kept.getresponse().status == 200
        time.sleep(0.7)  # Longer than idle connections are kept then.
        slow.sendall(b"cd")
        assert slow.makefile("rb").readline() == b"HTTP/1.1 200 OK\r\n"
    assert server.process.wait(60) == 0


def test_a_body_that_never_comes_does_not_hold_up_the_end(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as slow:
        slow.sendall(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        assert slow.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        slow.sendall(b"ab")
        server.signal(signal.SIGTERM)
        assert slow.makefile("rb").readline().startswith(b"HTTP/1.1 400")
    assert server.process.wait(60) == 0


def is_ready(server: Server) -> bool:
    return call(server.connect(), "/now")[0] == 200


@pytest.mark.parametrize("server", [60], indirect=True)
def test_readiness_fails_before_the_end_while_calls_are_served(server: Server) -> None:
    with callers(server, number=4) as outcomes:
        assert is_ready(server)
        server.signal(signal.SIGTERM)
        assert eventually(lambda: not any(is_ready(server) for _ in range(8)))
        server.signal(signal.SIGHUP)  # Too late: nothing is replaced.
        assert call(server.connect()) == (200, True)
        time.sleep(0.5)
        assert not is_ready(server)
    assert set(outcomes) == {"200"}
    assert server.process.poll() is None
    server.signal(signal.SIGINT)  # The second signal ends the delay.
    assert server.process.wait(60) == 0
    assert server.logged("worker_started") == 2


@pytest.mark.parametrize("server", [1], indirect=True)
def test_the_delay_ends(server: Server) -> None:
    began = time.monotonic()
    server.signal(signal.SIGINT)
    assert server.process.wait(60) == 0
    assert time.monotonic() - began >= 1
