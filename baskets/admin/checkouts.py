"""Checkout sessions, their items, their reservations, and the attention flags for staff."""

import functools
import operator
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import OuterRef, Q, QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.urls import URLPattern, path
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from baskets.admin import worklist
from baskets.admin.checkout_detail import TONES, current_sessions, judge_order, reservation, session_facts, show_notes, stocked
from baskets.admin.core import display, filters
from baskets.admin.core.columns import column
from baskets.admin.core.labels import flag_comment
from baskets.admin.core.readonly import SAFE, ReadOnlyAdmin, Table
from baskets.admin.core.search import MAX_BASKETS, any_term, of_owner, search_terms, sessions_numbered
from baskets.admin.repairs import snapshots
from baskets.admin.repairs.admin import RepairAdmin
from baskets.admin.repairs.definitions import KnownFacts
from baskets.admin.repairs.registry import ATTENTION_REPAIRS, RESERVATION_REPAIRS, SESSION_REPAIRS
from baskets.models import Attention, BasketItem, CheckoutItem, CheckoutSession, Event, StockReservation


class OfBasket(ReadOnlyAdmin[Any]):
    """Rows that belong to a basket: found by its user, by an order number or by a product."""

    search_fields = ("basket__user_id",)
    search_help_text = _("A whole user id or product id, or the beginning of an order number.")
    # The field with the session of a row. An order number finds the rows of its session; where there is no such field, those of its basket.
    session_field = ""

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Any], search_term: str) -> tuple[QuerySet[Any], bool]:
        """Search for the whole term."""
        terms = search_terms(search_term)
        if not terms:
            return queryset, False
        found = queryset.filter(functools.reduce(operator.or_, map(self._of_owner_or_order, terms)))
        return (found if found.exists() else queryset.filter(any_term(search_term, self.of_product))), False

    def _of_owner_or_order(self, term: str) -> Q:
        owned = of_owner(term)
        if not (numbered := list(sessions_numbered(term).values_list("pk", "basket_id")[:MAX_BASKETS])):
            return Q(basket_id__in=owned)
        sessions, baskets = zip(*numbered, strict=True)
        # The basket is named as well: not every table has an index of its sessions.
        of_order = Q(basket_id__in=baskets, **({f"{self.session_field}__in": sessions} if self.session_field else {}))
        return Q(basket_id__in=owned) | of_order

    def of_product(self, term: str) -> Q:
        """The condition on rows of a product, where rows have one."""
        return Q(product_id=term)

    @admin.display(description=_("basket of"))
    def of_user(self, row: Any) -> SafeString:
        """The basket, by its user."""
        return display.basket(row.basket_id, row.basket.user_id)

    partner_name = column(_("partner"), "basket.partner.name", display.visible)
    product_shown = column(_("product"), "product_id", display.product)

    @admin.display(description=_("order number"))
    def order(self, row: Any) -> SafeString | str:
        """The session, by its order number."""
        return display.page("checkoutsession", row.session_id, display.order_no(row.session.order_no))


def _key(prefix: str) -> SafeString:
    """Link to the key of a prefix."""
    return display.found_page("apikey", prefix, prefix)


