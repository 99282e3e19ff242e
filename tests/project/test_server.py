"""The process server: callers are dealt out to all workers, and a worker that is killed or stopped is replaced, however often."""

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
from pathlib import Path

import pytest
from django.db import connection

from basket_project.launcher.cluster import free_port
from basket_project.launcher.processes import group_members, terminate_group
from baskets.domain.access.api_keys import issue_api_key
from tests.factories import TESTER, PartnerFactory
from tests.threads import beside
from tests.waiting import eventually

PROJECT = Path(__file__).parents[2]


# In one process of the parallel run, because the tests share a server.
pytestmark = [pytest.mark.xdist_group("server"), pytest.mark.django_db(transaction=True)]


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def server(port: int, django_db_setup: None) -> Iterator["subprocess.Popen[bytes]"]:
    """A process server with two workers, on the database of the tests. The last test ends it."""
    settings = connection.settings_dict
    variables = os.environ | {
        "DATABASE_URL": f"postgres://{settings['USER']}:{settings['PASSWORD']}@{settings['HOST']}:{settings['PORT']}/{settings['NAME']}"
    }
    command = [sys.executable, "-m", "basket_project.server", "--port", str(port), "--workers", "2", "--threads", "1"]
    with subprocess.Popen(
        command, cwd=PROJECT, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, process_group=0
    ) as process:
        yield process
        terminate_group(process.pid, grace_seconds=15)


@pytest.fixture
def unused_port() -> int:
    return free_port()


def answers(port: int, path: str = "/livez") -> bool:
    caller = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(caller), contextlib.suppress(OSError, http.client.HTTPException):
        caller.request("GET", path)
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


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has one socket for each worker")
def test_a_stopped_worker_is_replaced(server: "subprocess.Popen[bytes]", port: int) -> None:
    """New callers wait for the replacement at most, and are all answered."""
    assert eventually(lambda: all_listen(port))
    for _ in range(2):
        stopped = min(workers(server))
        os.kill(stopped, signal.SIGSTOP)
        time.sleep(0.2)  # What it has accepted in the instant of its stop is lost with it.
        assert all(answers(port) for _ in range(20))
        assert eventually(lambda was=stopped: was not in workers(server) and len(workers(server)) == 2)
    assert server.poll() is None


def test_a_moment_s_stop_of_everything_changes_nothing(server: "subprocess.Popen[bytes]", port: int) -> None:
    assert eventually(lambda: all_listen(port))
    before = workers(server)
    os.killpg(server.pid, signal.SIGSTOP)
    time.sleep(1.5)
    os.killpg(server.pid, signal.SIGCONT)
    time.sleep(1.5)
    assert workers(server) == before
    assert answers(port)


def test_an_unusable_port_gives_a_sentence(unused_port: int) -> None:
    with socket.create_server(("127.0.0.1", unused_port)):
        for given in (str(unused_port), "0", "65536"):
            command = [sys.executable, "-m", "basket_project.server", "--port", given]
            ended = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False, timeout=60)
            assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (1, "", 1)
            assert given in ended.stderr


@pytest.mark.parametrize("option", ["--workers", "--threads"])
def test_a_server_without_workers_or_threads_does_not_start(option: str, unused_port: int) -> None:
    command = [sys.executable, "-m", "basket_project.server", "--port", str(unused_port), option, "0"]
    ended = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=30, check=False)
    assert (ended.returncode, ended.stderr) == (1, "At least one worker and one thread are needed.\n")


DYING = """
import os, signal, sys
from basket_project.http_server.supervisor import Supervisor

def serve(*_):
    os.write(1, b"started\\n")
    os.kill(os.getpid(), signal.SIGKILL)

Supervisor(host="127.0.0.1", port=int(sys.argv[1]), workers=1, serve=serve, on_end=lambda _: None).run(lifeline=0)
"""


def test_a_worker_that_is_killed_before_it_is_ready_is_tried_again_slowly(unused_port: int) -> None:
    command = [sys.executable, "-c", DYING, str(unused_port)]
    with subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        began = time.monotonic()
        starts = 0
        while starts < 3:
            starts += process.stdout.readline() == "started\n"
        assert time.monotonic() - began > 1.9
        process.stdin.close()
        assert process.wait(60) == 0


PLACED = """
import os, sys
from basket_project.http_server.supervisor import Supervisor, report_ready
from basket_project.logs import logging_config

def serve(listener, ready, supervisor):
    placed = [os.sched_getscheduler(0), *sorted(os.sched_getaffinity(0))]
    os.write(1, (" ".join(map(str, placed)) + "\\n").encode())
    report_ready(ready)
    os.read(supervisor, 1)

logging_config(debug=False)  # To the standard error output.
workers = int(sys.argv[2])
Supervisor(host="127.0.0.1", port=int(sys.argv[1]), workers=workers, serve=serve, on_end=lambda _: None).run(lifeline=0)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems bind no process to a processor")
def test_each_worker_has_a_processor_if_there_are_as_many(unused_port: int) -> None:
    processors = sorted(os.sched_getaffinity(0))
    each = [[os.SCHED_BATCH, processor] for processor in processors]
    assert places_of_workers(unused_port, len(processors)) == (each, each)
    unbound = [[os.SCHED_OTHER, *processors]] * (len(processors) + 1)
    assert places_of_workers(unused_port, len(unbound)) == (unbound, unbound)


REFUSE_POLICIES = """
import errno, os

def refuse(*_):
    raise OSError(errno.{error}, "")

