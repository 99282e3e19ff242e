"""The bodies of responses, described for the schema only: `representations` renders them with plain functions, for speed.

The docstrings and help texts are part of the published schema.
"""

import functools
from typing import Any

from drf_spectacular.utils import inline_serializer
from rest_framework import serializers

from baskets.models import Attention, CheckoutSession

TIME_HELP = "UTC, to the second."
STOCK_HELP = "Pieces that are available now, to all partners together; null for unlimited products. Limits may leave you fewer."


class Item(serializers.Serializer[Any]):
    """One product in one list."""

    productId = serializers.CharField(help_text="The product identifier.")
    count = serializers.IntegerField(help_text="How many pieces. A saved item shows the count it had, or 1.")
    variant = serializers.CharField(required=False, help_text="The variant, as the size; only where there is one.")
    mainProductIdentifier = serializers.CharField(
        required=False, help_text="The main product of which this is a variant; only where there is one."
    )


class CheckoutLine(Item):
    """One product that is being bought."""

    stocked = serializers.IntegerField(
        allow_null=True,
        help_text=(
            "Above zero: so many pieces are held, always the whole count. Null: stock is unlimited, nothing is held. "
            "Below zero: the reservation failed, and so many pieces were missing."
        ),
    )


class Basket(serializers.Serializer[Any]):
    """The whole basket of a user. One without `expires` and `lastChanged` does not exist yet."""

    expires = serializers.DateTimeField(
        required=False,
        help_text=f"The end of the basket: 30 days after its last change, unless the operator has set another time. {TIME_HELP}",
    )
    lastChanged = serializers.DateTimeField(required=False, help_text=TIME_HELP)
    cart = Item(many=True, help_text="What the user wants to buy.")
    saved = Item(many=True, help_text="What the user keeps for later.")
    checkout = CheckoutLine(many=True, help_text="What is being bought; empty while no checkout is active.")


class StartedCheckout(serializers.Serializer[Any]):
    """A checkout that has just begun."""

    orderNo = serializers.CharField(help_text="Names this checkout for good.")
    expires = serializers.DateTimeField(help_text=f"The end of the hold. {TIME_HELP}")
    currency = serializers.CharField(allow_null=True, help_text="ISO 4217.")
    fullPrice = serializers.IntegerField(
        allow_null=True, help_text="Minor units, over the items that can be ordered; null where prices are not kept."
    )
    fullTax = serializers.IntegerField(allow_null=True, help_text="Minor units.")
    shippingCost = serializers.IntegerField(allow_null=True, help_text="Minor units.")
    testMode = serializers.BooleanField(help_text="Holds and sells nothing.")
    basket = Basket()


class SessionItem(Item):
    """One product of a checkout, and what became of its pieces."""

    stocked = serializers.IntegerField(allow_null=True, help_text="As in the checkout list at the start.")
    held = serializers.IntegerField(allow_null=True, help_text="Pieces that were held; null: nothing had to be held.")
    sold = serializers.IntegerField(help_text="Held pieces that became sold.")
    released = serializers.IntegerField(help_text="Held pieces that were given back: by the end of the checkout, or by staff.")
    short = serializers.IntegerField(help_text="Pieces ordered late without stock behind them.")
    ordered = serializers.IntegerField(help_text="Pieces that are part of the order.")
    reversed = serializers.IntegerField(help_text="Ordered pieces that were reversed: all of them, or none.")


class Session(serializers.Serializer[Any]):
    """What became of a checkout."""

    orderNo = serializers.CharField(help_text="The order number: it names the checkout for good.")
    status = serializers.ChoiceField(choices=CheckoutSession.Status.values)
    startedAt = serializers.DateTimeField(help_text=TIME_HELP)
    expires = serializers.DateTimeField(help_text="The end of the hold.")
    finishedAt = serializers.DateTimeField(allow_null=True, help_text=f"Null while it is ACTIVE. {TIME_HELP}")
    reversedAt = serializers.DateTimeField(
        allow_null=True, help_text="When the order was reversed, for good; it stays ORDERED. Null: it was not."
    )
    late = serializers.BooleanField(help_text="Ordered after it had been aborted or had expired.")
    testMode = serializers.BooleanField(help_text="Holds and sells nothing.")
    items = SessionItem(many=True, help_text="What the checkout is or was about, the failed items included.")


class Candidate(serializers.Serializer[Any]):
    """A checkout that a report without an order number may be about."""

    orderNo = serializers.CharField(help_text="The order number: it names the checkout for good.")
    status = serializers.ChoiceField(choices=CheckoutSession.Status.values, help_text="When the report was refused; never ACTIVE.")
    finishedAt = serializers.DateTimeField(help_text=TIME_HELP)


class AttentionFlag(serializers.Serializer[Any]):
    """Something about a checkout that staff must see to, or have seen to."""

    reason = serializers.ChoiceField(choices=Attention.Reason.values, help_text="Why the user may have paid.")
    createdAt = serializers.DateTimeField(help_text=TIME_HELP)
    settledAt = serializers.DateTimeField(allow_null=True, help_text="Null: it is open.")
    candidates = Candidate(
        many=True,
        allow_null=True,
        help_text="Set if the refused report named no `orderNo`: the checkouts of the user that ended last before it, the latest first.",
    )


