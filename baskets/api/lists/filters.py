"""The filters of the back-end lists: which query parameters exist, and how each narrows the rows."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import django_filters as filters
from django import forms
from django.db.models import Exists, OuterRef, Q, QuerySet

from baskets.api.protocol.identifiers import IDENTIFIER_RULE, PRODUCT_RULE, is_identifier, is_product_id
from baskets.domain.checkout.order_numbers import parse_order_no
from baskets.domain.timestamps import TIMESTAMP_RULE, parse_timestamp
from baskets.models import Basket, BasketItem, CheckoutItem, CheckoutSession, Event, FeedPosition
from baskets.models.baskets import basket_key


class TimestampField(forms.Field):
    """A time with its offset from UTC. A time without an offset is refused: it could mean several moments."""

    def to_python(self, value: Any) -> datetime | None:
        """Parse the time, and convert it to UTC."""
        if value in self.empty_values:
            return None
        at = parse_timestamp(value)
        if at is None:
            raise forms.ValidationError(TIMESTAMP_RULE)
        return at


class CheckedField(forms.Field):
    """A text under a rule.

    :param is_valid: whether a text keeps the rule.
    :param rule: the rule as a sentence.
    """

    def __init__(self, *, is_valid: Callable[[str], bool], rule: str, **options: Any) -> None:
        super().__init__(**options)
        self.is_valid = is_valid
        self.rule = rule

    def validate(self, value: Any) -> None:
        """Refuse a text that breaks the rule."""
        if value is not None and not self.is_valid(value):
            raise forms.ValidationError(self.rule)


class TimestampFilter(filters.Filter):
    """Compares with a time."""

    field_class = TimestampField


class IdentifierFilter(filters.Filter):
    """Compares with the id of a user or an order, under the rule for ids in a path."""

    field_class = CheckedField

    def __init__(self, **options: Any) -> None:
        super().__init__(is_valid=is_identifier, rule=IDENTIFIER_RULE, **options)


class ProductIdFilter(filters.Filter):
    """Compares with the id of a product, under the rule of the catalog."""

    field_class = CheckedField

    def __init__(self, **options: Any) -> None:
        super().__init__(is_valid=is_product_id, rule=PRODUCT_RULE, **options)


class WordFilter(filters.Filter):
    """Compares with one of a few words, in exactly this spelling."""

    field_class = CheckedField

    def __init__(self, words: Sequence[str], **options: Any) -> None:
        self.words = words
        super().__init__(is_valid=words.__contains__, rule=f"Must be one of: {', '.join(words)}.", **options)


class FlagFilter(WordFilter):
    """`true` or `false`. Other spellings are refused."""

    def __init__(self, **options: Any) -> None:
        super().__init__(("true", "false"), **options)


class ListFilterSet(filters.FilterSet):
    """The filters of one list, for one partner. Each class attribute is a parameter of the query."""

    def __init__(self, params: Mapping[str, str], rows: QuerySet[Any], *, partner_id: int) -> None:
        super().__init__(params, rows)
        self.partner_id = partner_id

    @property
    def field_errors(self) -> dict[str, str]:
        """The rule that each unusable parameter breaks, by the name of the parameter."""
        return {name: " ".join(map(str, errors)) for name, errors in self.form.errors.items()}


class BasketFilterSet(ListFilterSet):
    """The filters of the list of baskets."""

    userId = IdentifierFilter(field_name="user_id", label="The basket of this user.")
    productId = ProductIdFilter(method="filter_product", label="With this product in one of the three lists.")
    hasCheckout = FlagFilter(method="filter_has_checkout", label="Whether a checkout is active.")
    changedFrom = TimestampFilter(field_name="last_changed_at", lookup_expr="gte", label="Last changed at this time or later.")
    changedBefore = TimestampFilter(field_name="last_changed_at", lookup_expr="lt", label="Last changed before this time.")
    expiresFrom = TimestampFilter(field_name="expires_at", lookup_expr="gte", label="Expires at this time or later.")
    expiresBefore = TimestampFilter(field_name="expires_at", lookup_expr="lt", label="Expires before this time.")

    class Meta:
        model = Basket
        fields: tuple[str, ...] = ()

    def filter_product(self, rows: QuerySet[Basket], _name: str, product_id: str) -> QuerySet[Basket]:
        """Keep baskets with a product in cart, saved or checkout."""
        active = CheckoutSession.Status.ACTIVE
        in_lists = BasketItem.objects.filter(product_id=product_id).values("basket_id")
        in_checkout = CheckoutItem.objects.filter(product_id=product_id, session__status=active).values("basket_id")
        return rows.filter(Q(pk__in=in_lists) | Q(pk__in=in_checkout))

    def filter_has_checkout(self, rows: QuerySet[Basket], _name: str, flag: str) -> QuerySet[Basket]:
        """Keep baskets with an active checkout, or those without."""
        active = Exists(CheckoutSession.objects.active().filter(basket_id=OuterRef("pk")))
        return rows.filter(active if flag == "true" else ~active)


class UserFilterSet(ListFilterSet):
    """Filters rows by the user of their basket, whose primary key is computed from the user id."""

    userId = IdentifierFilter(method="filter_user", label="Of this user.")

    basket_column = "basket_id"

    def filter_user(self, rows: QuerySet[Any], _name: str, user_id: str) -> QuerySet[Any]:
        """Keep the rows of one user's basket."""
        return rows.filter(**{self.basket_column: basket_key(partner_id=self.partner_id, user_id=user_id)})


class SessionFilterSet(UserFilterSet):
    """The filters of the list of checkout sessions."""

    orderNo = IdentifierFilter(method="filter_order_no", label="With this order number.")
    status = WordFilter(CheckoutSession.Status.values, label="In this state.")
    needsAttention = FlagFilter(method="filter_needs_attention", label="Whether it has an open attention flag.")
    startedFrom = TimestampFilter(field_name="started_at", lookup_expr="gte", label="Started at this time or later.")
    startedBefore = TimestampFilter(field_name="started_at", lookup_expr="lt", label="Started before this time.")
    finishedFrom = TimestampFilter(field_name="finished_at", lookup_expr="gte", label="Finished at this time or later.")
    finishedBefore = TimestampFilter(field_name="finished_at", lookup_expr="lt", label="Finished before this time.")

    class Meta:
        model = CheckoutSession
        fields: tuple[str, ...] = ()

    def filter_order_no(self, rows: QuerySet[CheckoutSession], _name: str, order_no: str) -> QuerySet[CheckoutSession]:
        """Keep the session with an order number, in any letter case, with or without dashes."""
        return rows.filter(order_no=parse_order_no(order_no))

    def filter_needs_attention(self, rows: QuerySet[CheckoutSession], _name: str, flag: str) -> QuerySet[CheckoutSession]:
        """Keep sessions with an open attention flag, or those without."""
        flagged = CheckoutSession.objects.needing_attention().values("pk")
        return rows.filter(pk__in=flagged) if flag == "true" else rows.exclude(pk__in=flagged)


class EventFilterSet(UserFilterSet):
    """The filters of the event feed."""

    basket_column = "event__basket_id"

    kind = WordFilter(Event.Kind.values, label="Of this kind.")

    class Meta:
        model = FeedPosition
        fields: tuple[str, ...] = ()
