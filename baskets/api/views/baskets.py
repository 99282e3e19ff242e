"""The calls for one user's basket and its checkout, and for products. The rules are in the domain."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any

from django.db import Error as DatabaseError
from django.http import HttpResponse
from rest_framework.request import Request

from baskets.api.auth.permissions import BearerTokenIfSent
from baskets.api.exceptions import BASKET_NOT_FOUND_ON_FINISH, ORDER_NOT_FOUND, ApiError, invalid
from baskets.api.parsers import parse_json, read_body
from baskets.api.protocol.metrics import SHORTAGES_OF_THIS_CELL
from baskets.api.schema import operations
from baskets.api.serializers.representations import render_basket, render_products, render_started_checkout
from baskets.api.serializers.requests import (
    ChangeItemRequest,
    EmptyBody,
    FinishCheckoutRequest,
    PlaceItemRequest,
    StartCheckoutRequest,
)
from baskets.api.serializers.session_detail import read_session
from baskets.api.serializers.validation import check_product_ids
from baskets.api.views.base import ApiViewSet
from baskets.domain.baskets import items, lifecycle
from baskets.domain.checkout import sessions
from baskets.domain.checkout.direct_orders import order_directly
from baskets.domain.checkout.direct_starts import may_start_directly, start_directly
from baskets.domain.checkout.order_numbers import generate_order_no, parse_order_no
from baskets.domain.checkout.session_rows import StartedSession
from baskets.domain.errors import BasketNotFound, OutOfStock
from baskets.domain.stock.elsewhere import available_elsewhere
from baskets.domain.stock.sandbox_catalog import may_contain, pieces_shown
from baskets.models import Product
from baskets.models.basket_snapshot import BasketSnapshot, ShownBasket, read_basket

REMOVE = -1


class BasketViewSet(ApiViewSet):
    """The basket of one user, its items and its checkout."""

    never_throttled = frozenset({"finish_active", "session"})
    defers_key_check = True

    @operations.get_basket
    def retrieve(self, request: Request, **_: str) -> HttpResponse:
        """Return the basket; an empty one if there is none. Creates nothing."""
        self.validated()
        basket = self.read(self._read_basket)
        return self.respond(render_basket(basket))

    @operations.delete_basket
    def destroy(self, request: Request, **_: str) -> HttpResponse:
        """Delete the basket."""
        self.validated(EmptyBody)
        basket = self.execute(lifecycle.delete_basket, render=render_basket)
        return self.respond(basket)

    @operations.place_item
    def place(self, request: Request, *, product_id: str, **_: str) -> HttpResponse:
        """Put a product into the cart or the saved list, or remove it."""
        data = self.validated(PlaceItemRequest)
        if data["count"] == REMOVE:
            return self._remove(product_id)
        basket = self.execute(items.place_item, render=render_basket, product_id=product_id, count=data["count"])
        return self.respond(basket)

    @operations.change_item
    def change(self, request: Request, *, product_id: str, **_: str) -> HttpResponse:
        """Change the count of a product that is in the cart or the saved list."""
        data = self.validated(ChangeItemRequest)
        if data["count"] == REMOVE:
            return self._remove(product_id)
        basket = self.execute(items.change_item, render=render_basket, product_id=product_id, count=data["count"])
        return self.respond(basket)

    @operations.remove_item
    def remove(self, request: Request, *, product_id: str, **_: str) -> HttpResponse:
        """Remove a product from the cart and the saved list."""
        self.validated(EmptyBody)
        return self._remove(product_id)

    def _remove(self, product_id: str) -> HttpResponse:
        basket = self.execute(items.remove_item, render=render_basket, product_id=product_id)
        return self.respond(basket)

    @operations.start_checkout
    def start(self, request: Request, **_: str) -> HttpResponse:
        """Start a checkout of the whole cart."""
        data = self.validated(StartCheckoutRequest, flag="testMode")
        short: list[str] = []

        def render(started: StartedSession) -> dict[str, Any]:
            short[:] = [line.product_id for line in started.snapshot.checkout if line.failed]
            return render_started_checkout(session=started.session, snapshot=started.snapshot)

        test_mode = self.query_flag("testMode")
        given = {
            "order_no": generate_order_no(),
            "language": data["language"],
            "country": data["country"],
            "stripe_using_sdk": data["stripeUsingSdk"],
        }
        direct = may_start_directly(test_mode=test_mode, by_client_key=self.caller.is_client_key)
        try:
            response = self.execute(
                sessions.start_session,
                render=render,
                shortcut=partial(start_directly, **given) if direct else None,
                counts_for_client=True,
                test_mode=test_mode,
                **given,
            )
        except OutOfStock as refusal:
            _count_shortages(shortage.product_id for shortage in refusal.shortages)
            raise
        if short:
            _count_shortages(short)
        return self.respond(response)

    @operations.finish_active
    def finish_active(self, request: Request, **_: str) -> HttpResponse:
        """Finish the active checkout: ordered, or aborted.

        :raises ApiError: `basket_not_found`, with the numbers of this call.
        :raises Refusal: `sessions.finish_session` refused.
        """
        data = self.validated(FinishCheckoutRequest)
        ordered, order_no = data["ordered"], data["orderNo"]
        shortcut = partial(order_directly, order_no=order_no) if ordered else None
        finish: Callable[..., ShownBasket] = sessions.finish_session
        try:
            basket = self.execute(finish, render=render_basket, shortcut=shortcut, ordered=ordered, order_no=order_no)
        except BasketNotFound as refusal:
            raise ApiError(refusal.reason, override=BASKET_NOT_FOUND_ON_FINISH) from refusal
        return self.respond(basket)

    @operations.get_session
    def session(self, request: Request, *, order_no: str, **_: str) -> HttpResponse:
        """Return the state of a checkout.

        :raises ApiError: `order_unknown`.
        """
        self.validated()
        session = self.read(self._read_session, order_no)
        if session is None:
            raise ApiError("order_unknown", override=ORDER_NOT_FOUND)
        return self.respond(session)

    def _read_basket(self) -> BasketSnapshot | None:
        return read_basket(self.owner.basket_id)

    def _read_session(self, order_no: str) -> dict[str, Any] | None:
        return read_session(basket_id=self.owner.basket_id, order_no=parse_order_no(order_no))


def _count_shortages(product_ids: Iterable[str]) -> None:
    """Count those products that other cells have. The call has its result; a database that fails now does not change it."""
    with suppress(DatabaseError):
        SHORTAGES_OF_THIS_CELL.inc(len(available_elsewhere(product_ids)))


class ProductViewSet(ApiViewSet):
    """Products of the catalog, for every key."""

    permission_classes = (BearerTokenIfSent,)

    @operations.product_details
    def details(self, request: Request) -> HttpResponse:
        """Return the requested products, with the stock that is available now."""
        product_ids = self.validated_ids()
        products = self.read(self._read_products, product_ids)
        return self.respond(render_products(product_ids, products))

    def validated_ids(self) -> list[str]:
        """Check the content of the call, a bare array of product ids, and return them.

        :raises ApiError: `unsupported_media_type`, `body_too_large`, `validation_failed`.
        :raises Throttled: the limit of the key is reached.
        """
        body = read_body(self.request)
        product_ids, wrong = check_product_ids(parse_json(body) if body else None)
        if wrong:
            raise invalid(wrong)
        self.count_call()
        return product_ids

    def _read_products(self, product_ids: list[str]) -> dict[str, Any]:
        sandbox = self.caller.sandbox
        own = [product_id for product_id in product_ids if may_contain(product_id, sandbox=sandbox)]
        products: dict[str, Any] = Product.objects.offered(own).in_bulk()
        for product in products.values() if sandbox else ():
            product.obtainable = pieces_shown(product.pk, product.obtainable)
        return products
