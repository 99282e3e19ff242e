"""Two ways to call the service that the machines compare with the model: the domain itself, and HTTP."""

import json
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from baskets.domain import comfort, errors, runner
from baskets.domain.baskets import guests, transfers
from baskets.models.basket_snapshot import BasketLine, Owner, ShownBasket, read_basket
from tests.conftest import APP
from tests.domain.order_twins import order_twins
from tests.domain.scenarios import User
from tests.domain.start_twins import start_twins
from tests.model_based.state import Key, Refused
from tests.tokens import KeyPair

if TYPE_CHECKING:
    from baskets.domain.checkout.session_rows import StartedSession


@dataclass(frozen=True)
class Started:
    """What a start tells."""

    order_no: str
    price: int | None
    shown: Any


def shown(snapshot: ShownBasket | None) -> Any:
    """The lists as the model shows them; None where the user has no basket."""
    if snapshot is None or not snapshot.is_open:
        return None

    def pairs(lines: tuple[BasketLine, ...]) -> list[tuple[str, int]]:
        return [(line.product_id, line.count) for line in lines]

    return {
        "cart": pairs(snapshot.cart),
        "saved": pairs(snapshot.saved),
        "checkout": [(line.product_id, line.count, line.stocked) for line in snapshot.checkout],
    }


def as_refused(refusal: errors.Refusal) -> Refused:
    """A refusal as the model words it."""
    match refusal:
        case errors.OutOfStock(shortages=shortages):
            return Refused(refusal.reason, sorted((item.product_id, item.wanted, item.available) for item in shortages))
        case errors.CheckoutActive(active=active):
            return Refused(refusal.reason, active.order_no)
        case errors.NoActiveCheckout(last=last):
            return Refused(refusal.reason, (last.order_no, last.status) if last else None)
    return Refused(refusal.reason)


# The user ids that the service has drawn, by what the model calls them.
Names = dict[Key, str]


@dataclass
class Domain:
    """Calls the functions of the domain, as the API does."""

    partners: list[int]
    names: Names = field(default_factory=dict)

    def user(self, key: Key) -> User:
        return User(Owner(partner_id=self.partners[key[0]], user_id=self.names.get(key, key[1])))

    def basket(self, key: Key) -> Any:
        return shown(read_basket(self.user(key).owner.basket_id))

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
        user = self.user(key)
        if not test:
            start_twins(owner=user.owner, actor=APP).alike()
        try:
            done: StartedSession = user.start(test_mode=test)
        except errors.Refusal as refusal:
            raise as_refused(refusal) from refusal
        return Started(done.session.order_no, done.session.full_price, shown(done.snapshot))

    def finish(self, key: Key, *, ordered: bool, order_no: str | None) -> Any:
        user = self.user(key)
        if ordered:
            order_twins(owner=user.owner, order_no=order_no, actor=APP).alike()
        return self._done(lambda: user.finish(ordered, order_no))

    def create_guest(self, key: Key, counts: Mapping[str, int]) -> Any:
        owner = guests.new_guest(partner_id=self.partners[key[0]])
        self.names[key] = owner.user_id
        return self._done(lambda: runner.run(guests.create_guest_basket, owner=owner, counts=counts, actor=APP))

    def offer(self, key: Key) -> str:
        owner = self.user(key).owner
        return self._answered(lambda: runner.run(transfers.offer_transfer, owner=owner, actor=APP).token)

    def take_over(self, partner: int, token: str) -> tuple[str, Any]:
        try:
            taken = runner.run(transfers.redeem_transfer, partner_id=self.partners[partner], token=token, actor=APP)
        except transfers.TransferNotFound as unknown:
            raise Refused("transfer_unknown") from unknown
        return taken.owner.user_id, shown(taken.snapshot)

    def change_comfort(self, key: Key, values: Mapping[comfort.ComfortField, str | None], *, consent: bool | None) -> Any:
        owner = self.user(key).owner
        self._answered(lambda: runner.run(comfort.change_comfort, owner=owner, values=values, consent=consent))
        return self.basket(key)

    @staticmethod
    def _answered(call: Callable[[], Any]) -> Any:
        try:
            return call()
        except errors.Refusal as refusal:
            raise as_refused(refusal) from refusal

    def _done(self, call: Callable[[], ShownBasket]) -> Any:
        return self._answered(lambda: shown(call()))


# method, path, body, headers -> status, headers, body
Send = Callable[[str, str, bytes, Mapping[str, str]], tuple[int, Mapping[str, str], bytes]]


