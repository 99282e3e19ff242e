"""The calls of the API: each translates, makes one domain call, and translates back. The rules are in the domain."""

from typing import Any

from django.http import HttpResponse
from rest_framework.request import Request

from baskets.api.exceptions import BASKET_NOT_FOUND_ON_FINISH, ORDER_NOT_FOUND, ApiError, invalid
from baskets.api.parsers import parse_json, read_body
from baskets.api.protocol.envelope import json_response, success_body
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
from baskets.db.errors import read_with_reconnect
from baskets.domain.actors import Actor
from baskets.domain.baskets import items, lifecycle
from baskets.domain.checkout import sessions
from baskets.domain.checkout.order_numbers import parse_order_no
from baskets.domain.errors import BasketNotFound
from baskets.models import Product
from baskets.models.basket_snapshot import read_basket

REMOVE = -1


class BasketViewSet(ApiViewSet):
    """The basket of one user, its items and its checkout."""

    never_throttled = frozenset({"finish_active", "session"})
    confirms_late = True

    @operations.get_basket
    def retrieve(self, request: Request, **_: str) -> HttpResponse:
        """Show the basket; an empty one if there is none. Creates nothing."""
        self.read()
        contents = self.ask(lambda: read_basket(self.owner.basket_id))
        return json_response(success_body(render_basket(contents)))

    @operations.delete_basket
    def destroy(self, request: Request, **_: str) -> HttpResponse:
        """Delete the basket."""
        self.read(EmptyBody)
        actor = self.actor
        return self.perform(lambda: render_basket(lifecycle.delete_basket(owner=self.owner, actor=actor)))

    @operations.place_item
    def place(self, request: Request, *, product_id: str, **_: str) -> HttpResponse:
        """Put a product into the cart or the saved list, or take it out."""
        count: int = self.read(PlaceItemRequest)["count"]
        actor = self.actor
        if count == REMOVE:
            return self._remove(product_id, actor)
        return self.perform(lambda: render_basket(items.place_item(owner=self.owner, product_id=product_id, count=count, actor=actor)))

    @operations.change_item
    def change(self, request: Request, *, product_id: str, **_: str) -> HttpResponse:
        """Change the count of a product that is in the cart or the saved list."""
        count: int | None = self.read(ChangeItemRequest)["count"]
        actor = self.actor
        if count == REMOVE:
            return self._remove(product_id, actor)
        return self.perform(lambda: render_basket(items.change_item(owner=self.owner, product_id=product_id, count=count, actor=actor)))

    @operations.remove_item
    def remove(self, request: Request, *, product_id: str, **_: str) -> HttpResponse:
        """Take a product out of the cart and the saved list."""
        self.read(EmptyBody)
        return self._remove(product_id, self.actor)

    def _remove(self, product_id: str, actor: Actor) -> HttpResponse:
        return self.perform(lambda: render_basket(items.remove_item(owner=self.owner, product_id=product_id, actor=actor)))

    @operations.start_checkout
    def start(self, request: Request, **_: str) -> HttpResponse:
        """Start a checkout of the whole cart."""
        given = self.read(StartCheckoutRequest, switch="testMode")
        actor, test_mode = self.actor, self.switch("testMode")

        with self.client_limits() as limits:

            def start() -> dict[str, Any]:
                started = sessions.start_session(
                    owner=self.owner,
                    language=given["language"],
                    country=given["country"],
                    stripe_using_sdk=given["stripeUsingSdk"],
                    test_mode=test_mode,
                    limits=limits,
                    actor=actor,
                )
                return render_started_checkout(session=started.session, contents=started.contents)

            return self.perform(start, switched=test_mode)

    @operations.finish_active
    def finish_active(self, request: Request, **_: str) -> HttpResponse:
        """Finish the active checkout: ordered, or aborted."""
        given = self.read(FinishCheckoutRequest)
        actor = self.actor
        try:
            return self.perform(
                lambda: render_basket(
                    sessions.finish_session(
                        owner=self.owner,
                        ordered=given["ordered"],
                        order_no=given["orderNo"],
                        may_order=self.caller.may_order,
                        actor=actor,
                    )
                )
            )
        except BasketNotFound as refusal:
            raise ApiError(refusal.reason, kind=BASKET_NOT_FOUND_ON_FINISH) from refusal

    @operations.get_session
    def session(self, request: Request, *, order_no: str, **_: str) -> HttpResponse:
        """Tell what became of a checkout."""
        self.read()
        session = self.ask(lambda: read_session(basket_id=self.owner.basket_id, order_no=parse_order_no(order_no)))
        if session is None:
            raise ApiError("order_unknown", kind=ORDER_NOT_FOUND)
        return json_response(success_body(session))


class ProductViewSet(ApiViewSet):
    """What is known of products, for whoever has a key."""

    token_required = False

    @operations.product_details
    def details(self, request: Request) -> HttpResponse:
        """Show the products asked for, with the stock that can be had now."""
        product_ids = self.read_ids()
        found = read_with_reconnect(lambda: {product.pk: product for product in Product.objects.offered(product_ids)})
        return json_response(success_body(render_products(product_ids, found)))

    def read_ids(self) -> list[str]:
        """Check the content of the call, a bare array of ids, and return them.

        :raises ApiError: unsupported_media_type, body_too_large, validation_failed, throttled.
        """
        body = read_body(self.request)
        product_ids, wrong = check_product_ids(parse_json(body) if body else None)
        if wrong:
            raise invalid(wrong)
        self.take_turn()
        return product_ids
