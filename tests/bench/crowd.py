"""A crowd at one product: many users press start within two seconds for few pieces. And other ways to count, on the same machine.

The users come in an open loop, each on a separate connection. Who is refused under overload tries again after `Retry-After`. The ways to
count are compared below the service, as SQL: a counter, as the service has; a row for each piece with SKIP LOCKED; slots of a counter.
"""

import bisect
import random
import resource
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http import HTTPStatus
from itertools import count
from operator import attrgetter
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import psycopg

from baskets.domain import runner
from baskets.domain.actors import Actor
from baskets.domain.stock import supply
from tests.bench import seeding
from tests.bench.open_loop import OpenLoop, Outcome, TimedRequest, percentile, raw_request
from tests.bench.parts import Bench, measure_service, print_head, print_row
from tests.bench.servers import service

USERS, PIECES, SECONDS = 5000, 500, 2.0
# Spare descriptors, and a time in which each of them has a response.
DESCRIPTORS, PATIENCE_SECONDS = 200, 120
HOT = "bench-0"
HELD = "SELECT coalesce(sum(pieces), 0) FROM baskets_stockreservation WHERE product_id = %s AND status = 'HELD'"
SLOTS, CONNECTIONS = 16, 8


class Persistent(OpenLoop):
    """Users who try again when they are refused under overload, after the 1 to 5 s that the service asks for.

    The duration of an outcome is from the first press to the final response.
    """

    def __init__(self, host: str, port: int, *, connections: int) -> None:
        super().__init__(host, port, connections=connections)
        self.refused = 0
        self._pressed: dict[bytes, float] = {}
        self._random = random.Random(20)

    def _end(self, connection: Any, status: int | None) -> None:
        request: TimedRequest = connection.request
        super()._end(connection, status)
        outcome = self._outcomes.pop()
        pressed = self._pressed.setdefault(request.raw, request.due)
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            self.refused += 1
            again = replace(request, due=self._now() + self._random.uniform(1, 5))
            bisect.insort(self._waiting, again, key=attrgetter("due"))
        else:
            self._outcomes.append(replace(outcome, due=pressed, seconds=self._now() - pressed))


def crowd(bench: Bench) -> None:
    """Let 5,000 users start a checkout of one product with 500 pieces within 2 seconds."""
    number, pieces = (USERS, PIECES) if bench.baskets >= 1000 else (USERS // 10, PIECES // 10)
    _raise_descriptor_limit(number + DESCRIPTORS)
    with psycopg.connect(bench.database_url, autocommit=True) as asking, service() as (url, _):
        measure_service(bench, url, "start", clients=8, number=200)
        (held,) = asking.execute(HELD, [HOT]).fetchone() or (0,)
        _report(held + pieces)
        users = bench.users(number)
        seeding.fill(bench.database_url, partner=bench.partner, users=users, items=1, hot=True, checkout=False)
        parts = urlsplit(url)
        raws = [
            raw_request("POST", f"/baskets/users/{user}/checkout/sessions", host=parts.netloc, key=bench.key, body=b"{}") for user in users
        ]
        chance = random.Random(5)
        dues = sorted(chance.random() * SECONDS for _ in raws)
        with Persistent(parts.hostname or "", parts.port or 0, connections=number) as loop:
            outcomes = loop.run(
                [TimedRequest("start", due, raw) for due, raw in zip(dues, raws, strict=True)], patience_seconds=PATIENCE_SECONDS
            )
        (sold,) = asking.execute(HELD, [HOT]).fetchone() or (0,)
        _report(seeding.SUPPLY)
    won, lost = ([outcome for outcome in outcomes if outcome.status == status] for status in (200, 422))
    print_head(
        f"A crowd: {number} users press start within {SECONDS:.0f} s for {pieces} pieces",
        *("Won", "Pieces held", "Sold out after, s", "Winners p50 ms", "p99 ms"),
        *("Lost", "Losers p50 ms", "p99 ms", "Refused as overloaded", "Lost answers"),
    )
    others = len(outcomes) - len(won) - len(lost)
    last = max((outcome.due + outcome.seconds for outcome in won), default=0.0)
    print_row(len(won), sold - held, last, *_percentiles(won), len(lost), *_percentiles(lost), loop.refused, others)
    if (len(won), sold - held) != (pieces, pieces):
        raise SystemExit(f"{len(won)} users won and {sold - held} pieces are held; there were {pieces}")
    _compare(bench.database_url, number, pieces)


def _percentiles(outcomes: Sequence[Outcome]) -> tuple[float, float]:
    return percentile((outcome.seconds for outcome in outcomes), 0.5), percentile((outcome.seconds for outcome in outcomes), 0.99)


def _report(pieces: int) -> None:
    runner.run(lambda: supply.set_unsold(reports={HOT: pieces}, as_of=None, reason="crowd", actor=Actor.system("bench")))


def _raise_descriptor_limit(needed: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(needed, 1024), hard), hard))


