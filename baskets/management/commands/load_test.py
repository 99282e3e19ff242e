"""`load_test`: sends many buyers of one product through a running service. `domain.maintenance.load_test` prepares the data."""

import json
from argparse import ArgumentParser, ArgumentTypeError
from collections import Counter
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from django.core.management.base import CommandError

from baskets.domain.maintenance import load_test
from baskets.management.arguments import bounded_int
from baskets.management.base import ServiceCommand
from baskets.management.load_client import Measurements, Request, Response, send_all
from baskets.management.progress import progress
from baskets.management.shutdown import graceful_shutdown

TIMEOUT_SECONDS = 30
MAX_BUYERS, MAX_CLIENTS, MAX_PIECES = 100_000, 500, 1_000_000
BAR_WIDTH = 40
PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}


def service_url(text: str) -> str:
    """Accept the URL of a service: http or https, a host, an optional path prefix."""
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.username or parts.query or parts.fragment or not text.isprintable() or " " in text or not text.isascii():
        raise ArgumentTypeError(f"{text[:60]!r} is not an address such as http://127.0.0.1:8000")
    return text


class Command(ServiceCommand):
    """Run a load test."""

    help = (
        "Send many buyers of one product through the service, and prove that its stock adds up. The buyers and the product belong "
        "to a partner that only load tests use. They are removed at the end, even after an error; the next run removes what a "
        "killed run left."
    )
    supports_dry_run = False

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--url", type=service_url, default="http://127.0.0.1:8000", help="The URL of the service (default: %(default)s)."
        )
        parser.add_argument(
            "--buyers",
            type=bounded_int(minimum=1, maximum=MAX_BUYERS),
            default=500,
            help="How many users buy one piece each (default: %(default)s).",
        )
        parser.add_argument(
            "--pieces",
            type=bounded_int(minimum=0, maximum=MAX_PIECES),
            default=300,
            help="The stock of the product (default: %(default)s).",
        )
        parser.add_argument(
            "--clients", type=bounded_int(minimum=1, maximum=MAX_CLIENTS), default=32, help="Calls at once (default: %(default)s)."
        )

    def handle(self, *, url: str, buyers: int, pieces: int, clients: int, **_: Any) -> None:
        """Set up, send the calls, compare the stock with the responses, tear down."""
        setup = load_test.set_up(pieces=pieces)
        try:
            with graceful_shutdown() as stop:
                run = LoadTest(url=url, setup=setup, clients=clients, stop=stop)
                run.send_waves([f"{setup.run}-{number}" for number in range(buyers)])
                stopped = stop()
            balance = load_test.stock_balance()
        finally:
            load_test.tear_down()
        sold = balance.sold - setup.sold_before
        confirmed, failed = run.outcomes["sold"], run.outcomes["failed"]
        # A call whose response was lost may have sold a piece: a shop repeats such a call.
        adds_up = balance.adds_up and confirmed <= sold <= confirmed + failed and sold <= pieces
        self.print_result(
            text=_report(run, balance, sold=sold, adds_up=adds_up),
            buyers=buyers,
            pieces=pieces,
            clients=clients,
            sold=sold,
            refused=run.outcomes["refused"],
            errors=failed,
            reasons=dict(run.reasons),
            calls={
                wave: {
                    "per_second": round(measured.per_second, 1),
                    **{label: round(measured.percentile(share), 1) for label, share in PERCENTILES.items()},
                }
                for wave, measured in run.measured.items()
            },
            stock={name: getattr(balance, name) for name in ("supply", "available", "held", "sold", "shortfall")},
            adds_up=adds_up,
            stopped=stopped,
        )
        if stopped:
            raise CommandError("Stopped on request; the data of the load test are removed.")
        if not adds_up:
            raise CommandError("The stock does not add up.")
        if failed:
            raise CommandError(f"{failed} buyers met an error.")


