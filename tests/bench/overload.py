"""The service under more calls than it can handle: an open loop over 1,000 connections, at multiples of its capacity."""

import http.client
import random
import sys
import time
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

import psycopg

from tests.bench import seeding
from tests.bench.background import Background
from tests.bench.open_loop import OpenLoop, Outcome, TimedRequest, percentile, raw_request
from tests.bench.parts import FINISH, Bench, print_head, print_row
from tests.bench.servers import processor_seconds, service, workers_of

CONNECTIONS = 1000
MULTIPLES = (0.5, 1, 2, 5)
RUN_SECONDS, RECOVERY_SECONDS = 6.0, 6.0
# Of ten calls: two finish a checkout, two start one, six read a basket.
MIX = ("finish", "finish", "start", "start", *["get"] * 6)
CAPACITY_CALLS, CAPACITY_CONNECTIONS = 600, 32
REFUSALS = 4000
NORMAL_SECONDS = 0.25


class Calls:
    """Makes calls. Finishes and starts use each basket once, reads use the first ones again and again."""

    def __init__(self, bench: Bench, netloc: str) -> None:
        self._bench, self._netloc = bench, netloc
        self._random = random.Random(18)
        self._readable = self._fill(1000, checkout=False)

    def _fill(self, number: int, *, checkout: bool) -> list[str]:
        users = self._bench.users(number)
        seeding.fill(self._bench.database_url, partner=self._bench.partner, users=users, items=3, checkout=checkout)
        return users

    def spread(self, number: int, seconds: float, *, start: float = 0, mix: Sequence[str] = MIX) -> list[TimedRequest]:
        """Make calls at random times within some seconds."""
        kinds = [self._random.choice(mix) for _ in range(number)]
        baskets = {
            "finish": iter(self._fill(kinds.count("finish"), checkout=True)),
            "start": iter(self._fill(kinds.count("start"), checkout=False)),
            "get": iter(self._random.choices(self._readable, k=kinds.count("get"))),
        }
        times = sorted(start + self._random.random() * seconds for _ in range(number))
        return [TimedRequest(kind, due, self.call(kind, next(baskets[kind]))) for kind, due in zip(kinds, times, strict=True)]

    def call(self, kind: str, user: str) -> bytes:
        """Render one call."""
        path = f"/baskets/users/{user}"
        match kind:
            case "finish":
                return self._raw("POST", f"{path}/checkout/sessions/finish-active", FINISH)
            case "start":
                return self._raw("POST", f"{path}/checkout/sessions", b"{}")
        return self._raw("GET", path)

    def _raw(self, method: str, path: str, body: bytes = b"") -> bytes:
        return raw_request(method, path, host=self._netloc, key=self._bench.key, body=body)


