"""What is stored: fields, constraints and named questions. Rules and writes are in `baskets.domain`."""

from baskets.models.baskets import Basket, BasketItem, basket_key
from baskets.models.checkouts import Attention, CheckoutItem, CheckoutSession
from baskets.models.events import Event
from baskets.models.idempotency import IdempotencyRecord
from baskets.models.partners import ApiKey, Partner
from baskets.models.products import Product
from baskets.models.stock import Stock, StockAdjustment, StockReservation
from baskets.models.throttles import Throttle

__all__ = [
    "ApiKey",
    "Attention",
    "Basket",
    "BasketItem",
    "CheckoutItem",
    "CheckoutSession",
    "Event",
    "IdempotencyRecord",
    "Partner",
    "Product",
    "Stock",
    "StockAdjustment",
    "StockReservation",
    "Throttle",
    "basket_key",
]
