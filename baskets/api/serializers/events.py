"""The events of the feed and of webhooks, described for the schema: one shape for each kind. The domain builds the data.

The shapes are a promise to partners. A change may only add: an optional member to `data`, or a kind. No member goes, changes its
type, or becomes optional. `tests/api/schema/test_events.py` holds every event that the tests record against these shapes, and
the shapes against those of earlier releases. The docstrings and help texts are part of the published schema.
"""

from collections.abc import Callable
from typing import Any

from rest_framework import serializers

from baskets.api.serializers.responses import TIME_HELP, Candidate
from baskets.domain.actors import ActorKind
from baskets.domain.checkout.attention import Cause
from baskets.models import Attention
from baskets.models import Event as EventModel

Kind = EventModel.Kind

ORDER_NO_HELP = "The checkout that the event is about."
PIECES_HELP = "Pieces by product id."
REPAIRS = (
    "finish_as_ordered", "abort", "order_late", "reverse_order", "release", "hold_again", "settle", "settle_all", "take", "hand_back",
    "change_item", "extend", "end", "erase", "revoke_device", "add_item", "extend_hold", "restore", "note",
)  # fmt: skip


class EventActor(serializers.Serializer[Any]):
    """The author of a change."""

    kind = serializers.ChoiceField(choices=[kind.value for kind in ActorKind], help_text="An API key, staff, or the service itself.")
    key = serializers.CharField(allow_null=True, help_text="The prefix of the API key; null for other authors.")


class Tracking(serializers.Serializer[Any]):
    """Attribution as `X-JAY-Tracking` or `provider_id` reported it; unsent members are absent."""

    session_id = serializers.CharField(required=False, help_text="The session of the viewer.")
    start_time = serializers.CharField(required=False, help_text="When that session began, as it was reported.")
    source = serializers.CharField(required=False, help_text="Where the viewer came from.")  # type: ignore[assignment]  # The name is the API's.
    provider_id = serializers.CharField(required=False, help_text="The provider of the content.")


class ProductCount(serializers.Serializer[Any]):
    """A number of pieces of one product."""

    productId = serializers.CharField(help_text="The product identifier.")
    count = serializers.IntegerField(help_text="The number of pieces; 0 for a saved item that never had a count.")


class StockedProductCount(ProductCount):
    """A number of pieces of one product in a checkout, and what is held of them."""

    stocked = serializers.IntegerField(
        allow_null=True, help_text="Held pieces; null for unlimited products; negative: so many pieces were missing."
    )


# --- The data of each kind ---------------------------------------------------------


class BasketLists(serializers.Serializer[Any]):
    """The content of cart and saved list."""

    cart = ProductCount(many=True, help_text="What was in the cart.")
    saved = ProductCount(many=True, help_text="What was in the saved list.")


class ItemPlacedData(serializers.Serializer[Any]):
    """The new place of an item."""

    productId = serializers.CharField(help_text="The product identifier.")
    count = serializers.IntegerField(help_text="The new number of pieces; 0 in the saved list.")
    list = serializers.ChoiceField(choices=["cart", "saved"], help_text="The list that has the item now.")


class ItemRemovedData(serializers.Serializer[Any]):
    """The item that left cart and saved list."""

    productId = serializers.CharField(help_text="The product identifier.")


class CheckoutStartedData(serializers.Serializer[Any]):
    """The checkout that began."""

    orderNo = serializers.CharField(help_text=ORDER_NO_HELP)
    testMode = serializers.BooleanField(help_text="Whether it holds and sells nothing.")
    items = StockedProductCount(many=True, help_text="All items, those without stock included.")


class CheckoutOrderedData(serializers.Serializer[Any]):
    """The order."""

    orderNo = serializers.CharField(help_text=ORDER_NO_HELP)
    items = ProductCount(many=True, help_text="The ordered items.")
    failed = ProductCount(many=True, help_text="The items without stock, which returned to the cart.")


class CheckoutEndedData(serializers.Serializer[Any]):
    """The checkout that ended without an order."""

    orderNo = serializers.CharField(help_text=ORDER_NO_HELP)
    items = ProductCount(many=True, help_text="The items, which returned to the cart.")
    released = serializers.DictField(child=serializers.IntegerField(), help_text=f"Released pieces. {PIECES_HELP}")