os.sched_setscheduler = refuse
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems bind no process to a processor")
@pytest.mark.parametrize("error", ["EPERM", "EINVAL"])
def test_a_worker_runs_where_the_policy_is_refused(unused_port: int, error: str) -> None:
    """The kernel of gVisor knows one policy, and says EINVAL to all others."""
    processors = sorted(os.sched_getaffinity(0))
    each = [[os.SCHED_OTHER, processor] for processor in processors]
    assert places_of_workers(unused_port, len(processors), before=REFUSE_POLICIES.format(error=error)) == (each, each)


def places_of_workers(port: int, number: int, *, before: str = "") -> tuple[list[list[int]], list[list[int]]]:
    """Start so many workers, and let SIGHUP replace them.

    :param before: the program begins with it.
    :returns: of each worker the scheduling policy and the processors on which it may run, then those of its successor.
    """
    command = [sys.executable, "-c", before + PLACED, str(port), str(number)]
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=PROJECT, text=True, **streams) as process:
        assert process.stdin
        assert process.stdout
        lines = process.stdout

        def read() -> list[list[int]]:
            return sorted([int(each) for each in lines.readline().split()] for _ in range(number))

        first = read()
        process.send_signal(signal.SIGHUP)
        second = read()
        process.stdin.close()
        assert process.wait(60) == 0
    return first, second


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the workers accept from one socket")
def test_callers_are_dealt_out_to_all_workers(server: "subprocess.Popen[bytes]", port: int) -> None:
    """Of 64 callers that stay, each of two workers has more than a few. A worker that starts has none."""
    assert eventually(lambda: fewest_connections(server, port) > 10)


def fewest_connections(server: "subprocess.Popen[bytes]", port: int) -> int:
    """Of 64 callers that connect now, how many the worker with the fewest has."""
    callers = [http.client.HTTPConnection("127.0.0.1", port, timeout=5) for _ in range(64)]
    try:
        for caller in callers:
            caller.connect()
        assert eventually(lambda: sum(connections(worker, port) for worker in workers(server)) == 64)
        return min(connections(worker, port) for worker in workers(server))
    finally:
        for caller in callers:
            caller.close()


def test_a_flood_of_probes_leaves_each_an_answer(server: "subprocess.Popen[bytes]", port: int) -> None:
    """64 callers at once, for longer than a check of the database is good for, once each worker has loaded the migrations."""
    assert eventually(lambda: all_listen(port))
    assert eventually(lambda: all(answers(port, "/readyz") for _ in range(16)))
    callers = [http.client.HTTPConnection("127.0.0.1", port, timeout=30) for _ in range(64)]
    statuses: Counter[int] = Counter()
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        for caller in callers:
            caller.request("GET", "/readyz")
        for caller in callers:
            response = caller.getresponse()
            response.read()
            statuses[response.status] += 1
    for caller in callers:
        caller.close()
    assert set(statuses) == {200}


def test_no_call_fails_while_the_program_is_replaced(server: "subprocess.Popen[bytes]", port: int) -> None:
    """Each new worker is a new program, and not a fork of the main process."""
    _, key = issue_api_key(partner_name=PartnerFactory().name, kind="server", label="", actor=TESTER)
    assert eventually(lambda: all_listen(port))
    former, outcomes, ended = workers(server), Counter[str](), threading.Event()

    def call() -> None:
        caller = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        while not ended.wait(0.02):
            try:
                caller.request("GET", "/baskets/users/ada", headers={"X-API-Key": key})
                response = caller.getresponse()
                response.read()
                outcomes[str(response.status)] += 1
            except (OSError, http.client.HTTPException) as error:
                outcomes[repr(error)] += 1
                caller.close()
        caller.close()

    with beside(*[call] * 4, stop=ended.set):
        os.kill(server.pid, signal.SIGHUP)
        assert eventually(lambda: not former & workers(server))
    assert set(outcomes) == {"200"}
    if sys.platform == "linux":
        assert all(b"--worker" in Path(f"/proc/{worker}/cmdline").read_bytes() for worker in workers(server))


def test_new_callers_are_refused_while_the_service_ends(server: "subprocess.Popen[bytes]", port: int) -> None:
    """They do not wait at the socket of a worker that has ended, because another one has not."""
    _, key = issue_api_key(partner_name=PartnerFactory().name, kind="server", label="", actor=TESTER)
    assert eventually(lambda: all_listen(port))
    with socket.create_connection(("127.0.0.1", port)) as slow:
        # A call whose body does not come keeps its worker.
        slow.sendall(f"POST /baskets/users/ada/products/p HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: {key}\r\n".encode())
        slow.sendall(b"Content-Type: application/json\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n")
        assert slow.recv(100).startswith(b"HTTP/1.1 100 ")
        os.kill(server.pid, signal.SIGTERM)
        assert eventually(lambda: is_refused(port))
        assert all(is_refused(port) for _ in range(16))
        assert server.poll() is None


def is_refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


ESTABLISHED, LISTENING = "01", "0A"


def sockets_of(port: int, state: str) -> set[str]:
    """The numbers of all sockets of a port that are in a state, on Linux."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {fields[9] for fields in lines if fields[1].endswith(f":{port:04X}") and fields[3] == state}


def all_listen(port: int) -> bool:
    """Whether both workers are ready; where there is no /proc, whether one is."""
    return answers(port) and (sys.platform != "linux" or len(sockets_of(port, LISTENING)) == 2)


def connections(worker: int, port: int) -> int:
    """How many connections of a port a process has."""
    established, there = sockets_of(port, ESTABLISHED), 0
    for descriptor in Path(f"/proc/{worker}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            there += descriptor.readlink().name.removeprefix("socket:[").removesuffix("]") in established
    return there


def workers(server: "subprocess.Popen[bytes]") -> set[int]:
    return set(group_members(server.pid)) - {server.pid}
