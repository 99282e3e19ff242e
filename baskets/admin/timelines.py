"""The timeline of all baskets, and the stored responses of idempotent calls."""

from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from baskets.admin.checkouts import OfBasket
from baskets.admin.core import display, filters
from baskets.admin.core.columns import column
from baskets.admin.core.labels import ACTOR_KINDS
from baskets.admin.core.readonly import ReadOnlyAdmin
from baskets.admin.core.search import any_term, of_owner
from baskets.admin.repairs.registry import what_happened
from baskets.models import Event, IdempotencyRecord


@admin.register(Event)
class EventAdmin(OfBasket):
    """What happened, the newest first."""

    list_display = ("time", "what", "of_user", "partner_name", "order", "who")
    list_select_related = ("basket__partner", "session")
    list_filter = (
        filters.choices(_("kind"), "kind", {value: (label, Q(kind=value)) for value, label in Event.Kind.choices}),
        filters.choices(_("author"), "by", {kind: (label, Q(actor_kind=kind)) for kind, label in ACTOR_KINDS.items()}),
        filters.of_partner("basket__partner"),
        filters.past(_("time"), "at"),
    )
    ordering = ("-pk",)
    search_help_text = _("A whole user id, or the beginning of an order number.")
    shown = ("time", "what", "number", "of_user", "partner_name", "order", "who", "request_id", "data", "tracking")

    def of_product(self, term: str) -> Q:
        """Find none: an event belongs to a basket, not to a product."""
        return Q(pk__in=[])

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Read the key of each author, too."""
        rows: QuerySet[Any] = Event.objects.with_keys()
        return rows.order_by(*self.ordering)

    time = column(_("time"), "at", display.moment)
    what = column(_("what"), None, what_happened)

    @admin.display(description=_("order number"))
    def order(self, event: Event) -> SafeString | str:
        """The session it is about, if it is about one."""
        return super().order(event) if event.session_id else display.NOTHING

    @admin.display(description=_("by"))
    def who(self, event: Event) -> SafeString:
        """Who did it."""
        return display.actor(event, partner=event.basket.partner.name)


@admin.register(IdempotencyRecord)
class IdempotencyRecordAdmin(ReadOnlyAdmin[IdempotencyRecord]):
    """Responses that are stored for repeated calls, the newest first."""

    list_display = ("key_shown", "basket_of", "status", "created")
    ordering = ("-pk",)
    search_fields = ("basket_id",)
    search_help_text = _("A whole user id.")
    shown = ("key_shown", "basket_of", "status", "created", "body")

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Any], search_term: str) -> tuple[QuerySet[Any], bool]:
        """Search by the keys of a user's baskets, with or without a basket row."""
        return queryset.filter(any_term(search_term, lambda term: Q(basket_id__in=of_owner(term)))), False

    key_shown = column("Idempotency-Key", "key", display.visible, limit=60)

    @admin.display(description=_("basket"))
    def basket_of(self, row: IdempotencyRecord) -> SafeString:
        """The basket, by its key: it may be one without a row."""
        return display.page("basket", row.basket_id, row.basket_id)

    created = column(_("answered"), "created_at", display.moment)
