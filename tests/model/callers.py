"""Two ways to call the service that the machines compare with the model: the domain itself, and HTTP."""

import json
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from baskets.domain import checkout, errors
from baskets.models.contents import Contents, Line, Owner, read_contents
from tests.domain.worlds import User
from tests.model.state import Key, Refused


@dataclass(frozen=True)
class Started:
    """What a start tells."""

    order_no: str
    price: int | None
    shown: Any


def shown(contents: Contents | None) -> Any:
    """The lists as the model shows them; None where the user has no basket."""
    if contents is None or not contents.present:
        return None

    def pairs(lines: tuple[Line, ...]) -> list[tuple[str, int]]:
        return [(line.product_id, line.count) for line in lines]

    return {
        "cart": pairs(contents.cart),
        "saved": pairs(contents.saved),
        "checkout": [(line.product_id, line.count, line.stocked) for line in contents.checkout],
    }


def as_refused(refusal: errors.Refusal) -> Refused:
    """A refusal as the model words it."""
    match refusal:
        case errors.OutOfStock(missing=missing):
            return Refused(refusal.reason, sorted((item.product_id, item.wanted, item.available) for item in missing))
        case errors.CheckoutActive(active=active):
            return Refused(refusal.reason, active.order_no)
        case errors.NoActiveCheckout(last=last):
            return Refused(refusal.reason, (last.order_no, last.status) if last else None)
    return Refused(refusal.reason)


@dataclass
class Domain:
    """Calls the functions of the domain, as the API does."""

    partners: list[int]

    def user(self, key: Key) -> User:
        return User(Owner(partner_id=self.partners[key[0]], user_id=key[1]))

    def basket(self, key: Key) -> Any:
        return shown(read_contents(self.user(key).owner.basket_id))

    def place(self, key: Key, product: str, count: int) -> Any:
        if count == -1:
            return self.remove(key, product)
        return self._done(lambda: self.user(key).place(product, count))

    def change(self, key: Key, product: str, count: int | None) -> Any:
        if count == -1:
            return self.remove(key, product)
        return self._done(lambda: self.user(key).change(product, count))

    def remove(self, key: Key, product: str) -> Any:
        return self._done(lambda: self.user(key).remove(product))

    def delete(self, key: Key) -> Any:
        return self._done(lambda: self.user(key).delete())

    def start(self, key: Key, *, test: bool) -> Started:
        try:
            done: checkout.StartedSession = self.user(key).start(test_mode=test)
        except errors.Refusal as refusal:
            raise as_refused(refusal) from refusal
        return Started(done.session.order_no, done.session.full_price, shown(done.contents))

    def finish(self, key: Key, *, ordered: bool, order_no: str | None) -> Any:
        return self._done(lambda: self.user(key).finish(ordered, order_no))

    @staticmethod
    def _done(call: Callable[[], Contents]) -> Any:
        try:
            return shown(call())
        except errors.Refusal as refusal:
            raise as_refused(refusal) from refusal


# method, path, body, headers -> status, headers, body
Send = Callable[[str, str, bytes, Mapping[str, str]], tuple[int, Mapping[str, str], bytes]]


@dataclass
class Http:
    """Calls the API, each write with an Idempotency-Key and, where it was done, once more: to be answered to the byte."""

    send: Send
    keys: list[str]

    def basket(self, key: Key) -> Any:
        return self._basket(self._call("GET", key, ""))

    def place(self, key: Key, product: str, count: int) -> Any:
        return self._basket(self._call("POST", key, f"/products/{product}", {"count": count}))

    def change(self, key: Key, product: str, count: int | None) -> Any:
        return self._basket(self._call("PATCH", key, f"/products/{product}", {"count": count}))

    def remove(self, key: Key, product: str) -> Any:
        return self._basket(self._call("DELETE", key, f"/products/{product}"))

    def delete(self, key: Key) -> Any:
        return self._basket(self._call("DELETE", key, ""))

    def start(self, key: Key, *, test: bool) -> Started:
        told = self._call("POST", key, f"/checkout/sessions?testMode={str(test).lower()}")
        return Started(told["orderNo"], told["fullPrice"], self._basket(told["basket"]))

    def finish(self, key: Key, *, ordered: bool, order_no: str | None) -> Any:
        body = {"ordered": ordered, "orderNo": order_no}
        return self._basket(self._call("POST", key, "/checkout/sessions/finish-active", body))

    def _call(self, method: str, key: Key, path: str, body: Any = None) -> Any:
        data = b"" if body is None else json.dumps(body).encode()
        headers = {"X-API-Key": self.keys[key[0]], "Content-Type": "application/json", "Idempotency-Key": secrets.token_hex(8)}
        address = f"/v2/baskets/users/{key[1]}{path}"
        status, told, raw = self.send(method, address, data, headers)
        answer = json.loads(raw)
        if status != 200:
            raise self._refused(status, answer)
        if method != "GET":
            again = self.send(method, address, data, headers)
            assert (again[0], again[2], again[1].get("Idempotency-Replayed")) == (200, raw, "true")
            assert "Idempotency-Replayed" not in told
        return answer["data"]

    def _refused(self, status: int, answer: Any) -> Refused:
        error = answer["error"]
        details = error["details"]
        reason = details["reason"]
        assert status < 500, answer
        known: Any = None
        with suppress(KeyError):
            if reason == "out_of_stock":
                known = sorted((item["productId"], item["wanted"], item["available"]) for item in details["items"])
            elif reason == "checkout_active":
                known = details["activeCheckout"]["orderNo"]
            elif reason == "no_active_checkout":
                known = (details["lastCheckout"]["orderNo"], details["lastCheckout"]["status"])
        refused = Refused(reason, known)
        refused.told = self._basket(answer["data"]) if "data" in answer else ...
        return refused

    @staticmethod
    def _basket(told: Any) -> Any:
        if "expires" not in told:
            assert told == {"cart": [], "saved": [], "checkout": []}
            return None
        return {
            "cart": [(item["productId"], item["count"]) for item in told["cart"]],
            "saved": [(item["productId"], item["count"]) for item in told["saved"]],
            "checkout": [(item["productId"], item["count"], item["stocked"]) for item in told["checkout"]],
        }