class CheckoutOrderedLateData(serializers.Serializer[Any]):
    """The order of a checkout that had been aborted or had expired."""

    orderNo = serializers.CharField(help_text=ORDER_NO_HELP)
    items = ProductCount(many=True, help_text="The ordered items.")
    short = serializers.DictField(child=serializers.IntegerField(), help_text=f"Ordered pieces without stock. {PIECES_HELP}")


class CheckoutReversedData(serializers.Serializer[Any]):
    """The order that was reversed, once and for good; its checkout stays ORDERED."""

    orderNo = serializers.CharField(help_text=ORDER_NO_HELP)
    items = ProductCount(many=True, help_text="The items of the order.")
    returned = serializers.DictField(child=serializers.IntegerField(), help_text=f"Pieces that are available again. {PIECES_HELP}")


class AttentionNeededData(serializers.Serializer[Any]):
    """Why staff should review a checkout."""

    orderNo = serializers.CharField(help_text="The flagged checkout.")
    reason = serializers.ChoiceField(choices=Attention.Reason.values, help_text="Why the user may have paid, or what is missing.")
    orderNoReported = serializers.BooleanField(
        required=False, help_text="Whether the refused report named its checkout; absent where no report was refused."
    )
    candidates = Candidate(
        many=True, required=False, help_text="Where it named none: the checkouts that it may be about, the latest first."
    )


class AttentionSettledData(serializers.Serializer[Any]):
    """What staff no longer need to review."""

    orderNo = serializers.CharField(help_text="The checkout that was flagged.")
    reasons = serializers.ListField(child=serializers.ChoiceField(choices=Attention.Reason.values), help_text="The settled flags.")
    cause = serializers.ChoiceField(
        choices=[cause.value for cause in Cause],
        help_text="`merged`: the basket has too many later open flags, and this one was settled in favour of them.",
    )


class NoData(serializers.DictField):
    """Nothing: the event says it all. An empty serializer would vanish from the schema."""

    def __init__(self) -> None:
        super().__init__(help_text="Empty.")


class DeviceRevokedData(serializers.Serializer[Any]):
    """The device whose token is refused from now on."""

    deviceId = serializers.CharField(help_text="The `deviceId` of the list of devices.")


class RepairedData(serializers.Serializer[Any]):
    """A repair by staff. The events of what it changed come before this one."""

    repair = serializers.ChoiceField(choices=REPAIRS, help_text="The name of the repair.")
    orderNo = serializers.CharField(required=False, help_text="The repaired checkout.")
    productId = serializers.CharField(required=False, help_text="`add_item`, `change_item`, `release`: the product.")
    count = serializers.IntegerField(
        required=False, help_text="`add_item`, `change_item`: the new count, -1 if removed; `release`: released pieces."
    )
    until = serializers.DateTimeField(
        required=False, help_text="`extend`: the new end of the basket; `extend_hold`: the new end of the hold."
    )
    deviceId = serializers.CharField(required=False, help_text="`revoke_device`: the device.")
    cart = ProductCount(many=True, required=False, help_text="`restore`: the items that are back in the cart.")
    saved = ProductCount(many=True, required=False, help_text="`restore`: the items that are back in the saved list.")
    matter = serializers.ChoiceField(required=False, choices=Attention.Reason.values, help_text="`settle`: the settled flag.")
    acceptShort = serializers.BooleanField(required=False, help_text="`order_late`: whether pieces without stock were accepted.")
    held = serializers.DictField(
        child=serializers.IntegerField(), required=False, help_text=f"`hold_again`: pieces that are held now. {PIECES_HELP}"
    )
    unlimited = serializers.ListField(
        child=serializers.CharField(), required=False, help_text="`hold_again`: products that need no hold any more."
    )