@admin.register(CheckoutSession)
class CheckoutSessionAdmin(RepairAdmin, OfBasket):
    """Sessions, the newest first."""

    repairs = SESSION_REPAIRS
    session_field = "pk"
    list_display = ("number", "of_user", "partner_name", "state", "marks", "started", "expires", "finished")
    list_select_related = ("basket__partner",)
    list_filter = (
        filters.of_status(CheckoutSession.Status),
        filters.SessionNeedsAttention,
        filters.Lapsed,
        filters.of_partner("basket__partner"),
        filters.InSandbox,
        filters.past(_("started"), "started_at"),
        filters.of_key(_("held by the key"), "held_by", "started_by_key", CheckoutSession.Status.ACTIVE),
        filters.of_key(_("ordered by the key"), "ordered_by", "finished_by_key", CheckoutSession.Status.ORDERED),
    )
    ordering = ("-pk",)
    shown = (
        "number",
        "of_user",
        "partner_name",
        "state",
        "marks",
        "started",
        "expires",
        "released_at",
        "finished",
        "reversed",
        "started_by",
        "finished_by",
        "language",
        "country",
        "stripe_sdk",
        "price",
    )

    def of_product(self, term: str) -> Q:
        """The sessions in which a product is or was bought."""
        return Q(pk__in=CheckoutItem.objects.filter(product_id=term).values("session_id")[:MAX_BASKETS])

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Annotate whether the session needs attention, whether items failed at its start, and the time of the query."""
        failed = CheckoutItem.objects.filter(session_id=OuterRef("pk"), stocked__lt=0, released_at__isnull=True)
        seen = {"needs_attention": filters.is_any(filters.OPEN_OF_SESSION), "has_failed": filters.is_any(failed), "at": Now()}
        rows: QuerySet[Any] = super().get_queryset(request).annotate(**seen)
        return rows

    def label(self, record: CheckoutSession) -> object:
        """The order number."""
        return record.order_no

    def page_context(self, request: HttpRequest, record: CheckoutSession) -> dict[str, Any]:
        """Name the page by the order, judge it, and show the notes about its basket."""
        context, judged = super().page_context(request, record), judge_order(request, record)
        recommended = {label for _address, label in judged["next_steps"]}
        return context | {
            **judged,
            "tools": [(address, label) for address, label in context["tools"] if label not in recommended],
            "title": gettext("Order"),
            "notes": show_notes(record.basket_id),
            "copy": display.copy_button(record.order_no, gettext("order number")),
        }

    def known_facts(self, record: Any) -> KnownFacts:
        """Whether items failed, which the query has annotated."""
        return KnownFacts(has_failed_items=record.has_failed)

    def tables(self, request: HttpRequest, record: CheckoutSession) -> list[Table]:
        """The items, and their reservations."""
        items = record.items.select_related("product").order_by("position", "product_id")
        holds = record.reservations.order_by("product_id", "pk")
        return [
            Table(
                title=gettext("Items"),
                heads=(gettext("Product"), gettext("Count"), gettext("Price of one"), gettext("Stock")),
                numeric={1, 2},
                rows=[
                    (
                        display.product(item.product_id, item.product.name),
                        display.count(item.count),
                        display.money(item.price, item.currency),
                        stocked(item.stocked, released=item.released_at is not None, ended=item.session.status != "ACTIVE"),
                    )
                    for item in items
                ],
            ),
            Table(
                title=gettext("Reservations"),
                heads=(gettext("Product"), gettext("State")),
                rows=[(display.product(hold.product_id), reservation(hold, record, record.at)) for hold in holds],  # type: ignore[attr-defined]
                nothing=gettext("None: no item of this session needed stock."),
            ),
        ]

    number = column(_("order number"), "order_no", display.order_no)

    @admin.display(description=_("status"))
    def state(self, session: CheckoutSession) -> SafeString:
        """Where it stands; a hold that has ended is not live, even before the sweep."""
        if session.status == CheckoutSession.Status.ACTIVE and session.expires_at <= session.at:  # type: ignore[attr-defined]
            return display.badge(gettext("lapsed"), "bad")
        return display.badge(session.get_status_display(), TONES.get(session.status, "plain"))

    @admin.display(description=_("marks"))
    def marks(self, session: CheckoutSession) -> SafeString | str:
        """What is unusual about it."""
        facts = session_facts(session)
        if session.needs_attention:  # type: ignore[attr-defined]
            return display.badge(", ".join([gettext("needs attention"), *facts]), "bad")
        return ", ".join(facts)

    started_by = column(_("started by key"), "started_by_key", _key)
    finished_by = column(_("finished by key"), "finished_by_key", _key)

    @admin.display(description=_("full price"))
    def price(self, session: CheckoutSession) -> str:
        """What the items that can be ordered cost together."""
        return display.money(session.full_price, session.currency)

    stripe_sdk = column(_("payment by Stripe's SDK in the app"), "stripe_using_sdk", display.yes_no)
    started = column(_("started"), "started_at", display.moment)

    @admin.display(description=_("end of the hold"))
    def expires(self, session: CheckoutSession) -> SafeString | str:
        """When its hold ends, counted down while it is active."""
        if session.status == CheckoutSession.Status.ACTIVE:
            return display.hold_end(session.expires_at, session.at)  # type: ignore[attr-defined]
        return display.moment(session.expires_at)

    finished = column(_("finished"), "finished_at", display.moment)
    reversed = column(_("reversed"), "reversed_at", display.moment)


@admin.register(BasketItem)
class BasketItemAdmin(OfBasket):
    """Items of carts and saved lists."""

    list_display = ("product_shown", "list", "count", "of_user", "partner_name")
    list_select_related = ("basket__partner",)
    list_filter = (
        filters.choices(_("list"), "list", {v: (label, Q(list=v)) for v, label in BasketItem.List.choices}),
        filters.of_partner("basket__partner"),
        filters.of_product(),
    )
    list_display_links = None
    ordering = ("-pk",)
    shown = ("product_shown", "list", "count", "of_user", "partner_name", "position")


@admin.register(CheckoutItem)
class CheckoutItemAdmin(OfBasket):
    """Items of checkout sessions."""

    session_field = "session_id"
    list_display = ("product_shown", "count", "stock", "status", "ended", "order", "of_user", "partner_name")
    list_select_related = ("basket__partner", "session")
    list_filter = (
        filters.choices(_("checkout"), "status", {v: (label, Q(session__status=v)) for v, label in CheckoutSession.Status.choices}),
        filters.between(_("ended"), "session__finished_at"),
        filters.of_partner("basket__partner"),
        filters.of_product(),
    )
    list_display_links = None
    ordering = ("-pk",)
    shown = ("product_shown", "count", "stock", "status", "ended", "order", "of_user", "partner_name", "price", "currency")

    @admin.display(description=_("stock"))
    def stock(self, item: CheckoutItem) -> SafeString:
        """What the item held when its checkout was active."""
        return stocked(item.stocked, released=item.released_at is not None, ended=item.session.status != "ACTIVE")

    @admin.display(description=_("checkout"))
    def status(self, item: CheckoutItem) -> SafeString:
        """The status of its checkout."""
        return display.badge(display.status_of(item.session), TONES.get(item.session.status, "plain"))

    ended = column(_("ended"), "session.finished_at", display.moment)


@admin.register(StockReservation)
class StockReservationAdmin(RepairAdmin, OfBasket):
    """Reservations of stock, the newest first."""

    repairs = RESERVATION_REPAIRS
    session_field = "session_id"
    list_display = ("number", "product_shown", "pieces", "state", "order", "of_user", "since", "expires", "ended")
    list_select_related = ("basket__partner", "session")
    list_filter = (
        filters.of_status(StockReservation.Status),
        filters.Lapsed,
        filters.of_partner("basket__partner"),
        filters.of_product(),
    )
    ordering = ("-pk",)
    shown = ("product_shown", "pieces", "state", "order", "of_user", "partner_name", "since", "expires", "ended")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Annotate the time of the query."""
        rows: QuerySet[Any] = super().get_queryset(request).annotate(at=Now())
        return rows

    def of_product(self, term: str) -> Q:
        """The holds on a product, by way of the sessions: there is no index of all holds by product."""
        sessions = CheckoutItem.objects.filter(product_id=term).values("session_id")[:MAX_BASKETS]
        return Q(session__in=sessions, product_id=term)

    number = column(_("number"), "pk", str)

    @admin.display(description=_("status"))
    def state(self, hold: StockReservation) -> SafeString:
        """Where it stands; a hold that has ended is lapsed, even before the sweep."""
        if hold.status == StockReservation.Status.HELD and hold.expires_at <= hold.at:  # type: ignore[attr-defined]
            return display.badge(gettext("lapsed"), "bad")
        fate = snapshots.fate(hold, hold.session)
        return display.badge(snapshots.with_fate(hold.get_status_display(), fate), "plain" if fate else TONES.get(hold.status, "plain"))

    since = column(_("since"), "created_at", display.moment)

    @admin.display(description=_("end of the hold"))
    def expires(self, hold: StockReservation) -> SafeString | str:
        """When it ends by itself, counted down while it is held."""
        if hold.status == StockReservation.Status.HELD:
            return display.hold_end(hold.expires_at, hold.at)  # type: ignore[attr-defined]
        return display.moment(hold.expires_at)

    ended = column(_("ended"), "ended_at", display.moment)


