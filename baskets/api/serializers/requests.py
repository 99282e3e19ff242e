"""The bodies of requests, one serializer for each. Responses: `representations` renders, `responses` describes them.

The docstrings and help texts are part of the published schema.
"""

import functools
import re
from typing import Any

from drf_spectacular.drainage import set_override
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.fields import empty

from baskets import conf
from baskets.api.protocol.identifiers import IDENTIFIER_RULE, MAX_LENGTH, PRODUCT_RULE, is_identifier, is_product_id
from baskets.api.serializers.fields import CountField, GuestCountField, StrictBooleanField, StrictStringField
from baskets.api.serializers.transfer_links import URL_RULE, is_http_url
from baskets.domain.checkout.order_numbers import parse_order_no

TWO_LETTERS = re.compile("([A-Za-z]{2})?")


@extend_schema_field({"type": "string", "pattern": "^([A-Za-z]{2})?$"})
class TwoLetterCodeField(serializers.Field[str, str, str, Any]):
    """A language or a country. Empty text and null count as absent."""

    default_error_messages = {"invalid": "Must be a string.", "length": "Must be two letters."}

    def __init__(self, **options: Any) -> None:
        super().__init__(default="", allow_null=True, **options)

    def to_internal_value(self, data: Any) -> str:
        """Accept two letters, or none."""
        if not isinstance(data, str):
            self.fail("invalid")
        if not TWO_LETTERS.fullmatch(data):
            self.fail("length")
        return data


class RequestSerializer(serializers.Serializer[Any]):
    """A JSON object. A field that may be null and has a default counts as absent where it is null."""

    # Whether clients send the same few bodies again and again, such as `{"ordered": true}`. Each of these is read once, and kept.
    recurs = False

    def __init_subclass__(cls, **options: Any) -> None:
        """Name the schema component without `Request`, which drf-spectacular appends."""
        super().__init_subclass__(**options)
        set_override(cls, "component_name", cls.__name__.removesuffix("Request"))

    def to_internal_value(self, data: Any) -> Any:
        """Drop the fields that count as absent, then check the rest."""
        if isinstance(data, dict):
            data = {name: value for name, value in data.items() if value is not None or name not in self._null_is_absent}
        return super().to_internal_value(data)

    @functools.cached_property
    def _writable_fields(self) -> list[serializers.Field[Any, Any, Any, Any]]:
        """The fields, found once for all bodies."""
        return list(super()._writable_fields)

    @functools.cached_property
    def _null_is_absent(self) -> frozenset[str]:
        return frozenset(name for name, field in self.fields.items() if field.allow_null and field.default is not empty)


class EmptyBody(RequestSerializer):
    """The body of a call that needs none; whatever is in it is ignored."""


class PlaceItemRequest(RequestSerializer):
    """The body of POST on a product. A count of null is refused."""

    recurs = True

    count = CountField(
        default=1,
        help_text="Above 0: into the cart. 0: into the saved list. -1: removed. Sets the count, never adds to it. Absent: 1.",
    )


class ChangeItemRequest(RequestSerializer):
    """The body of PATCH on a product."""

    count = CountField(default=None, allow_null=True, help_text="As with POST; null or absent changes nothing.")


class GuestProduct(RequestSerializer):
    """One product that a guest begins with."""

    default_error_messages = {"invalid": "Must be an object."}

    productId = StrictStringField(max_length=MAX_LENGTH, help_text="The product identifier.")
    count = GuestCountField(
        default=1, allow_null=True, help_text="The pieces to put into the cart; 0: into the saved list. Null or absent: 1."
    )

    def validate_productId(self, value: str) -> str:
        """Apply the rule for product ids in a path."""
        if not is_product_id(value):
            raise serializers.ValidationError(PRODUCT_RULE)
        return value


class CreateGuestRequest(RequestSerializer):
    """The body of the call that makes a guest."""

    # Not `many=True`, which would let products be null as well as the array.
    products: serializers.ListSerializer[Any] = serializers.ListSerializer(
        child=GuestProduct(),
        default=list,
        allow_null=True,
        error_messages={"not_a_list": "Must be an array."},
        help_text="What the basket begins with: all of it, or nothing is done. Counts of the same product add up.",
    )

    def validate_products(self, value: list[dict[str, Any]]) -> dict[str, int]:
        """Add up the counts of each product.

        :returns: pieces by product id, in the order of the first mentions.
        """
        counts: dict[str, int] = {}
        for product in value:
            counts[product["productId"]] = counts.get(product["productId"], 0) + product["count"]
        if any(count > conf.piece_limit() for count in counts.values()):
            raise serializers.ValidationError(f"Counts of the same product must not add up to more than {conf.piece_limit()}.")
        return counts


class TransferBasketRequest(RequestSerializer):
    """The body of the call that offers a basket to another device."""

    url = StrictStringField(
        default=None,
        allow_null=True,
        help_text="An http or https address, to whose query `jaySource` and `jayToken` are added. The rest of it stays unchanged.",
    )

    def validate_url(self, value: str | None) -> str | None:
        """Accept an address that a browser can open."""
        if value is not None and not is_http_url(value):
            raise serializers.ValidationError(URL_RULE)
        return value


class ChangeComfortRequest(RequestSerializer):
    """The body of PATCH on comfort settings. A field that is null is deleted, one that is absent stays."""

    customerId = StrictStringField(
        required=False, allow_null=True, max_length=255, help_text="What names the user to the shop, so that nothing is typed again."
    )
    paymentToken = StrictStringField(
        required=False, allow_null=True, max_length=4096, help_text="What the payment provider gave for paying with one click."
    )
    consent = StrictBooleanField(
        required=False,
        allow_null=True,
        help_text="true: the user agrees to both being stored; needed once. false: everything stored is deleted.",
    )


class StartCheckoutRequest(RequestSerializer):
    """The body of the start of a checkout."""

    recurs = True

    language = TwoLetterCodeField(help_text="ISO 639-1, such as `en`, in any letter case.")
    country = TwoLetterCodeField(help_text="ISO 3166-1 alpha-2, such as `DE`, in any letter case.")
    stripeUsingSdk = StrictBooleanField(
        default=False, allow_null=True, help_text="Whether the app pays with Stripe's SDK. It is stored, and changes nothing here."
    )

    def validate_language(self, value: str) -> str:
        """Convert it to lower case."""
        return value.lower()

    def validate_country(self, value: str) -> str:
        """Convert it to upper case."""
        return value.upper()


class FinishCheckoutRequest(RequestSerializer):
    """The body of finish-active."""

    recurs = True

    ordered = StrictBooleanField(
        help_text=(
            "true: the checkout was a success, and its products are ordered now. "
            "false: it was aborted, and its products go back to the cart."
        )
    )
    orderNo = StrictStringField(
        default=None,
        allow_null=True,
        max_length=255,
        help_text="Names the checkout that is meant, so that a late repeat can never hit the next one.",
    )

    def validate_orderNo(self, value: str | None) -> str | None:
        """Convert an order number to the form in which it is stored."""
        if value is None:
            return None
        if not is_identifier(value):
            raise serializers.ValidationError(IDENTIFIER_RULE)
        return parse_order_no(value)
