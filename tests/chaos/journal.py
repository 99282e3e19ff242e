"""Clients that call the service during faults, each for separate users, and record the basket that each user must have."""

import contextlib
import http.client
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.harness import PRODUCTS, Harness

TIMEOUT_SECONDS = 60
EMPTY_LISTS: dict[str, Any] = {"cart": [], "saved": [], "checkout": []}


class BrokenGuarantee(AssertionError):
    """The stored basket contradicts the responses of the service."""


@dataclass
class ChaosClient:
    """Calls for one user after the other.

    `known` maps each user to the expected lists of the basket, `orders` maps order numbers to user and status."""

    harness: Harness
    number: int
    rng: random.Random
    calls: Counter[str] = field(default_factory=Counter)
    known: dict[str, dict[str, Any]] = field(default_factory=dict)
    orders: dict[str, tuple[str, str]] = field(default_factory=dict)
    keys: int = 0

    def run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            user = f"app-{self.number}-{len(self.known)}"
            self.known[user] = EMPTY_LISTS
            self._shop(user, stop)

    def _shop(self, user: str, stop: threading.Event) -> None:
        """Add products, start a checkout and finish it, once or twice."""
        for _ in range(self.rng.randint(1, 2)):
            for product in self.rng.sample(PRODUCTS, self.rng.randint(1, 3)):
                count = self.rng.randint(1, 3)
                self._do(user, "POST", f"/products/{product}", {"count": count}, _placed(product, count))
            if stop.is_set():
                return
            order_no = self._do(user, "POST", "/checkout/sessions", None, _started)
            if not self.known[user]["checkout"]:
                return  # All products were out of stock.
            if self.rng.random() < 0.2:
                return  # The user leaves, and the hold stays.
            ordered = self.rng.random() < 0.6
            self._do(user, "POST", "/checkout/sessions/finish-active", {"ordered": ordered}, _finished(ordered=ordered))
            if self.known[user]["checkout"]:
                return  # The checkout is known to be unfinished.
            if order_no:
                self.orders[order_no] = user, "ORDERED" if ordered else "ABORTED"

    def _do(self, user: str, method: str, path: str, body: Any, is_done: Callable[[dict[str, Any], dict[str, Any]], bool]) -> str | None:
        """Repeat a call until its effect is known, and check that it is complete or absent.

        :returns: the order number in the response, if there is one."""
        self.keys += 1
        key = f"{self.number}-{self.keys}"
        before = self.known[user]
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while True:
            status, answer = self.call(method, user, path, body, key=key)
            if status == 200:
                data = answer["data"]
                after = _lists(data.get("basket", data))
                self.calls["acknowledged"] += 1
                if not is_done(before, after):
                    raise BrokenGuarantee(f"{user} {path}: {before} became {after}")
                self.known[user] = after
                return data.get("orderNo")
            if status in (404, 422, 423):
                if _lists(answer.get("data", before)) != before or status != 422:
                    raise BrokenGuarantee(f"{user} {path}: {before} was refused with {answer}")
                self.calls["refused"] += 1
                return None
            if time.monotonic() > deadline:
                raise BrokenGuarantee(f"{user} {path}: no answer for {TIMEOUT_SECONDS} s")
            if self.rng.random() < 0.5:
                continue  # Repeat with the same key: the call has its effect once, whether or not the first one succeeded.
            seen = self.read_lists(user)
            self.calls["unacknowledged"] += 1
            if seen != before and not is_done(before, seen):
                raise BrokenGuarantee(f"{user} {path}: {before} became {seen}, which is neither before nor after")
            self.calls["unacknowledged but done"] += seen != before
            self.known[user] = seen
            return None

    def read_lists(self, user: str) -> dict[str, Any]:
        """Read the lists of the basket, retrying until there is a response.

        The first response must be final: no earlier call may take effect later."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            # A call that is still running holds the basket's lock; this call writes nothing and waits for the lock.
            status, answer = self.call("PATCH", user, f"/products/{PRODUCTS[0]}", {"count": None})
            if status in (200, 404):
                status, answer = self.call("GET", user, "", None)
                if status == 200:
                    return _lists(answer["data"])
        raise BrokenGuarantee(f"{user}: no answer for {TIMEOUT_SECONDS} s")

    def call(self, method: str, user: str, path: str, body: Any, *, key: str | None = None) -> tuple[int, Any]:
        """Send one request and wait 50 ms after a 503 or a lost response.

        :returns: the status and the body; status 0 without a response."""
        headers = {"X-API-Key": self.harness.key, "Content-Type": "application/json"} | ({"Idempotency-Key": key} if key else {})
        caller = http.client.HTTPConnection("127.0.0.1", self.harness.port, timeout=20)
        with contextlib.closing(caller):
            try:
                caller.request(method, f"/baskets/users/{user}{path}", json.dumps(body) if body is not None else None, headers)
                response = caller.getresponse()
                status, answer = response.status, json.loads(response.read())
            except (OSError, http.client.HTTPException, ValueError):
                status, answer = 0, None
        self.calls["calls"] += 1
        if status == 503:
            self.calls["answered 503"] += 1
            if response.headers["Retry-After"] is None:
                raise BrokenGuarantee(f"503 without Retry-After: {answer}")
        elif status == 0:
            self.calls["unanswered"] += 1
        elif status not in (200, 404, 422, 423):
            raise BrokenGuarantee(f"{method} {path} was answered {status}: {answer}")
        if status in (0, 503):
            time.sleep(0.05)
        return status, answer


def _lists(basket: dict[str, Any]) -> dict[str, Any]:
    return {name: basket[name] for name in ("cart", "saved", "checkout")}


def _counts(items: list[dict[str, Any]]) -> dict[str, int]:
    return {item["productId"]: item["count"] for item in items}


def _placed(product: str, count: int) -> Callable[[dict[str, Any], dict[str, Any]], bool]:
    def is_done(before: dict[str, Any], after: dict[str, Any]) -> bool:
        return after["checkout"] == before["checkout"] and _counts(after["cart"]) == _counts(before["cart"]) | {product: count}

    return is_done


def _started(before: dict[str, Any], after: dict[str, Any]) -> bool:
    return after["cart"] == [] and _counts(after["checkout"]) == _counts(before["cart"]) and before["checkout"] == []


def _finished(*, ordered: bool) -> Callable[[dict[str, Any], dict[str, Any]], bool]:
    def is_done(before: dict[str, Any], after: dict[str, Any]) -> bool:
        back = [item for item in before["checkout"] if not ordered or (item["stocked"] or 0) < 0]
        return after["checkout"] == [] and Counter(_counts(after["cart"])) == Counter(_counts(before["cart"])) + Counter(_counts(back))

    return is_done
