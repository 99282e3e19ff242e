"""The filters beside the lists. Times are compared with the database's clock, and no filter counts anything."""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.admin.views.main import SEARCH_VAR
from django.db.models import Exists, OuterRef, Q, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce, Now
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from baskets.admin.core import display
from baskets.admin.core.languages import Text
from baskets.models import Attention, CheckoutSession, Partner

MAX_PARTNERS = 100
PREFIX = re.compile(r"[a-z0-9]{1,16}", re.ASCII)


class Choices(admin.SimpleListFilter):
    """A filter whose choices are fixed. A value that is none of them filters nothing."""

    choices_of: ClassVar[Mapping[str, tuple[Text, Q]]]

    def lookups(self, request: HttpRequest, model_admin: "admin.ModelAdmin[Any]") -> list[tuple[str, Text]]:
        """The choices, as the page shows them."""
        return [(value, label) for value, (label, _) in self.choices_of.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """The rows of the choice."""
        chosen = self.choices_of.get(self.value() or "")
        return queryset.filter(chosen[1]) if chosen else queryset


def choices(heading: Text, parameter: str, offered: Mapping[str, tuple[Text, Q]]) -> type[Choices]:
    """Make a filter of fixed choices.

    :param offered: by the value in the address: the label, and the condition.
    """
    return type("Choice", (Choices,), {"title": heading, "parameter_name": parameter, "choices_of": offered})


def of_status(statuses: Any) -> type[Choices]:
    """Filter by a field `status`."""
    return choices(_("status"), "status", {value: (label, Q(status=value)) for value, label in statuses.choices})


def past(heading: Text, field: str) -> type[Choices]:
    """Filter by a time that has passed: within the last hour, day, week, month, or before."""
    spans = {
        "hour": (_("in the last hour"), timedelta(hours=1)),
        "day": (_("in the last day"), timedelta(days=1)),
        "week": (_("in the last week"), timedelta(days=7)),
        "month": (_("in the last month"), timedelta(days=30)),
    }
    offered = {name: (label, Q(**{f"{field}__gt": Now() - span})) for name, (label, span) in spans.items()} | {
        "before": (_("earlier"), Q(**{f"{field}__lte": Now() - spans["month"][1]}))
    }
    return choices(heading, field, offered)


def coming(heading: Text, field: str) -> type[Choices]:
    """Filter by a time to come: passed, within a day, within a week, later."""
    day, week = Now() + timedelta(days=1), Now() + timedelta(days=7)
    return choices(
        heading,
        field,
        {
            "passed": (_("passed"), Q(**{f"{field}__lte": Now()})),
            "day": (_("within a day"), Q(**{f"{field}__gt": Now(), f"{field}__lte": day})),
            "week": (_("within a week"), Q(**{f"{field}__gt": Now(), f"{field}__lte": week})),
            "later": (_("later"), Q(**{f"{field}__gt": week})),
        },
    )


def of_key(heading: Text, parameter: str, field: str, status: str) -> type[admin.SimpleListFilter]:
    """Filter checkouts of one status by the prefix of an API key, which pages link to: the choice is never offered.

    :param field: the field that holds the prefix.
    """

    class OfKey(admin.SimpleListFilter):
        title = heading
        parameter_name = parameter

        def lookups(self, request: HttpRequest, model_admin: "admin.ModelAdmin[Any]") -> list[tuple[str, str]]:
            prefix = self.value() or ""
            return [(prefix, prefix)] if PREFIX.fullmatch(prefix) else []

        def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
            # The second condition is the one of the index.
            return queryset.filter(Q(**{field: self.value()}), ~Q(**{field: ""}), status=status) if self.value() else queryset

    return OfKey


def of_product() -> type[admin.SimpleListFilter]:
    """Filter by a product, which the page of the product links to: the choice is never offered."""

    class OfProduct(admin.SimpleListFilter):
        title = _("product")
        parameter_name = "product"

        def lookups(self, request: HttpRequest, model_admin: "admin.ModelAdmin[Any]") -> list[tuple[str, str]]:
            product_id = self.value() or ""
            return [(product_id, display.as_plain_text(product_id))] if product_id else []

        def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
            product_id = self.value() or ""
            # The database stores no NUL, so no product has one.
            return queryset.filter(product_id=product_id) if product_id and "\x00" not in product_id else queryset

    return OfProduct


class Range(admin.ListFilter):
    """A filter by a span of time, from and until, in the time zone of the user. A text that cannot be read as a time filters nothing."""

    template = "admin/baskets/range.html"
    field: ClassVar[str]
    parameter_names: ClassVar[tuple[str, str]]

    def __init__(self, request: HttpRequest, params: dict[str, Any], model: Any, model_admin: "admin.ModelAdmin[Any]") -> None:
        super().__init__(request, params, model, model_admin)
        self.names = self.parameter_names
        self.shown = [str((params.pop(name, None) or [""])[-1]) for name in self.names]
        self.limits = [_time(text) for text in self.shown]
        self.wrong = any(text and limit is None for text, limit in zip(self.shown, self.limits, strict=True))
        self.others = [(name, value) for name, value in request.GET.items() if name not in (*self.names, "p")]

    def expected_parameters(self) -> list[str | None]:
        """Return the names of both parameters."""
        return list(self.names)

    def has_output(self) -> bool:
        """Show the form on every list."""
        return True

    def choices(self, changelist: Any) -> Iterator[Mapping[str, object]]:
        """Return none: the filter has two fields and no links."""
        return iter(())

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """The rows of the span."""
        for limit, lookup in zip(self.limits, ("gte", "lt"), strict=True):
            if limit is not None:
                queryset = queryset.filter(**{f"{self.field}__{lookup}": limit})
        return queryset


def between(heading: Text, field: str) -> type[Range]:
    """Make a filter by a span of time."""
    return type("Between", (Range,), {"title": heading, "field": field, "parameter_names": (f"{field}_from", f"{field}_until")})


def _time(text: str) -> datetime | None:
    """Read a time as a form sends it, or none."""
    try:
        value = datetime.fromisoformat(text)
        return value if value.tzinfo else timezone.make_aware(value)
    except (ValueError, OverflowError):
        return None


def of_partner(field: str) -> type[admin.SimpleListFilter]:
    """Filter by partner.

    :param field: the way from the listed model to the partner.
    """

    class PartnerFilter(admin.SimpleListFilter):
        title = _("partner")
        parameter_name = "partner"

        def lookups(self, request: HttpRequest, model_admin: "admin.ModelAdmin[Any]") -> list[tuple[str, str]]:
            rows = Partner.objects.order_by("name").values_list("pk", "name")[:MAX_PARTNERS]
            return [(str(pk), name) for pk, name in rows]

        def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
            value = self.value() or ""
            known = value.isascii() and value.isdigit() and len(value) < len(str(2**63))
            return queryset.filter(**{f"{field}_id": int(value)}) if known else queryset

    return PartnerFilter


def offered_values(changelist: Any) -> set[tuple[str, str]]:
    """List the filter values of an address that the page itself offers, with every span of time: what they say names no user."""
    chosen = {(spec.parameter_name, str(value)) for spec in changelist.filter_specs for value, _ in getattr(spec, "lookup_choices", ())}
    spans = (zip(spec.names, spec.shown, spec.limits, strict=True) for spec in changelist.filter_specs if isinstance(spec, Range))
    return chosen | {(name, shown) for span in spans for name, shown, limit in span if limit is not None}


def is_any(rows: QuerySet[Any]) -> Coalesce:
    """Whether there is one of these rows, looked up for each row of a list by its index.

    PostgreSQL answers an `EXISTS` among the columns of a list by reading all such rows of the table first.
    """
    return Coalesce(Subquery(rows.order_by().values(found=Value(value=True))[:1]), Value(value=False))


def unknown_values(changelist: Any) -> list[tuple[str, str]]:
    """List the values in an address that their filter does not offer, and that filter nothing: the filter and the value of each."""
    return [
        (str(spec.title), str(spec.value()))
        for spec in changelist.filter_specs
        if isinstance(spec, admin.SimpleListFilter)
        and spec.value()
        and spec.value() not in {str(value) for value, _ in spec.lookup_choices}
    ]


ACTIVE_OF_BASKET = CheckoutSession.objects.filter(basket_id=OuterRef("pk"), status="ACTIVE")
OPEN_OF_BASKET = Attention.objects.filter(basket_id=OuterRef("pk"), settled_at__isnull=True)
OPEN_OF_SESSION = Attention.objects.filter(session_id=OuterRef("pk"), settled_at__isnull=True)

InCheckout = choices(
    _("checkout"),
    "checkout",
    {
        "active": (_("has an active checkout"), Q(Exists(ACTIVE_OF_BASKET))),
        "lapsed": (_("its checkout has lapsed"), Q(Exists(ACTIVE_OF_BASKET.filter(expires_at__lte=Now())))),
        "none": (_("none"), ~Q(Exists(ACTIVE_OF_BASKET))),
    },
)
NeedsAttention = choices(_("attention"), "attention", {"open": (_("needs attention"), Q(Exists(OPEN_OF_BASKET)))})
SessionNeedsAttention = choices(_("attention"), "attention", {"open": (_("needs attention"), Q(Exists(OPEN_OF_SESSION)))})
Lapsed = choices(
    _("end of the hold"),
    "hold",
    {
        "live": (_("still to come"), Q(expires_at__gt=Now())),
        "lapsed": (_("passed, not yet swept"), Q(status__in=["ACTIVE", "HELD"], expires_at__lte=Now())),
    },
)
InSandbox = choices(
    _("sandbox"),
    "sandbox",
    {
        "no": (_("no"), Q(basket__partner__sandbox_of__isnull=True)),
        "yes": (_("yes"), Q(basket__partner__sandbox_of__isnull=False)),
    },
)
# Of the flags, those of orders that were refused.
REFUSED = ~Q(reason=Attention.Reason.SHORT)
FlagReason = choices(
    _("reason"),
    "reason",
    {
        "refused": (_("reported as ordered, and refused"), REFUSED),
        **{value: (label, Q(reason=value)) for value, label in Attention.Reason.choices},
    },
)
# The choices that leave the lapsed checkouts, and the flags, which are work for staff.
LAPSED_WORK = "status=ACTIVE&hold=lapsed&sandbox=no"
REFUSED_WORK, SHORT_WORK = "reason=refused&sandbox=no", "reason=short&sandbox=no"


class Defaulted(admin.SimpleListFilter):
    """A filter that starts with its first choice, because that is the list staff come for. A search starts with all rows."""

    offered: ClassVar[Mapping[str, tuple[Text, Q]]]

    def __init__(self, request: HttpRequest, params: dict[str, Any], model: Any, model_admin: "admin.ModelAdmin[Any]") -> None:
        super().__init__(request, params, model, model_admin)
        self._chosen = self.chosen_in(request)

    @classmethod
    def chosen_in(cls, request: HttpRequest) -> str:
        """The choice in force for an address."""
        value = request.GET.get(str(cls.parameter_name), "")
        if value in cls.offered:
            return value
        return "all" if request.GET.get(SEARCH_VAR) else next(iter(cls.offered))

    def lookups(self, request: HttpRequest, model_admin: "admin.ModelAdmin[Any]") -> list[tuple[str, Text]]:
        """The choices, as the page shows them."""
        return [(value, label) for value, (label, _) in self.offered.items()]

    def chosen(self) -> str:
        """The choice in force."""
        return self._chosen

    def choices(self, changelist: Any) -> Any:
        """The links; none of them is "all", unless that is one of the choices."""
        for value, label in self.lookup_choices:
            yield {
                "selected": value == self.chosen(),
                "query_string": changelist.get_query_string({self.parameter_name: value}),
                "display": label,
            }

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """The rows of the choice."""
        return queryset.filter(self.offered[self.chosen()][1])


def defaults_in_force(changelist: Any) -> dict[str, str]:
    """List the choices in force that leave rows out, of filters that an address need not name, by the name of the parameter."""
    defaulted = (spec for spec in changelist.filter_specs if isinstance(spec, Defaulted))
    return {str(spec.parameter_name): spec.chosen() for spec in defaulted if spec.offered[spec.chosen()][1]}


class Shown(Defaulted):
    """Baskets that are shown, first of all: deleted and expired ones stay for their history."""

    title = _("basket")
    parameter_name = "basket"
    offered: ClassVar[Mapping[str, tuple[Text, Q]]] = {
        "shown": (_("open"), Q(hidden_at__isnull=True)),
        "hidden": (_("deleted or expired"), Q(hidden_at__isnull=False)),
        "all": (_("all"), Q()),
    }


class Settled(Defaulted):
    """Open flags, first of all."""

    title = _("flag")
    parameter_name = "matter"
    offered: ClassVar[Mapping[str, tuple[Text, Q]]] = {
        "open": (_("open"), Q(settled_at__isnull=True)),
        "settled": (_("resolved"), Q(settled_at__isnull=False)),
        "all": (_("all"), Q()),
    }
