"""What calls bring: one serializer for each body, exact about types. JSON that merely looks right is refused.

What calls are answered is written in `rendering`, and described for the schema in `shapes`.
"""

import functools
from collections.abc import Iterator, Mapping
from typing import Any

from django.core.validators import RegexValidator
from drf_spectacular.drainage import set_override
from rest_framework import serializers
from rest_framework.fields import empty
from rest_framework.settings import api_settings

from baskets import conf
from baskets.api.protocol.identifiers import IDENTIFIER_RULE, MAX_LENGTH, PRODUCT_RULE, is_identifier, is_product_id
from baskets.api.serializers.transfer_links import URL_RULE as ADDRESS_RULE
from baskets.api.serializers.transfer_links import is_http_url
from baskets.domain.checkout.order_numbers import parse_order_no

NON_FIELD_KEY = api_settings.NON_FIELD_ERRORS_KEY
TWO_LETTER_CODE = RegexValidator(r"^[A-Za-z]{2}\Z", message="Must be two letters.")


class StrictBooleanField(serializers.BooleanField):
    """`true` or `false`: DRF's own field takes "yes", 1 and "off" as well, and one of them would abort a checkout."""

    default_error_messages = {"invalid": "Must be true or false."}

    def to_internal_value(self, data: Any) -> bool:
        """Take a JSON boolean."""
        if not isinstance(data, bool):
            self.fail("invalid")
        return data


class StrictStringField(serializers.CharField):
    """A JSON string as it was sent: nothing is trimmed, and no number is turned into one."""

    default_error_messages = {"invalid": "Must be a string."}

    def __init__(self, **options: Any) -> None:
        super().__init__(trim_whitespace=False, **options)

    def to_internal_value(self, data: Any) -> str:
        """Take a JSON string."""
        if not isinstance(data, str):
            self.fail("invalid")
        return data


class CountField(serializers.IntegerField):
    """How many pieces: a whole number, however JSON writes it, from -1 (remove) over 0 (save for later) to the limit."""

    default_error_messages = {"invalid": "Must be a whole number."}
    least = -1

    def __init__(self, **options: Any) -> None:
        super().__init__(min_value=self.least, max_value=conf.piece_limit(), **options)

    def to_internal_value(self, data: Any) -> int:
        """Take a whole number as `parse_json` returns it; in Python true is an int, too."""
        if type(data) is not int:
            self.fail("invalid")
        return data


class GuestCountField(CountField):
    """How many pieces of a product that a guest begins with: 0 (save for later) to the limit."""

    least = 0


class RequestSerializer(serializers.Serializer[Any]):
    """An object that a call brings. A field that may be null and has a default counts as absent where it is null."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Name the schema component without `Request`: drf-spectacular appends it to the name of every request component."""
        super().__init_subclass__(**options)
        set_override(cls, "component_name", cls.__name__.removesuffix("Request"))

    def to_internal_value(self, data: Any) -> Any:
        """Leave out what counts as absent, then check the rest."""
        if isinstance(data, Mapping):
            data = {name: value for name, value in data.items() if value is not None or name not in self._null_is_absent}
        return super().to_internal_value(data)

    @functools.cached_property
    def _null_is_absent(self) -> frozenset[str]:
        return frozenset(name for name, field in self.fields.items() if field.allow_null and field.default is not empty)


class EmptyBody(RequestSerializer):
    """The body of a call that needs none; whatever is in it is ignored."""


class PlaceItemRequest(RequestSerializer):
    """The body of POST on a product. A count of null is refused."""

    count = CountField(
        default=1,
        help_text="Above 0: into the cart. 0: into the saved list. -1: removed. Overwrites, never adds up.",
    )


class ChangeItemRequest(RequestSerializer):
    """The body of PATCH on a product."""

    count = CountField(default=None, allow_null=True, help_text="As with POST; null or absent changes nothing.")


class GuestProduct(RequestSerializer):
    """One product that a guest begins with."""

    default_error_messages = {"invalid": "Must be an object."}

    productId = StrictStringField(max_length=MAX_LENGTH, help_text="The product identifier.")  # noqa: N815 (the reference's name)
    count = GuestCountField(default=1, allow_null=True, help_text="How many pieces, into the cart; 0: into the saved list.")

    def validate_productId(self, value: str) -> str:  # noqa: N802 (DRF finds it by the field's name)
        """Take an identifier as the path would."""
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
        """Merge the same products: pieces by product, in the order in which each was first named."""
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
        help_text="An http or https address, to whose query `jaySource` and `jayToken` are added. The rest of it stays as it is.",
    )

    def validate_url(self, value: str | None) -> str | None:
        """Take what a browser can be sent to."""
        if value is not None and not is_http_url(value):
            raise serializers.ValidationError(ADDRESS_RULE)
        return value


