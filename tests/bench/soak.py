"""A soak: a steady mix of all the work of the service for an hour or more, and each minute what it has used and how long calls took."""

import contextlib
import http.client
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, urlsplit

from django.conf import settings
from django.contrib.auth import get_user_model
from django.test import Client

from basket_project.launcher.cluster import free_port
from baskets.domain.actors import Actor
from baskets.domain.events import webhook_endpoints
from baskets.domain.stock.supply import set_unsold
from tests.bench.open_loop import OpenLoop, Outcome, TimedRequest, percentile, raw_request
from tests.bench.parts import ABORT, FINISH, Bench, print_head, print_row
from tests.bench.servers import service, workers_of
from tests.bench.soak_samples import Lags, Sampler, print_growth

ACTOR = Actor.system("bench")
CONNECTIONS = 50
USERS = 20_000
# A visit makes 6.2 calls on average; holds end within the run, so that sweeps and reclaims have work.
VISITS_PER_MINUTE, HOLD_SECONDS = 390, 60
SCARCE, SCARCE_PIECES, SCARCE_SHARE = "bench-0", 30, 0.15
MINUTE = 60.0
TOKEN = "soak"
VARIABLES = {"BASKETS_HOLD_SECONDS": str(HOLD_SECONDS), "BASKETS_INTERNAL_ADDRESSES": "true", "BASKETS_METRICS_TOKEN": TOKEN}
DESK_PAGES = (
    "",
    "baskets/attention/work/",
    "baskets/basket/",
    "baskets/checkoutsession/",
    "baskets/product/bench-0/change/",
    "search/?q=soak-7",
)


class Visits:
    """Makes the calls of buyers: products placed, a look, a start; then an order, an abort, or nothing until the hold ends."""

    def __init__(self, key: str, netloc: str) -> None:
        self._key, self._netloc = key, netloc
        self._random = random.Random(18)
        self._keys = count()
        self._later: deque[TimedRequest] = deque()

    def minute(self, number: int) -> list[TimedRequest]:
        """Make the calls of one minute, by seconds from its beginning; later calls of its visits come with the next minutes."""
        calls = list(self._later)
        for _ in range(VISITS_PER_MINUTE):
            calls += self._visit(number * MINUTE + self._random.random() * MINUTE)
        calls.sort(key=lambda call: call.due)
        end = (number + 1) * MINUTE
        self._later = deque(call for call in calls if call.due >= end)
        return [TimedRequest(call.kind, call.due - number * MINUTE, call.raw) for call in calls if call.due < end]

    def _visit(self, at: float) -> Iterator[TimedRequest]:
        draw = self._random.random
        path = f"/baskets/users/soak-{self._random.randrange(USERS)}"
        products = [f"bench-{self._random.randrange(1, 1000)}" for _ in range(self._random.randint(1, 3))]
        if draw() < SCARCE_SHARE:
            products[0] = SCARCE
        for product in products:
            yield self._call("add", at, "POST", f"{path}/products/{product}", b'{"count": 1}')
            at += 1 + draw()
        yield self._call("get", at, "GET", path)
        yield self._call("start", at + 2, "POST", f"{path}/checkout/sessions", b"{}")
        yield self._call("get", at + 3, "GET", path)
        choice = draw()
        if choice < 0.6:
            yield self._call("finish", at + 5 + 40 * draw(), "POST", f"{path}/checkout/sessions/finish-active", FINISH)
        elif choice < 0.75:
            yield self._call("abort", at + 5 + 40 * draw(), "POST", f"{path}/checkout/sessions/finish-active", ABORT)
        elif choice < 0.8:
            yield self._call("late", at + HOLD_SECONDS + 10 + 20 * draw(), "POST", f"{path}/checkout/sessions/finish-active", FINISH)
        yield self._call("get", at + HOLD_SECONDS * draw(), "GET", path)

    def _call(self, kind: str, due: float, method: str, path: str, body: bytes = b"") -> TimedRequest:
        idempotency = f"soak-{next(self._keys)}" if body else ""
        return TimedRequest(kind, due, raw_request(method, path, host=self._netloc, key=self._key, body=body, idempotency=idempotency))


