"""Callers who do everything at once: each answer belongs to its request, whatever the others do, and no thread of the server is lost."""

import contextlib
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.fuzz.echo import LARGE_BYTES
from tests.fuzz.echoing import echoing
from tests.fuzz.wire import RawConnection, exchange, request

SECONDS = 6


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with echoing(seconds=5) as port:
        yield port


def named(name: str, rng: random.Random) -> bytes:
    """Write a request with its name in the query, for one of the ways a call can take through the server."""
    body = b"b" * rng.choice([0, 0, 5, 3000, 60_000])
    return request(
        "POST",
        f"{rng.choice(['/a', '/a', '/a', '/slow', '/probe', '/now'])}?{name}",
        "Content-Length: 0" if not body else "X-A: a",
        body=body,
    )


def ask(line: RawConnection, requests: list[bytes], rng: random.Random) -> None:
    """Send requests in pieces that end anywhere."""
    for raw in requests:
        cut = rng.randrange(len(raw))
        line.send(raw[:cut])
        if rng.random() < 0.2:
            time.sleep(rng.random() * 0.003)
        line.send(raw[cut:])


def pipeline(port: int, seed: int, until: float) -> Counter[str]:
    """Ask for many things before reading the first answer, on a kept connection."""
    rng, seen = random.Random(seed), Counter[str]()
    with RawConnection(port) as line:
        while time.monotonic() < until:
            names = [f"{seed}-{seen.total()}-{number}" for number in range(rng.randint(1, 12))]
            sending = threading.Thread(target=ask, args=(line, [named(name, rng) for name in names], random.Random(seed)))
            sending.start()
            for name in names:
                reply = line.reply()
                seen["right" if reply.status == 200 and reply.body[2] == name else f"wrong: {reply.status}"] += 1
            sending.join()
    return seen


def hang_up(port: int, seed: int, until: float) -> Counter[str]:
    """Go away in any phase, by FIN or by RST, with answers unread or half read."""
    rng = random.Random(seed)
    while time.monotonic() < until:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as caller:
            requests = b"".join(named("gone", rng) for _ in range(rng.randint(1, 4)))
            caller.sendall(rng.choice([requests, requests[: rng.randrange(len(requests))], request("GET", "/large") * 2]))
            if rng.random() < 0.5:
                caller.recv(rng.choice([1, 100, 100_000]))
            if rng.random() < 0.3:
                caller.shutdown(socket.SHUT_WR)
            if rng.random() < 0.5:
                caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            time.sleep(rng.choice([0, 0, 0.001, 0.01, 0.03]))
    return Counter()


def read_slowly(port: int, seed: int, until: float) -> Counter[str]:
    """Read answers that are larger than every buffer, later than they are sent."""
    rng, seen = random.Random(seed), Counter[str]()
    with RawConnection(port) as line:
        while time.monotonic() < until:
            name = f"{seed}-{seen.total()}"
            line.send(request("GET", f"/large?{name}") + named(f"{name}-next", rng))
            time.sleep(rng.random() * 0.05)
            large, following = line.reply(), line.reply()
            right = large.body[2] == name and len(large.raw) > LARGE_BYTES and following.body[2] == f"{name}-next"
            seen["right" if right else "wrong"] += 1
    return seen


def test_concurrent_responses_belong_to_their_requests(port: int) -> None:
    kinds: list[Callable[[int, int, float], Counter[str]]] = [*[pipeline] * 8, *[hang_up] * 6, *[read_slowly] * 2]
    until = time.monotonic() + SECONDS
    with ThreadPoolExecutor(len(kinds)) as callers:
        seen = sum((each.result() for each in [callers.submit(kind, port, seed, until) for seed, kind in enumerate(kinds)]), Counter[str]())
    assert set(seen) == {"right"}
    assert seen["right"] > 500


def test_failing_response_body_leaks_no_thread(port: int) -> None:
    """More failures than threads."""
    for _ in range(10):
        with RawConnection(port) as line:
            line.send(request("GET", "/broken") + request("GET", "/a?next"))
            assert line.reply().raw == b"internal_error"
            assert line.reply().body[2] == "next"


def test_reset_connection_does_not_affect_others(port: int) -> None:
    """The reset arrives while a thread has the call; the thread's answer reaches no other connection."""
    for number in range(100):
        with socket.create_connection(("127.0.0.1", port)) as caller:
            caller.sendall(request("GET", f"/slow?reset-{number}"))
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert exchange(port, request("GET", f"/a?{number}")).body[2] == str(number)


def test_pipelining_client_is_read_no_faster_than_it_is_answered(port: int) -> None:
    """What the server has not answered stays at the caller, but for the buffers of both."""
    flood = memoryview(request("GET", "/now") * 2_000_000)
    with socket.create_connection(("127.0.0.1", port)) as caller:
        caller.settimeout(0.5)
        sent = 0
        until = time.monotonic() + 2
        with contextlib.suppress(TimeoutError):
            while sent < len(flood) and time.monotonic() < until:
                sent += caller.send(flood[sent : sent + 1_000_000])
        assert sent < 40_000_000