@dataclass
class Http:
    """Calls the API, each write with an Idempotency-Key and, where it was done, once more: to be answered to the byte."""

    send: Send
    keys: list[str]
    login: KeyPair
    names: Names = field(default_factory=dict)

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
        basket_shown = self._call("POST", key, f"/checkout/sessions?testMode={str(test).lower()}")
        return Started(basket_shown["orderNo"], basket_shown["fullPrice"], self._basket(basket_shown["basket"]))

    def finish(self, key: Key, *, ordered: bool, order_no: str | None) -> Any:
        body = {"ordered": ordered, "orderNo": order_no}
        return self._basket(self._call("POST", key, "/checkout/sessions/finish-active", body))

    def create_guest(self, key: Key, counts: Mapping[str, int]) -> Any:
        body = {"products": [{"productId": product, "count": count} for product, count in counts.items()]}
        made = self._sent("POST", "/v2/baskets/guests", body, partner=key[0])
        self.names[key] = made["userId"]
        return self._basket(made["basket"])

    def offer(self, key: Key) -> str:
        return str(self._sent("POST", self._address(key, "/transfer"), None, partner=key[0])["jayToken"])

    def take_over(self, partner: int, token: str) -> tuple[str, Any]:
        taken = self._sent("POST", f"/v2/baskets/guests?jayToken={token}", None, partner=partner)
        return taken["userId"], self._basket(taken["basket"])

    def change_comfort(self, key: Key, values: Mapping[comfort.ComfortField, str | None], *, consent: bool | None) -> Any:
        words = {"customer_id": "customerId", "payment_token": "paymentToken"}
        body = {words[name]: value for name, value in values.items()} | {"consent": consent}
        return self._basket(self._call("PATCH", key, "/comfort", body))

    def _address(self, key: Key, path: str) -> str:
        return f"/v2/baskets/users/{self.names.get(key, key[1])}{path}"

    def _call(self, method: str, key: Key, path: str, body: Any = None) -> Any:
        more = {"Idempotency-Key": secrets.token_hex(8)}
        if path == "/comfort":
            claims = {"sub": self.names.get(key, key[1]), "exp": int(time.time()) + 3600}
            more["Authorization"] = f"Bearer {self.login.sign(claims)}"
        return self._sent(method, self._address(key, path), body, partner=key[0], more=more)

    def _sent(self, method: str, address: str, body: Any, *, partner: int, more: Mapping[str, str] | None = None) -> Any:
        """Send a call; where it was done under an Idempotency-Key, send it again."""
        data = b"" if body is None else json.dumps(body).encode()
        headers = {"X-API-Key": self.keys[partner], "Content-Type": "application/json", **(more or {})}
        status, response_headers, raw = self.send(method, address, data, headers)
        answer = json.loads(raw)
        if status != 200:
            raise self._refused(status, answer)
        if method != "GET" and more:
            again = self.send(method, address, data, headers)
            assert (again[0], again[2], again[1].get("Idempotency-Replayed")) == (200, raw, "true")
            assert "Idempotency-Replayed" not in response_headers
        return answer["data"]

    def _refused(self, status: int, answer: Any) -> Refused:
        error = answer["error"]
        details = error["details"]
        reason = details["reason"]
        assert status < 500, answer
        if reason == "validation_failed" and details["fields"].keys() == {"jayToken"}:
            reason = "transfer_unknown"
        known: Any = None
        with suppress(KeyError):
            if reason == "out_of_stock":
                known = sorted((item["productId"], item["wanted"], item["available"]) for item in details["items"])
            elif reason == "checkout_active":
                known = details["activeCheckout"]["orderNo"]
            elif reason == "no_active_checkout":
                known = (details["lastCheckout"]["orderNo"], details["lastCheckout"]["status"])
        refused = Refused(reason, known)
        refused.basket_shown = self._basket(answer["data"]) if "data" in answer else ...
        return refused

    @staticmethod
    def _basket(basket_shown: Any) -> Any:
        if "expires" not in basket_shown:
            assert basket_shown == {"cart": [], "saved": [], "checkout": []}
            return None
        return {
            "cart": [(item["productId"], item["count"]) for item in basket_shown["cart"]],
            "saved": [(item["productId"], item["count"]) for item in basket_shown["saved"]],
            "checkout": [(item["productId"], item["count"], item["stocked"]) for item in basket_shown["checkout"]],
        }