class Beside:
    """Reads the feed with `wait`, and pages of the admin every few seconds, in threads. Use it as a context manager."""

    def __init__(self, netloc: str, key: str) -> None:
        self._netloc, self._key = netloc, key
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._follow_feed, self._visit_desk)]
        self.counts: Counter[str] = Counter()
        self.desk_seconds: list[float] = []
        client = Client()
        client.force_login(get_user_model().objects.create_superuser("soak"))
        self._cookie = f"{settings.SESSION_COOKIE_NAME}={client.cookies[settings.SESSION_COOKIE_NAME].value}"

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(40)

    def _get(self, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self._netloc, timeout=60)
        with contextlib.closing(connection):
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            return response.status, response.read()

    def _follow_feed(self) -> None:
        token = ""
        while not self._ended.is_set():
            status, body = self._get(f"/baskets/events?limit=200&wait=20{token}", {"X-API-Key": self._key})
            self.counts[f"feed {status}"] += 1
            answer = json.loads(body)
            if status != 200:
                self._ended.wait(1)
                continue
            self.counts["feed events"] += len(answer["data"])
            token = f"&nextToken={quote(answer['nextToken'])}"

    def _visit_desk(self) -> None:
        for number in count():
            if self._ended.wait(10):
                return
            began = time.perf_counter()
            status, _ = self._get(f"/admin/{DESK_PAGES[number % len(DESK_PAGES)]}", {"Cookie": self._cookie})
            self.counts[f"desk {status}"] += 1
            self.desk_seconds.append(time.perf_counter() - began)


@contextlib.contextmanager
def _program(*arguments: str) -> Iterator[int]:
    """Run a program of this project beside the service; yield its process id."""
    with subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield process.pid
        finally:
            process.terminate()


def soak(bench: Bench) -> None:
    """Run the mix for `--minutes`, print one row a minute, and then what has grown."""
    os.environ.update(VARIABLES)
    settings.BASKETS_INTERNAL_ADDRESSES = True
    # The names of all statements whose plans are compared.
    import_module("basket_project.wsgi")
    hook_port = free_port()
    webhook_endpoints.create_webhook(partner_name="bench", url=f"http://127.0.0.1:{hook_port}/hook", from_the_beginning=True, actor=ACTOR)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_program("-m", "tests.bench.receiver", str(hook_port), "5"))
        url, main = stack.enter_context(service())
        programs = {
            "main process": [main],
            "workers": workers_of(main),
            "scheduler": [stack.enter_context(_program("manage.py", "run_scheduler"))],
            "deliverer": [stack.enter_context(_program("manage.py", "deliver_webhooks"))],
        }
        sampler = Sampler(bench.database_url, programs, url, TOKEN)
        lags, beside = stack.enter_context(Lags(bench.database_url)), stack.enter_context(Beside(urlsplit(url).netloc, bench.key))
        _run_minutes(bench, url, sampler, lags, beside)
    print_growth(sampler.samples)


def _run_minutes(bench: Bench, url: str, sampler: Sampler, lags: Lags, beside: Beside) -> None:
    address = urlsplit(url)
    visits, statuses = Visits(bench.key, address.netloc), Counter[str]()
    record = Path(bench.record).open("a") if bench.record else None  # noqa: SIM115 (closed by the stack below)
    with contextlib.ExitStack() as stack:
        if record:
            stack.enter_context(record)
        client = stack.enter_context(OpenLoop(str(address.hostname), int(address.port or 0), connections=CONNECTIONS))
        print_head("Soak", "Minute", "Calls", "5xx or none", "p50 ms", "p99 ms", *sampler.heads, "Longest lapse s", "Desk, longest ms")
        for number in range(bench.minutes):
            began = time.monotonic()
            set_unsold(reports={SCARCE: SCARCE_PIECES}, as_of=None, reason="soak", actor=ACTOR)
            outcomes = client.run(visits.minute(number), patience_seconds=15)
            time.sleep(max(0.0, began + MINUTE - time.monotonic()))
            statuses.update(f"{each.kind} {each.status}" for each in outcomes)
            values = _summary(outcomes) | {"longest_lapse": lags.take(), "desk_ms": 1000 * max(beside.desk_seconds or [0.0])}
            beside.desk_seconds.clear()
            sample = sampler.take(values | {"minute": number + 1, "statuses": dict(statuses), "beside": dict(beside.counts)})
            print_row(
                *(number + 1, len(outcomes), values["failed"], values["p50"], values["p99"]),
                *sampler.figures(sample),
                *(values["longest_lapse"], values["desk_ms"]),
            )
            if record:
                record.write(json.dumps(sample) + "\n")
                record.flush()
    sys.stdout.write("\n" + ", ".join(f"{name}: {number}" for name, number in sorted((statuses + beside.counts).items())) + "\n")


def _summary(outcomes: list[Outcome]) -> dict[str, Any]:
    seconds = [each.seconds for each in outcomes]
    failed = sum(each.status is None or each.status >= 500 for each in outcomes)
    return {"calls": len(outcomes), "failed": failed, "p50": percentile(seconds, 0.5), "p99": percentile(seconds, 0.99)}