class LoadTest:
    """Three waves of calls: every user adds a product, starts a checkout, and orders if the checkout has started."""

    def __init__(self, *, url: str, setup: load_test.LoadTestSetup, clients: int, stop: Callable[[], bool]) -> None:
        self.measured: dict[str, Measurements] = {}
        self.outcomes: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self._url, self._setup, self._clients, self._stop = url, setup, clients, stop
        self._key_is_unknown = False

    def send_waves(self, users: list[str]) -> None:
        """Send the waves, one after the other.

        :raises CommandError: the service does not know the key of the load test.
        """
        with_cart = self._send_wave("add", users, f"products/{load_test.PRODUCT}", b'{"count": 1}')
        in_checkout = self._send_wave("start", with_cart, "checkout/sessions", b"{}")
        self.outcomes["sold"] = len(self._send_wave("finish", in_checkout, "checkout/sessions/finish-active", b'{"ordered": true}'))

    def _send_wave(self, name: str, users: list[str], path: str, body: bytes) -> list[str]:
        """Send one call for each user.

        :returns: the users whose call succeeded.
        """
        succeeded: list[str] = []

        def on_response(response: Response) -> None:
            advance(1)
            if response.status == HTTPStatus.OK:
                succeeded.append(response.request.path.split("/")[3])
                return
            self._key_is_unknown |= response.status == HTTPStatus.UNAUTHORIZED
            self.outcomes["refused" if response.status == HTTPStatus.UNPROCESSABLE_ENTITY else "failed"] += 1
            self.reasons[_reason(response)] += 1

        requests = (
            Request(method="POST", path=f"/baskets/users/{user}/{path}", body=body)
            for user in users
            if not (self._stop() or self._key_is_unknown)
        )
        with progress(doing=f"Wave {name}", total=len(users), unit="calls") as advance:
            self.measured[name] = send_all(
                self._url,
                requests,
                clients=min(self._clients, max(1, len(users))),
                headers={"X-API-Key": self._setup.key},
                timeout_seconds=TIMEOUT_SECONDS,
                on_response=on_response,
            )
        if self._key_is_unknown:
            raise CommandError(f"The service at {self._url} does not know the key of this load test: it uses another database.")
        return succeeded


def _reason(response: Response) -> str:
    """Return the `reason` of a refusal, else the status or the type of the error."""
    try:
        return str(json.loads(response.body)["error"]["details"]["reason"])
    except (ValueError, KeyError, TypeError):
        return response.error or str(response.status)


def _report(run: LoadTest, balance: load_test.StockBalance, *, sold: int, adds_up: bool) -> str:
    lines = [f"Sold {sold}, refused {run.outcomes['refused']}, errors {run.outcomes['failed']}."]
    lines += [f"  {count} times {reason}" for reason, count in run.reasons.most_common()]
    for name, measured in run.measured.items():
        times = ", ".join(f"{label} {measured.percentile(share):.1f}" for label, share in PERCENTILES.items())
        lines += ["", f"{name}: {measured.per_second:.0f} a second; ms: {times}", *_histogram(measured)]
    equation = f"{balance.supply} = {balance.available} available + {balance.held} held + {balance.sold} sold - {balance.shortfall} short"
    return "\n".join([*lines, "", f"Stock of all load tests: supply {equation}: {'it adds up' if adds_up else 'IT DOES NOT ADD UP'}."])


def _histogram(measured: Measurements) -> Iterator[str]:
    """Draw the number of calls by duration. Each line covers twice the time of the line above."""
    counts = Counter(max(0, int(seconds * 1000)).bit_length() for seconds in measured.times)
    highest = max(counts.values(), default=0)
    for bits in range(min(counts, default=1), max(counts, default=0) + 1):
        bar = "#" * round(BAR_WIDTH * counts[bits] / highest)
        yield f"  under {1 << bits:>6} ms  {counts[bits]:>7}  {bar}".rstrip()
