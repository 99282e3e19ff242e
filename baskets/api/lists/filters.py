"""The filters of the lists for back ends: what may be said in the query, and what it means as a question to the database."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import django_filters as filters
from django import forms
from django.db.models import Exists, OuterRef, Q, QuerySet

from baskets.api.protocol.identifiers import IDENTIFIER_RULE, PRODUCT_RULE, is_identifier, is_product_id
from baskets.domain.checkout.order_numbers import read_order_no
from baskets.models import Basket, BasketItem, CheckoutItem, CheckoutSession, Event, FeedPosition
from baskets.models.baskets import basket_key

TIMESTAMP_RULE = "Must be a time in ISO 8601 with its offset, such as 2026-01-31T12:00:00Z."


class TimestampField(forms.Field):
    """A moment with its offset from UTC: without one, nobody knows which moment is meant."""

    def to_python(self, value: Any) -> datetime | None:
        """Read it."""
        if value in self.empty_values:
            return None
        try:
            at = datetime.fromisoformat(value)
            in_utc = at.astimezone(UTC)
        except (ValueError, OverflowError):
            raise forms.ValidationError(TIMESTAMP_RULE) from None
        if at.tzinfo is None:
            raise forms.ValidationError(TIMESTAMP_RULE)
        return in_utc


class IdentifierField(forms.Field):
    """An id as it may stand in a path."""

    def validate(self, value: Any) -> None:
        """Refuse what cannot be an id."""
        if value is not None and not is_identifier(value):
            raise forms.ValidationError(IDENTIFIER_RULE)


class ProductIdField(forms.Field):
    """The id of a product."""

    def validate(self, value: Any) -> None:
        """Refuse what cannot be one."""
        if value is not None and not is_product_id(value):
            raise forms.ValidationError(PRODUCT_RULE)


class WordField(forms.Field):
    """One of a few words, spelled as they are."""

    def __init__(self, *, words: Sequence[str], **options: Any) -> None:
        super().__init__(**options)
        self.words = words

    def validate(self, value: Any) -> None:
        """Name the words where it is none of them."""
        if value is not None and value not in self.words:
            raise forms.ValidationError(f"Must be one of: {', '.join(self.words)}.")


class TimestampFilter(filters.Filter):
    """From a moment on, or before one."""

    field_class = TimestampField


class IdentifierFilter(filters.Filter):
    """An id, whole."""

    field_class = IdentifierField


class ProductIdFilter(filters.Filter):
    """The id of a product, whole."""

    field_class = ProductIdField


class WordFilter(filters.Filter):
    """One of a few words."""

    field_class = WordField

    def __init__(self, words: Sequence[str], **options: Any) -> None:
        super().__init__(words=words, **options)


class FlagFilter(WordFilter):
    """`true` or `false`, and nothing that merely looks like one."""

    def __init__(self, **options: Any) -> None:
        super().__init__(("true", "false"), **options)


class ListFilterSet(filters.FilterSet):
    """The filters of one list, for one partner. The class attributes are what the query may say."""

    def __init__(self, said: Mapping[str, str], rows: QuerySet[Any], *, partner_id: int) -> None:
        super().__init__(said, rows)
        self.partner_id = partner_id

    @property
    def wrong(self) -> dict[str, str]:
        """What cannot be used, and how it must be."""
        return {name: " ".join(str(told) for told in rules) for name, rules in self.form.errors.items()}


class BasketFilterSet(ListFilterSet):
    """Which baskets."""

    userId = IdentifierFilter(field_name="user_id", label="The basket of this user.")  # noqa: N815 (a name of the API)
    productId = ProductIdFilter(method="with_product", label="With this product in one of the three lists.")  # noqa: N815
    hasCheckout = FlagFilter(method="in_checkout", label="Whether a checkout is active.")  # noqa: N815
    changedFrom = TimestampFilter(field_name="last_changed_at", lookup_expr="gte", label="Last changed at this time or later.")  # noqa: N815
    changedBefore = TimestampFilter(field_name="last_changed_at", lookup_expr="lt", label="Last changed before this time.")  # noqa: N815
    expiresFrom = TimestampFilter(field_name="expires_at", lookup_expr="gte", label="Expires at this time or later.")  # noqa: N815
    expiresBefore = TimestampFilter(field_name="expires_at", lookup_expr="lt", label="Expires before this time.")  # noqa: N815

    class Meta:
        model = Basket
        fields: tuple[str, ...] = ()

    def with_product(self, rows: QuerySet[Basket], _name: str, product_id: str) -> QuerySet[Basket]:
        """With a product in cart, saved or checkout."""
        active = CheckoutSession.Status.ACTIVE
        in_lists = BasketItem.objects.filter(product_id=product_id).values("basket_id")
        in_checkout = CheckoutItem.objects.filter(product_id=product_id, session__status=active).values("basket_id")
        return rows.filter(Q(pk__in=in_lists) | Q(pk__in=in_checkout))

    def in_checkout(self, rows: QuerySet[Basket], _name: str, said: str) -> QuerySet[Basket]:
        """With an active checkout, or without."""
        active = Exists(CheckoutSession.objects.active().filter(basket_id=OuterRef("pk")))
        return rows.filter(active if said == "true" else ~active)


class UserFilterSet(ListFilterSet):
    """What belongs to the basket of one user, found by its computed key."""

    userId = IdentifierFilter(method="of_user", label="Of this user.")  # noqa: N815 (a name of the API)

    basket_column = "basket_id"

    def of_user(self, rows: QuerySet[Any], _name: str, user_id: str) -> QuerySet[Any]:
        """Of one user's basket."""
        return rows.filter(**{self.basket_column: basket_key(partner_id=self.partner_id, user_id=user_id)})


class SessionFilterSet(UserFilterSet):
    """Which checkout sessions."""

    orderNo = IdentifierFilter(method="named", label="With this order number.")  # noqa: N815 (a name of the API)
    status = WordFilter(CheckoutSession.Status.values, label="In this state.")
    needsAttention = FlagFilter(method="needing_attention", label="Whether staff have an open matter with it.")  # noqa: N815
    startedFrom = TimestampFilter(field_name="started_at", lookup_expr="gte", label="Started at this time or later.")  # noqa: N815
    startedBefore = TimestampFilter(field_name="started_at", lookup_expr="lt", label="Started before this time.")  # noqa: N815
    finishedFrom = TimestampFilter(field_name="finished_at", lookup_expr="gte", label="Finished at this time or later.")  # noqa: N815
    finishedBefore = TimestampFilter(field_name="finished_at", lookup_expr="lt", label="Finished before this time.")  # noqa: N815

    class Meta:
        model = CheckoutSession
        fields: tuple[str, ...] = ()

    def named(self, rows: QuerySet[CheckoutSession], _name: str, order_no: str) -> QuerySet[CheckoutSession]:
        """By order number, however it is typed."""
        return rows.filter(order_no=read_order_no(order_no))

    def needing_attention(self, rows: QuerySet[CheckoutSession], _name: str, said: str) -> QuerySet[CheckoutSession]:
        """With an open matter for staff, or without."""
        flagged = CheckoutSession.objects.needing_attention().values("pk")
        return rows.filter(pk__in=flagged) if said == "true" else rows.exclude(pk__in=flagged)


class EventFilterSet(UserFilterSet):
    """Which events of the feed."""

    basket_column = "event__basket_id"

    kind = WordFilter(Event.Kind.values, label="Of this kind.")

    class Meta:
        model = FeedPosition
        fields: tuple[str, ...] = ()