class ChangeComfortRequest(RequestSerializer):
    """The body of PATCH on comfort settings. A field that is null is deleted, one that is absent stays."""

    customerId = StrictStringField(  # noqa: N815 (the name follows the reference)
        required=False, allow_null=True, max_length=255, help_text="What names the user to the shop, so that nothing is typed again."
    )
    paymentToken = StrictStringField(  # noqa: N815 (the name follows the reference)
        required=False, allow_null=True, max_length=4096, help_text="What the payment provider gave for paying with one click."
    )
    consent = StrictBooleanField(
        required=False,
        allow_null=True,
        help_text="true: the user agrees to both being stored; needed once. false: everything stored is deleted.",
    )


class StartCheckoutRequest(RequestSerializer):
    """The body of the start of a checkout."""

    language = StrictStringField(
        default="", allow_null=True, allow_blank=True, validators=[TWO_LETTER_CODE], help_text="ISO 639-1, as `en`."
    )
    country = StrictStringField(
        default="", allow_null=True, allow_blank=True, validators=[TWO_LETTER_CODE], help_text="ISO 3166-1, as `DE`."
    )
    stripeUsingSdk = StrictBooleanField(default=False, allow_null=True)  # noqa: N815 (the name is the reference's)

    def validate_language(self, value: str) -> str:
        """Store it in small letters."""
        return value.lower()

    def validate_country(self, value: str) -> str:
        """Store it in capital letters."""
        return value.upper()


class FinishCheckoutRequest(RequestSerializer):
    """The body of finish-active."""

    ordered = StrictBooleanField(
        help_text=(
            "true: the checkout was a success, and its products are ordered now. "
            "false: it was aborted, and its products go back to the cart."
        )
    )
    orderNo = StrictStringField(  # noqa: N815 (the name follows the reference)
        default=None,
        allow_null=True,
        max_length=255,
        help_text="Names the checkout that is meant, so that a late repeat can never hit the next one.",
    )

    def validate_orderNo(self, value: str | None) -> str | None:  # noqa: N802 (DRF finds it by the field's name)
        """Take an order number as it was meant."""
        if value is None:
            return None
        if not is_identifier(value):
            raise serializers.ValidationError(IDENTIFIER_RULE)
        return parse_order_no(value)


def validate_body(body: type[serializers.BaseSerializer[Any]], value: Mapping[str, Any]) -> Mapping[str, Any]:
    """Check a body, and return its fields.

    :raises ValidationError: something is wrong with it.
    """
    # The type checker takes a class whose instances have no hash for one that has none itself.
    fields: Mapping[str, Any] = _cached_serializer(body, conf.piece_limit()).run_validation(value)  # type: ignore[arg-type]
    return fields


@functools.cache
def _cached_serializer(body: type[serializers.BaseSerializer[Any]], piece_limit: int) -> serializers.BaseSerializer[Any]:
    """Make the one serializer that reads all bodies of a kind, while the limit that its fields know is this one.

    Making a serializer costs many times what reading a body does, and `run_validation` keeps nothing of what it reads.
    """
    del piece_limit
    return body()


def check_product_ids(value: Any) -> tuple[list[str], dict[str, str]]:
    """Check the bare array of ids that asks for product details, and say what is wrong with which of them."""
    if not isinstance(value, list):
        return [], {"body": "Must be an array of product ids."}
    if len(value) > conf.details_limit():
        return [], {"body": f"Must not have more than {conf.details_limit()} ids."}
    return value, {f"body[{place}]": PRODUCT_RULE for place, item in enumerate(value) if not is_product_id(item)}


def errors_by_path(errors: Mapping[Any, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Name each wrong field of a body by where it stands, as `products[2].count`, and say how it must be."""
    for name, wrong in errors.items():
        if name == NON_FIELD_KEY:
            at = before
        elif isinstance(name, int):
            at = f"{before}[{name}]"
        else:
            at = f"{before}.{name}" if before else name
        if isinstance(wrong, Mapping):
            yield from errors_by_path(wrong, at)
        else:
            yield at, " ".join(map(str, wrong))
