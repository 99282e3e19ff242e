"""`rehearse`: a crowd for one product, on the operator's own installation; the stage is in `rehearsals`, the crowd in `crowd`."""

import asyncio
import json
from argparse import ArgumentParser, ArgumentTypeError
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

from django.core.management.base import CommandError

from baskets.domain.maintenance import load_test
from baskets.management.arguments import bounded_int
from baskets.management.base import ServiceCommand
from baskets.management.load_client import Call, Measured, Reply, send
from baskets.management.progress import progress
from baskets.management.shutdown import graceful_shutdown

TIMEOUT_SECONDS = 30
MOST_BUYERS, MOST_CLIENTS, MOST_PIECES = 100_000, 500, 1_000_000
BAR = 40
SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}


def address(text: str) -> str:
    """Accept where a service is: http or https, a host, perhaps a path before its own."""
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.username or parts.query or parts.fragment or not text.isprintable() or " " in text or not text.isascii():
        raise ArgumentTypeError(f"{text[:60]!r} is not an address such as http://127.0.0.1:8000")
    return text


class Command(ServiceCommand):
    """Rehearse a show."""

    help = (
        "Send a crowd of buyers for one product through the service, and prove that its stock adds up. The buyers belong to a "
        "partner of their own, and the product is their own; both are put away at the end, however it comes, or by the next run."
    )
    supports_dry_run = False

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the arguments."""
        super().add_arguments(parser)
        parser.add_argument(
            "--url", type=address, default="http://127.0.0.1:8000", help="Where the service answers (default: %(default)s)."
        )
        parser.add_argument("--buyers", type=bounded_int(minimum=1, maximum=MOST_BUYERS), default=500, help="Who want one piece each.")
        parser.add_argument("--pieces", type=bounded_int(minimum=0, maximum=MOST_PIECES), default=300, help="Of the product.")
        parser.add_argument("--clients", type=bounded_int(minimum=1, maximum=MOST_CLIENTS), default=32, help="Calls at once.")

    def handle(self, *, url: str, buyers: int, pieces: int, clients: int, as_json: bool, **_: Any) -> None:
        """Set up, let the crowd in, count, put away."""
        stage = load_test.set_up(pieces=pieces)
        try:
            with graceful_shutdown() as stop:
                rush = Rush(url=url, stage=stage, clients=clients, stop=stop)
                rush.run([f"{stage.run}-{number}" for number in range(buyers)])
                stopped = stop()
            account = load_test.stock_balance()
        finally:
            load_test.tear_down()
        sold = account.sold - stage.sold_before
        answered = rush.outcomes["sold"]
        # An order whose answer was lost may have been sold all the same: that is what repeating the call is for.
        proven = account.adds_up and answered <= sold <= answered + rush.outcomes["failed"] and sold <= pieces
        self.answer(
            as_json=as_json,
            text=_told(rush, account, sold=sold, proven=proven),
            buyers=buyers,
            pieces=pieces,
            clients=clients,
            sold=sold,
            refused=rush.outcomes["refused"],
            errors=rush.outcomes["failed"],
            reasons=dict(rush.reasons),
            calls={
                name: {"per_second": round(m.per_second, 1), **{n: round(m.percentile(s), 1) for n, s in SHARES.items()}}
                for name, m in rush.measured.items()
            },
            stock={name: getattr(account, name) for name in ("supply", "available", "held", "sold", "shortfall")},
            adds_up=proven,
            stopped=stopped,
        )
        if stopped:
            raise CommandError("Stopped when told to; what was set up has been put away.")
        if not proven:
            raise CommandError("The stock does not add up.")
        if rush.outcomes["failed"]:
            raise CommandError(f"{rush.outcomes['failed']} buyers met an error.")


class Rush:
    """Three waves of calls: all fill their carts, all start a checkout, and who got a piece buys it."""

    def __init__(self, *, url: str, stage: load_test.LoadTestSetup, clients: int, stop: Callable[[], bool]) -> None:
        self.measured: dict[str, Measured] = {}
        self.outcomes: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self._url, self._stage, self._clients, self._stop = url, stage, clients, stop
        self._stranger = False

    def run(self, users: list[str]) -> None:
        """Send the waves, one after the other."""
        with_cart = self._wave("add", users, f"products/{load_test.PRODUCT}", b'{"count": 1}')
        holding = self._wave("start", with_cart, "checkout/sessions", b"{}")
        self.outcomes["sold"] = len(self._wave("finish", holding, "checkout/sessions/finish-active", b'{"ordered": true}'))

    def _wave(self, name: str, users: list[str], path: str, body: bytes) -> list[str]:
        """Send one call for each user, and return those whose call was done."""
        done: list[str] = []

        def heard(reply: Reply) -> None:
            advance(1)
            if reply.status == 200:
                done.append(reply.call.path.split("/")[3])
                return
            self._stranger |= reply.status == 401
            self.outcomes["refused" if reply.status == 422 else "failed"] += 1
            self.reasons[_reason(reply)] += 1

        calls = (Call(method="POST", path=f"/baskets/users/{user}/{path}", body=body) for user in self._until_told(users))
        with progress(doing=f"Wave {name}", total=len(users), unit="calls") as advance:
            self.measured[name] = asyncio.run(
                send(
                    self._url,
                    calls,
                    clients=min(self._clients, max(1, len(users))),
                    headers={"X-API-Key": self._stage.key},
                    timeout_seconds=TIMEOUT_SECONDS,
                    heard=heard,
                )
            )
        if self._stranger:
            raise CommandError(f"The service at {self._url} does not know the key that was just made: it works on another database.")
        return done

    def _until_told(self, users: list[str]) -> Iterator[str]:
        for user in users:
            if self._stop() or self._stranger:
                return
            yield user


def _reason(reply: Reply) -> str:
    """Why a call was not done: the slug of the answer, or what went wrong without one."""
    if reply.status is None:
        return reply.body.decode(errors="replace")
    try:
        return str(json.loads(reply.body)["error"]["details"]["reason"])
    except (ValueError, KeyError, TypeError):
        return str(reply.status)


def _told(rush: Rush, account: load_test.StockBalance, *, sold: int, proven: bool) -> str:
    lines = [f"Sold {sold}, refused {rush.outcomes['refused']}, errors {rush.outcomes['failed']}."]
    lines += [f"  {count} times {reason}" for reason, count in rush.reasons.most_common()]
    for name, measured in rush.measured.items():
        shares = ", ".join(f"{label} {measured.percentile(share):.1f}" for label, share in SHARES.items())
        lines += ["", f"{name}: {measured.per_second:.0f} a second; ms: {shares}", *_histogram(measured)]
    equation = f"{account.supply} = {account.available} available + {account.held} held + {account.sold} sold - {account.shortfall} short"
    return "\n".join([*lines, "", f"Stock of all rehearsals: supply {equation}: {'it adds up' if proven else 'IT DOES NOT ADD UP'}."])


def _histogram(measured: Measured) -> Iterator[str]:
    """Draw how many calls took how long, each line twice the time of the one above."""
    counts = Counter(max(0, int(seconds * 1000)).bit_length() for seconds in measured.times)
    most = max(counts.values(), default=0)
    for bits in range(min(counts, default=1), max(counts, default=0) + 1):
        bar = "#" * round(BAR * counts[bits] / most)
        yield f"  under {1 << bits:>6} ms  {counts[bits]:>7}  {bar}".rstrip()
