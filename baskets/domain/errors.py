"""The refusals that a call of the API may get. Refusals of staff and commands are defined beside the functions that raise them.

They know nothing of HTTP; `api.exceptions` maps each to its status and code. `reason` is a stable slug that partners may rely on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar
from uuid import UUID

from django.utils.translation import gettext_noop

from baskets.domain.actors import Actor
from baskets.models import CheckoutSession
from baskets.models.basket_snapshot import ActiveSession

# Violated by a change of what another cell publishes. It exists in subscribing cells only; see `domain.cells.replication`.
PUBLISHER_CONSTRAINT = "changed_at_the_publisher"


@dataclass(frozen=True, kw_only=True)
class AttentionFlag:
    """A session that may have been paid although its order was refused: staff must review it.

    :param status: of the session, when the order was refused.
    :param reason: one of `Attention.Reason`.
    :param named: whether the report named the session by its order number.
    :param actor: who reported the order.
    """

    basket_id: UUID
    session_id: int
    order_no: str
    status: str
    reason: str
    named: bool
    actor: Actor


@dataclass(frozen=True, kw_only=True)
class Shortage:
    """One product with too little stock: pieces wanted, and pieces available."""

    product_id: str
    wanted: int
    available: int


class Refusal(Exception):
    """A call that ends without effect.

    :param text: one sentence that says more than `message`, which also stands for the class.
    :param attention: the flag for staff if the session may have been paid; the runner records it after the roll-back.
    """

    reason: ClassVar[str]
    message: ClassVar[str]

    def __init__(self, text: str = "", *, attention: AttentionFlag | None = None) -> None:
        super().__init__(text or self.message)
        self.attention = attention


class BasketNotFound(Refusal):
    """The user has no basket, or it was deleted or has expired."""

    reason = "basket_not_found"
    message = gettext_noop("There is no basket for this user.")


class ProductNotFound(Refusal):
    """The product is not in the catalog, or not listed."""

    reason = "product_unknown"
    message = gettext_noop("There is no such product.")


class ProductNotInBasket(Refusal):
    """The product is neither in the cart nor in the saved list."""

    reason = "product_not_in_basket"
    message = gettext_noop("The product is neither in the cart nor in the saved list.")


class DeviceNotFound(Refusal):
    """The basket has no such device."""

    reason = "device_unknown"
    message = gettext_noop("The basket has no such device.")


class WebhookNotFound(Refusal):
    """The partner has no such webhook, or it was deleted."""

    reason = "webhook_unknown"
    message = gettext_noop("There is no such webhook.")


class WebhooksFull(Refusal):
    """The partner has as many webhooks as its keys may create."""

    reason = "webhooks_full"
    message = gettext_noop("There cannot be another webhook: delete one first.")


class NothingToReplay(Refusal):
    """No event since the given time was delivered, so none can be delivered again."""

    reason = "nothing_to_replay"
    message = gettext_noop("Nothing that was delivered happened since then.")


class Busy(Refusal):
    """Other calls hold the same basket or product. Only the sandbox raises it; otherwise a database error has the same response."""

    reason = "busy"
    message = "Others are at the same basket or product. Nothing has changed; call again."


class CartEmpty(Refusal):
    """The cart is empty, so no checkout can start."""

    reason = "cart_empty"
    message = gettext_noop("The cart is empty.")


class CartFull(Refusal):
    """The addition would bring the cart past its limit."""

    reason = "cart_full"
    message = gettext_noop("The cart cannot take another product.")


class SavedFull(Refusal):
    """The addition would bring the saved list past its limit."""

    reason = "saved_full"
    message = gettext_noop("The saved list cannot take another product.")


class OutOfStock(Refusal):
    """No item of the cart can be held, or stock is short for a late order."""

    reason = "out_of_stock"
    message = gettext_noop("There is too little stock.")

    def __init__(self, *, shortages: Sequence[Shortage], attention: AttentionFlag | None = None) -> None:
        super().__init__(attention=attention)
        self.shortages = shortages


class CheckoutActive(Refusal):
    """A checkout session is active, and must be finished first."""

    reason = "checkout_active"
    message = gettext_noop("A checkout is active.")

    def __init__(self, *, active: ActiveSession) -> None:
        super().__init__()
        self.active = active


class NoActiveCheckout(Refusal):
    """No session is active, and the basket has changed since the last one ended."""

    reason = "no_active_checkout"
    message = gettext_noop("There is no active checkout.")

    def __init__(self, *, last: CheckoutSession | None, attention: AttentionFlag | None = None) -> None:
        super().__init__(attention=attention)
        self.last = last


class CheckoutAlreadyOrdered(Refusal):
    """The session was ordered; ordered is final."""

    reason = "checkout_already_ordered"
    message = gettext_noop("The checkout has been ordered already.")


class CheckoutAborted(Refusal):
    """The partner aborted the session, and the call does not name it."""

    reason = "checkout_aborted"
    message = gettext_noop("The checkout was aborted. To order it all the same, name its orderNo.")


class CheckoutExpired(Refusal):
    """The grace period for a late order is over."""

    reason = "checkout_expired"
    message = gettext_noop("The checkout ended too long ago to be ordered.")


class ServerKeyRequired(Refusal):
    """The partner lets only its server keys report an order.

    It says nothing about the state of a session, so nothing is flagged for staff: the session does not change, and the
    partner's back end reports the order. Source: `baskets/docs/adr/0035-limits-against-a-stolen-key.md`.
    """

    reason = "server_key_required"
    message = gettext_noop("A client key may not do this: use a server key.")


class OrderNotFound(Refusal):
    """The user has no session with this order number."""

    reason = "order_unknown"
    message = gettext_noop("There is no checkout with this order number.")


class Throttled(Refusal):
    """A rate limit is reached.

    :param seconds: until the next call is allowed.
    """

    reason = "throttled"
    message = gettext_noop("There were too many calls. Try again later.")

    def __init__(self, *, seconds: int) -> None:
        super().__init__()
        self.seconds = seconds


class WrongCell(Refusal):
    """The basket lives in another cell. See ADR 56."""

    reason = "wrong_cell"
    message = gettext_noop("The basket lives in another cell of this installation. Nothing was done.")


class SigningKeyUnreadable(Refusal):
    """The key that signs the tokens of guests cannot be decrypted: an operator must run `rotate_guest_keys`."""

    reason = "signing_key_unreadable"
    message = gettext_noop("No token can be signed now. Nothing has changed; call again later.")


class ConsentMissing(Refusal):
    """Comfort settings would be stored without the consent of the user."""

    reason = "consent_missing"
    message = gettext_noop("Nothing is stored without the user's consent.")


class IdempotencyKeyReused(Refusal):
    """The key was used for another request on this basket."""

    reason = "idempotency_key_reused"
    message = gettext_noop("The Idempotency-Key was used for another request.")
