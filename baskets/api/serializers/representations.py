"""Renders what the domain returns as JSON values, with plain functions. Runs no query.

`responses` describes the same bodies for the schema.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from baskets.domain.access.guest_tokens import IssuedToken
from baskets.domain.checkout.session_rows import NewSession
from baskets.domain.timestamps import format_timestamp
from baskets.models.basket_snapshot import BasketLine, ShownBasket


def render_basket(basket: ShownBasket | None) -> dict[str, Any]:
    """Render a basket; None, a deleted one and an expired one all look like an empty basket.

    :returns: `responses.Basket`; without `expires` and `lastChanged` for an empty one.
    """
    if basket is None or not basket.is_open:
        return {"cart": [], "saved": [], "checkout": []}
    return {
        "expires": format_timestamp(basket.expires_at),
        "lastChanged": format_timestamp(basket.last_changed_at),
        "cart": [_render_line(line) for line in basket.cart],
        "saved": [_render_line(line) for line in basket.saved],
        "checkout": [{**_render_line(line), "stocked": line.stocked} for line in basket.checkout],
    }


def _render_line(line: BasketLine) -> dict[str, Any]:
    return {"productId": line.product_id, "count": line.count, **render_variant(line.variant, line.main_product_id)}


def render_variant(variant: str, main_product_id: str) -> dict[str, str]:
    """Render the members of an item that exist only for products with a variant or a main product.

    :returns: `variant` and `mainProductIdentifier`, those that exist.
    """
    members = {}
    if variant:
        members["variant"] = variant
    if main_product_id:
        members["mainProductIdentifier"] = main_product_id
    return members


def render_started_checkout(*, session: NewSession, snapshot: ShownBasket) -> dict[str, Any]:
    """Render a checkout that has just begun, with its basket. Its tax and its shipping cost are not known yet.

    :returns: `responses.StartedCheckout`.
    """
    return {
        "orderNo": session.order_no,
        "expires": format_timestamp(session.expires_at),
        "currency": session.currency or None,
        "fullPrice": session.full_price,
        "fullTax": None,
        "shippingCost": None,
        "testMode": session.test_mode,
        "basket": render_basket(snapshot),
    }


def render_guest(*, user_id: str, token: IssuedToken, snapshot: ShownBasket) -> dict[str, Any]:
    """Render a new guest: its user id, its bearer token and its basket.

    :returns: `responses.Guest`.
    """
    return {
        "userId": user_id,
        "jwt": token.text,
        "expires": format_timestamp(token.expires_at),
        "basket": render_basket(snapshot),
    }


def render_products(product_ids: Iterable[str], found: Mapping[str, Any]) -> dict[str, Any]:
    """Render the requested products, each once, in the order of the request.

    :param found: the listed products by id, as `Product.objects.offered` returns them.
    :returns: `responses.ProductDetails`.
    """
    products, unknown = [], []
    for product_id in dict.fromkeys(product_ids):
        product = found.get(product_id)
        if product is None:
            unknown.append(product_id)
            continue
        products.append(
            {
                "productId": product.product_id,
                "name": product.name,
                "brand": product.brand or None,
                "variant": product.variant or None,
                "mainProductIdentifier": product.main_product_id or None,
                "price": product.price,
                "currency": product.currency or None,
                "currentStockCount": product.obtainable,
                "outOfStock": product.obtainable == 0,
            }
        )
    return {"products": products, "unknown": unknown}