class ListedSession(Session):
    """A checkout in the list for back ends."""

    userId = serializers.CharField(help_text="The user of the basket.")
    currency = serializers.CharField(allow_null=True, help_text="ISO 4217.")
    fullPrice = serializers.IntegerField(allow_null=True, help_text="As the start answered it.")
    fullTax = serializers.IntegerField(allow_null=True, help_text="Minor units.")
    shippingCost = serializers.IntegerField(allow_null=True, help_text="Minor units.")
    attention = AttentionFlag(many=True, help_text="Why staff should review it; empty if there is no reason.")


class ListedBasket(Basket):
    """A basket in the list for back ends."""

    userId = serializers.CharField(help_text="The user of the basket.")


class Product(serializers.Serializer[Any]):
    """What is known of a product."""

    productId = serializers.CharField(help_text="The product identifier.")
    name = serializers.CharField(help_text="The name for customers.")
    brand = serializers.CharField(allow_null=True, help_text="Null if there is none.")
    variant = serializers.CharField(allow_null=True, help_text="The variant, such as the size; null if there is none.")
    mainProductIdentifier = serializers.CharField(allow_null=True, help_text="The product of which this is a variant.")
    price = serializers.IntegerField(allow_null=True, help_text="Minor units of the currency, for one piece.")
    currency = serializers.CharField(allow_null=True, help_text="ISO 4217.")
    currentStockCount = serializers.IntegerField(allow_null=True, help_text=STOCK_HELP)
    outOfStock = serializers.BooleanField(help_text="Whether `currentStockCount` is 0.")


class ProductDetails(serializers.Serializer[Any]):
    """What is known of the requested products."""

    products = Product(many=True, help_text="In the order of the question, each once.")
    unknown = serializers.ListField(child=serializers.CharField(), help_text="Ids that name no listed product.")


class Guest(serializers.Serializer[Any]):
    """A guest, and everything that it needs to go on."""

    userId = serializers.CharField(help_text="Who the guest is from now on.")
    jwt = serializers.CharField(help_text="The guest's bearer token, for every call on the basket. Keep it secret.")
    expires = serializers.DateTimeField(help_text=f"The end of the token. {TIME_HELP}")
    basket = Basket()


class Transfer(serializers.Serializer[Any]):
    """A basket on offer to the first caller that brings `jayToken` to the call for guests."""

    expires = serializers.DateTimeField(help_text=f"The end of the offer. {TIME_HELP}")
    jaySource = serializers.CharField(help_text="Where the basket comes from: your name.")
    jayToken = serializers.CharField(help_text="Good once.")
    url = serializers.CharField(allow_null=True, help_text="The address that was sent, with both of them.")
    qrCodeImageUrl = serializers.CharField(
        required=False, help_text="With `qr=true`: where the image of the address is, for as long as the offer; it needs no key."
    )
    qrCodeImageBase64 = serializers.CharField(required=False, help_text="With `qr=true`: the same image, a PNG in base64.")


class Device(serializers.Serializer[Any]):
    """A device that handles a basket with a guest's token."""

    deviceId = serializers.CharField(help_text="The `jti` of its token.")
    transferred = serializers.BooleanField(help_text="Whether it took the basket over from another device.")
    createdAt = serializers.DateTimeField(help_text=TIME_HELP)
    expires = serializers.DateTimeField(help_text=f"The end of its token. {TIME_HELP}")
    revokedAt = serializers.DateTimeField(allow_null=True, help_text="Since when its token is refused.")


class DeviceList(serializers.Serializer[Any]):
    """The devices of a basket whose tokens have not expired, the newest first; at most 200."""

    devices = Device(many=True, help_text="Each with its own token.")


class Comfort(serializers.Serializer[Any]):
    """What is stored for a user."""

    customerId = serializers.CharField(allow_null=True, help_text="As it was stored; null if it was not.")
    paymentToken = serializers.CharField(allow_null=True, help_text="As it was stored; null if it was not.")
    consentedAt = serializers.DateTimeField(
        allow_null=True, help_text=f"Since when the user agrees to it; null: nothing is stored. {TIME_HELP}"
    )


class PublicKey(serializers.Serializer[Any]):
    """A JSON Web Key, on the curve P-256."""

    kty = serializers.CharField(help_text="`EC`.")
    crv = serializers.CharField(help_text="`P-256`.")
    x = serializers.CharField(help_text="The first coordinate, in base64url.")
    y = serializers.CharField(help_text="The second coordinate, in base64url.")
    kid = serializers.CharField(help_text="The key that a token names in its header.")
    use = serializers.CharField(help_text="`sig`.")
    alg = serializers.CharField(help_text="`ES256`.")


class KeySet(serializers.Serializer[Any]):
    """A JSON Web Key Set, without the envelope: this is what JWT libraries read."""

    keys = PublicKey(many=True, help_text="The key that signs first, then those whose tokens still live.")


@functools.cache
def enveloped(body: type[serializers.Serializer[Any]]) -> serializers.Serializer[Any]:
    """Describe the envelope of a success around a body."""
    return inline_serializer(name=f"{body.__name__}Response", fields={"data": body()})


@functools.cache
def paged(item: type[serializers.Serializer[Any]], *, is_endless: bool) -> serializers.Serializer[Any]:
    """Describe the envelope of a page: items, and the token of the next page.

    :param is_endless: whether every page has a token, because the list always continues.
    """
    help_text = "Where to read on." if is_endless else "Only where there are more."
    token = serializers.CharField(required=is_endless, help_text=help_text)
    return inline_serializer(
        name=f"{item.__name__}Page", fields={"data": item(many=True, help_text="The entries of this page."), "nextToken": token}
    )
