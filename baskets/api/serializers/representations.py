"""How things look on the wire: plain, fast functions from what the domain returns to what JSON takes. No query."""

from collections.abc import Iterable
from typing import Any

from baskets.domain.baskets.guests import IssuedToken
from baskets.domain.timestamps import format_timestamp
from baskets.models.basket_snapshot import BasketLine, BasketSnapshot


def empty_basket() -> dict[str, Any]:
    """Show the basket of a user who has none."""
    return {"cart": [], "saved": [], "checkout": []}


def render_basket(contents: BasketSnapshot) -> dict[str, Any]:
    """Show a basket whole; one that is hidden or past its time, like one that never was."""
    if not contents.is_open:
        return empty_basket()
    return {
        "expires": format_timestamp(contents.expires_at),
        "lastChanged": format_timestamp(contents.last_changed_at),
        "cart": [render_line(line) for line in contents.cart],
        "saved": [render_line(line) for line in contents.saved],
        "checkout": [{**render_line(line), "stocked": line.stocked} for line in contents.checkout],
    }


def render_line(line: BasketLine) -> dict[str, Any]:
    """Show an item of a list; the variant and the main product only where the product has them."""
    shown: dict[str, Any] = {"productId": line.product_id, "count": line.count}
    if line.variant:
        shown["variant"] = line.variant
    if line.main_product_id:
        shown["mainProductIdentifier"] = line.main_product_id
    return shown


def render_started_checkout(*, session: Any, contents: BasketSnapshot) -> dict[str, Any]:
    """Show a checkout that has just begun."""
    return {
        "orderNo": session.order_no,
        "expires": format_timestamp(session.expires_at),
        "currency": session.currency or None,
        "fullPrice": session.full_price,
        "fullTax": session.full_tax,
        "shippingCost": session.shipping_cost,
        "testMode": session.test_mode,
        "basket": render_basket(contents),
    }


def render_guest(*, user_id: str, token: IssuedToken, contents: BasketSnapshot) -> dict[str, Any]:
    """Show a guest: who it is from now on, the token that says so, and the basket."""
    return {
        "userId": user_id,
        "jwt": token.text,
        "expires": format_timestamp(token.expires_at),
        "basket": render_basket(contents),
    }


def render_products(asked: Iterable[str], found: dict[str, Any]) -> dict[str, Any]:
    """Show what is known of the products asked for, each once, in the order of the question."""
    products, unknown = [], []
    for product_id in dict.fromkeys(asked):
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