# --- Ways to count ---------------------------------------------------------------


class Shape(NamedTuple):
    """A way to count pieces. Each try is one statement that takes a piece and records who has it, and one durable commit.

    :param take: its parameter is the number of the user.
    :param left: counts what was not sold.
    """

    name: str
    schema: str
    take: str
    left: str


SHAPES = (
    Shape(
        "one counter, as the service has",
        "CREATE TABLE crowd.counter (available int CHECK (available >= 0)); INSERT INTO crowd.counter VALUES ({pieces})",
        "WITH taken AS (UPDATE crowd.counter SET available = available - 1 WHERE available > 0 RETURNING 1)"
        " INSERT INTO crowd.hold SELECT %s FROM taken RETURNING 1",
        "SELECT available FROM crowd.counter",
    ),
    Shape(
        "a row for each piece, SKIP LOCKED",
        "CREATE TABLE crowd.piece (id int PRIMARY KEY); INSERT INTO crowd.piece SELECT generate_series(1, {pieces})",
        "WITH free AS (SELECT id FROM crowd.piece ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED),"
        " taken AS (DELETE FROM crowd.piece USING free WHERE free.id = crowd.piece.id RETURNING 1)"
        " INSERT INTO crowd.hold SELECT %s FROM taken RETURNING 1",
        "SELECT count(*) FROM crowd.piece",
    ),
    Shape(
        f"{SLOTS} slots of a counter, SKIP LOCKED",
        "CREATE TABLE crowd.slot (id int PRIMARY KEY, available int CHECK (available >= 0));"
        " INSERT INTO crowd.slot SELECT g, {pieces} / {slots} + (g <= {pieces} % {slots})::int FROM generate_series(1, {slots}) g",
        "WITH free AS (SELECT id FROM crowd.slot WHERE available > 0 ORDER BY random() LIMIT 1 FOR UPDATE SKIP LOCKED),"
        " taken AS (UPDATE crowd.slot SET available = available - 1 FROM free WHERE free.id = crowd.slot.id RETURNING 1)"
        " INSERT INTO crowd.hold SELECT %s FROM taken RETURNING 1",
        "SELECT sum(available) FROM crowd.slot",
    ),
)


def _compare(database_url: str, number: int, pieces: int) -> None:
    """Let as many users take the pieces in each way, over a few connections without a pause."""
    print_head(
        f"Ways to count, below the service: {number} tries for {pieces} pieces over {CONNECTIONS} connections",
        *("Way", "Sold", "Left", "Sold out after, s", "Winners p50 ms", "p99 ms"),
        *("Losers p50 ms", "p99 ms", "Lost before the last was sold"),
    )
    for shape in SHAPES:
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute(
                "DROP SCHEMA IF EXISTS crowd CASCADE; CREATE SCHEMA crowd; CREATE TABLE crowd.hold (user_number int PRIMARY KEY)"
            )
            connection.execute(shape.schema.format(pieces=pieces, slots=SLOTS))
            connection.execute("CHECKPOINT")
            won, lost = _run_shape(database_url, shape, number)
            (sold,), (left,) = (connection.execute(sql).fetchone() or (0,) for sql in ("SELECT count(*) FROM crowd.hold", shape.left))
            connection.execute("DROP SCHEMA crowd CASCADE")
        end = max(done for done, _ in won)
        early = sum(done < end for done, _ in lost)
        times = [percentile((seconds for _, seconds in tries), share) for tries in (won, lost) for share in (0.5, 0.99)]
        print_row(shape.name, sold, left, end, *times, early)
        if sold != len(won) or sold > pieces:
            raise SystemExit(f"{shape.name}: {len(won)} users won, {sold} pieces are sold of {pieces}")


Tries = list[tuple[float, float]]


def _run_shape(database_url: str, shape: Shape, number: int) -> tuple[Tries, Tries]:
    """Try as often as there are users.

    :returns: who won and who lost, each with the time of the end since the start, and the duration.
    """
    tickets, barrier = count(), threading.Barrier(CONNECTIONS)

    def buy(_: int) -> tuple[Tries, Tries]:
        won: Tries = []
        lost: Tries = []
        with psycopg.connect(database_url, autocommit=True, prepare_threshold=0) as connection:
            barrier.wait()
            started = time.perf_counter()
            while (user := next(tickets)) < number:
                began = time.perf_counter()
                row = connection.execute(shape.take, [user]).fetchone()
                ended = time.perf_counter()
                (won if row else lost).append((ended - started, ended - began))
        return won, lost

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        results = list(pool.map(buy, range(CONNECTIONS)))
    return [one for won, _ in results for one in won], [one for _, lost in results for one in lost]