class Prober(Background):
    """Asks `/readyz` as a balancer does, on a new connection, five times a second. Use it as a context manager."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(seconds=0.2)
        self._address = host, port
        self.seconds: list[float] = []
        self.failed = 0

    def _look(self) -> None:
        began = time.perf_counter()
        connection = http.client.HTTPConnection(*self._address, timeout=5)
        try:
            connection.request("GET", "/readyz")
            self.failed += connection.getresponse().status != 200
        except OSError:
            self.failed += 1
        finally:
            connection.close()
        self.seconds.append(time.perf_counter() - began)


def overload(bench: Bench) -> None:
    """Measure goodput, times and the cost of a refusal beyond the capacity, and the time until the service is normal again."""
    with service() as (url, main):
        address = urlsplit(url)
        host, port = str(address.hostname), int(address.port or 0)
        calls = Calls(bench, address.netloc)
        with OpenLoop(host, port, connections=CAPACITY_CONNECTIONS) as client:
            client.run(calls.spread(500, 0))
            _, cost = _measure_capacity(client, calls, MIX, main)
        print_head(
            f"Overload, {CONNECTIONS} connections, open loop",
            *("Capacity a second", "Offered, of it", "Offered a second", "Answered a second", "Useful time", "finish", "start", "GET"),
            *("p50 ms", "p99 ms", "p99 of a refusal", "No response", "/readyz, longest ms"),
        )
        recovery = 0.0
        for multiple in MULTIPLES:
            # Again before each run: what else the machine does changes within a minute.
            with OpenLoop(host, port, connections=CAPACITY_CONNECTIONS) as client:
                rates = {kind: _measure_capacity(client, calls, (kind,), main)[0] for kind in dict.fromkeys(MIX)}
            capacity = _capacity(rates)
            schedule = calls.spread(int(capacity * multiple * RUN_SECONDS), RUN_SECONDS)
            schedule += calls.spread(int(capacity * 0.5 * RECOVERY_SECONDS), RECOVERY_SECONDS, start=RUN_SECONDS)
            with OpenLoop(host, port, connections=CONNECTIONS) as client, Prober(host, port) as prober:
                outcomes = client.run(schedule)
            _report(multiple, rates, [each for each in outcomes if each.due < RUN_SECONDS], prober)
            recovery = max(recovery, _recovered_after([each for each in outcomes if each.due >= RUN_SECONDS]))
        sys.stdout.write(f"\nNormal again (all answered, within {1000 * NORMAL_SECONDS:.0f} ms) after {recovery:.1f} s at the most\n")
        refusal = _cost_of_refusal(bench, calls, host, port, main)
        sys.stdout.write(f"A refusal costs {refusal * 1e6:.0f} us of the service, {refusal / cost:.1%} of a call\n")


def _measure_capacity(client: OpenLoop, calls: Calls, mix: Sequence[str], main: int) -> tuple[float, float]:
    """Measure the best goodput: as many calls at once as there are connections.

    :returns: calls a second, and the processor seconds of the service for each.
    """
    schedule, workers = calls.spread(CAPACITY_CALLS, 0, mix=mix), workers_of(main)
    used, began = processor_seconds(workers), time.perf_counter()
    outcomes = client.run(schedule, patience_seconds=60)
    elapsed, used = time.perf_counter() - began, processor_seconds(workers) - used
    answered = sum(each.status == 200 for each in outcomes)
    return answered / elapsed, used / answered


def _capacity(rates: dict[str, float]) -> float:
    """Return how many calls of the mix a second are possible."""
    return len(MIX) / sum(1 / rates[kind] for kind in MIX)


def _report(multiple: float, rates: dict[str, float], outcomes: Sequence[Outcome], prober: Prober) -> None:
    accepted = [each for each in outcomes if each.status == 200]
    refused = [each for each in outcomes if each.status == 503]
    # A read is cheaper than a finish, and more finishes are accepted: each counts by the time it takes at the best.
    useful = sum(1 / rates[each.kind] for each in accepted) / RUN_SECONDS
    print_row(
        *(_capacity(rates), multiple, len(outcomes) / RUN_SECONDS, len(accepted) / RUN_SECONDS, f"{useful:.0%}"),
        *(f"{share:.0%}" for share in _shares(outcomes)),
        *(percentile((each.seconds for each in accepted), share) for share in (0.5, 0.99)),
        percentile((each.seconds for each in refused), 0.99),
        sum(each.status is None for each in outcomes),
        f"{1000 * max(prober.seconds):.0f}" + (f", {prober.failed} failed" if prober.failed else ""),
    )


def _shares(outcomes: Sequence[Outcome]) -> Iterator[float]:
    """Yield the answered share of each kind of call."""
    for kind in dict.fromkeys(MIX):
        of_kind = [each.status == 200 for each in outcomes if each.kind == kind]
        yield sum(of_kind) / max(1, len(of_kind))


def _recovered_after(outcomes: Sequence[Outcome]) -> float:
    """Return the seconds after the end of the overload until every later call is answered in time."""
    slow = [each.due for each in outcomes if each.status != 200 or each.seconds > NORMAL_SECONDS]
    return max(slow, default=RUN_SECONDS) - RUN_SECONDS


def _cost_of_refusal(bench: Bench, calls: Calls, host: str, port: int, main: int) -> float:
    """Measure the processor seconds of the service for a refusal, while every thread waits for a lock and the queue is full."""
    workers = workers_of(main)
    with OpenLoop(host, port, connections=CONNECTIONS) as client, psycopg.connect(bench.database_url) as blocker:
        blocker.execute("LOCK TABLE baskets_basket IN ACCESS EXCLUSIVE MODE")
        # The calls that fill threads and queue are answered late; the bench does not wait for them.
        client.run([TimedRequest("get", 0, calls.call("get", "bench-absent")) for _ in range(700)], patience_seconds=0.2)
        used = processor_seconds(workers)
        schedule = [TimedRequest("get", 0, calls.call("get", "bench-absent")) for _ in range(REFUSALS)]
        outcomes = client.run(schedule, patience_seconds=0.5)
        spent = processor_seconds(workers) - used
    return spent / max(1, sum(each.status == 503 for each in outcomes))
