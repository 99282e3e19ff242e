"""The stored data: fields, constraints and named queries. Rules and writes are in `baskets.domain`."""

from baskets.models.activity import ActivityState, PartnerActivity, ProductActivity, RefusalActivity
from baskets.models.audit_log import BrokenRule, DeskEntry
from baskets.models.baskets import Basket, BasketItem, basket_key
from baskets.models.checkouts import Attention, CheckoutItem, CheckoutSession
from baskets.models.comfort import Comfort
from baskets.models.events import Event
from baskets.models.feed import FeedGap, FeedPosition, FeedState
from baskets.models.guest_tokens import GuestToken
from baskets.models.idempotency import IdempotencyRecord
from baskets.models.moving import MovingBatch
from baskets.models.partners import ApiKey, Partner
from baskets.models.products import Product
from baskets.models.signing_keys import SigningKey
from baskets.models.staff import SecondFactor, StaffSession
from baskets.models.stock import Stock, StockAdjustment, StockElsewhere, StockReservation
from baskets.models.throttles import Throttle
from baskets.models.token_issuers import TokenIssuer
from baskets.models.transfers import Transfer
from baskets.models.webhooks import (
    WebhookAttempt,
    WebhookBlockedBasket,
    WebhookChange,
    WebhookDeliverer,
    WebhookEndpoint,
    WebhookLane,
)