DATA: dict[str, Callable[[], serializers.Field[Any, Any, Any, Any]]] = {
    Kind.GUEST_CREATED: BasketLists,
    Kind.ITEM_PLACED: ItemPlacedData,
    Kind.ITEM_REMOVED: ItemRemovedData,
    Kind.CHECKOUT_STARTED: CheckoutStartedData,
    Kind.CHECKOUT_ORDERED: CheckoutOrderedData,
    Kind.CHECKOUT_ABORTED: CheckoutEndedData,
    Kind.CHECKOUT_EXPIRED: CheckoutEndedData,
    Kind.CHECKOUT_ORDERED_LATE: CheckoutOrderedLateData,
    Kind.CHECKOUT_REVERSED: CheckoutReversedData,
    Kind.ATTENTION_NEEDED: AttentionNeededData,
    Kind.ATTENTION_SETTLED: AttentionSettledData,
    Kind.BASKET_DELETED: BasketLists,
    Kind.BASKET_EXPIRED: BasketLists,
    Kind.TRANSFER_OFFERED: NoData,
    Kind.TRANSFER_REDEEMED: NoData,
    Kind.DEVICE_REVOKED: DeviceRevokedData,
    Kind.REPAIRED: RepairedData,
}
MEANINGS: dict[str, str] = {
    Kind.GUEST_CREATED: "A guest was created, with the products that it begins with.",
    Kind.ITEM_PLACED: "An item was added, its count changed, or it moved between cart and saved list.",
    Kind.ITEM_REMOVED: "An item was removed from cart and saved list.",
    Kind.CHECKOUT_STARTED: "A checkout began: the cart moved into it, and its stock is held.",
    Kind.CHECKOUT_ORDERED: "A checkout was reported as ordered within its hold: held pieces are sold.",
    Kind.CHECKOUT_ABORTED: "A checkout was reported as aborted: held pieces are free, and the items returned to the cart.",
    Kind.CHECKOUT_EXPIRED: "The hold of a checkout ended without a report: as with an abort.",
    Kind.CHECKOUT_ORDERED_LATE: "An aborted or expired checkout was ordered after all: the pieces were taken again.",
    Kind.CHECKOUT_REVERSED: "Staff reversed an order: its pieces are supply again. At most once for an order.",
    Kind.ATTENTION_NEEDED: "A report of an order was refused, or lacks stock: the user may have paid, and staff must look at it.",
    Kind.ATTENTION_SETTLED: "Flags of a checkout were settled.",
    Kind.BASKET_DELETED: "A basket was deleted.",
    Kind.BASKET_EXPIRED: "A basket reached the end of its lifetime.",
    Kind.TRANSFER_OFFERED: "A basket was offered to another device.",
    Kind.TRANSFER_REDEEMED: "Another device received the basket.",
    Kind.DEVICE_REVOKED: "The token of a guest's device was revoked.",
    Kind.REPAIRED: "Staff repaired a basket or checkout.",
}


class EventHead(serializers.Serializer[Any]):
    """The members that events of all kinds have."""

    id = serializers.CharField(help_text="Stays the same when the event is sent or read again: ignore an id that you have seen.")
    kind: serializers.Field[Any, Any, Any, Any]
    at = serializers.DateTimeField(help_text=f"The time of the change. {TIME_HELP}")
    userId = serializers.CharField(help_text="The user of the basket.")
    orderNo = serializers.CharField(allow_null=True, help_text="The checkout that the event is about; null if it is about none.")
    number = serializers.IntegerField(help_text="Counts the events of this basket, from 1 without gaps.")
    revision = serializers.IntegerField(help_text="Counts the changes of the lists of this basket; the value after the event.")
    actor = EventActor()
    requestId = serializers.CharField(allow_null=True, help_text="The `X-Request-ID` of the call that made the change.")
    tracking = Tracking()
    sandbox = serializers.BooleanField(required=False, help_text="True for events of a sandbox; absent from all others.")


def event_name(kind: str) -> str:
    """Return the component name of the events of a kind, such as `CheckoutOrderedEvent`."""
    return "".join(word.capitalize() for word in kind.split("_")) + "Event"


KIND_HELP = "What happened; it says which members `data` has."


def _event_serializer(kind: str) -> type[serializers.Serializer[Any]]:
    members = {"__doc__": MEANINGS[kind], "kind": serializers.ChoiceField(choices=[kind], help_text=KIND_HELP), "data": DATA[kind]()}
    return type(event_name(kind), (EventHead,), members)


EVENTS = {kind: _event_serializer(kind) for kind in Kind.values}


class Event(serializers.Serializer[Any]):
    """An event of any kind. `schema.components` describes it as one of `EVENTS`."""