@admin.register(Attention)
class AttentionAdmin(RepairAdmin, OfBasket):
    """Attention flags: open ones, the oldest first."""

    repairs = ATTENTION_REPAIRS
    session_field = "session_id"
    list_display = ("why", "order", "of_user", "partner_name", "since", "assigned_to", "settled", "settled_by")
    list_select_related = ("basket__partner", "session")
    list_filter = (
        filters.Settled,
        filters.FlagReason,
        filters.of_partner("basket__partner"),
        filters.InSandbox,
    )
    shown = ("why", "reported", "order", "of_user", "partner_name", "since", "assigned_to", "settled", "settled_by", "comment")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Annotate the assignee."""
        rows: QuerySet[Any] = super().get_queryset(request).annotate(assigned_to=Event.objects.assignee())
        return rows

    def known_facts(self, record: Any) -> KnownFacts:
        """The assignee, which the query has annotated."""
        return KnownFacts(assignee=record.assigned_to or "")

    def more_urls(self) -> list[URLPattern]:
        """The work list, which shows open flags and other open work."""
        view = self.admin_site.admin_view(self.work_list)
        return [path("work/", view, name="baskets_worklist"), *super().more_urls()]

    def work_list(self, request: HttpRequest) -> HttpResponse:
        """Show all open work on one page."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        if request.method not in SAFE:
            return HttpResponseNotAllowed(SAFE)
        return self.render(request, "admin/baskets/worklist.html", worklist.page(request))

    def of_product(self, term: str) -> Q:
        """The flags of sessions in which a product is or was bought."""
        return Q(session__in=CheckoutItem.objects.filter(product_id=term).values("session_id")[:MAX_BASKETS])

    def get_ordering(self, request: HttpRequest) -> tuple[str, ...]:
        """Follow the index there is: of open flags by their age."""
        return ("created_at", "pk") if filters.Settled.chosen_in(request) == "open" else ("-pk",)

    @admin.display(description=_("reason"))
    def why(self, flag: Attention) -> str:
        """Why staff should look."""
        return flag.get_reason_display()

    comment = column(_("note"), "note", lambda stored: display.visible(flag_comment(stored)))

    @admin.display(description=_("reported as"))
    def reported(self, flag: Attention) -> SafeString | str:
        """Which checkouts a report without an order number may be about."""
        shown = display.candidates(flag.candidates, current_sessions([flag]), is_settled=flag.settled_at is not None)
        return shown or display.NOTHING

    since = column(_("since"), "created_at", display.moment)

    @admin.display(description=_("assigned to"))
    def assigned_to(self, flag: Attention) -> SafeString:
        """Who works on it."""
        return display.assignee(flag.assigned_to)  # type: ignore[attr-defined]

    settled = column(_("resolved"), "settled_at", display.moment)
