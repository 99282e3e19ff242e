"""The page of one product: its stock, who holds it, and why the next buyer would or would not get a piece."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Min, Q, QuerySet, Sum
from django.db.models.functions import Now
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from baskets.admin.core import display
from baskets.admin.repairs import snapshots
from baskets.admin.repairs.definitions import repair_links
from baskets.admin.repairs.registry import RESERVATION_REPAIRS, SESSION_REPAIRS
from baskets.models import Product, StockAdjustment, StockReservation

# The lists of one product: the label, the model, and what its filters choose.
LISTS = (
    (_("Who bought it"), "checkoutitem", {"status": "ORDERED"}),
    (_("Who holds it"), "stockreservation", {"status": "HELD"}),
    (_("Who has it in the cart"), "basketitem", {"list": "cart"}),
    (_("Who saved it for later"), "basketitem", {"list": "saved"}),
)
MAX_HOLDS = 50
MAX_ADJUSTMENTS = 20


@dataclass(frozen=True, kw_only=True)
class Pieces:
    """What the stock of a product is made of. `lapsed` ones are among the held ones."""

    limited: bool
    available: int
    shortfall: int
    supply: int
    held: int
    lapsed: int
    sold: int
    reversed: int
    short: int
    next_end: datetime | None

    @property
    def adds_up(self) -> bool:
        """Return whether the supply equals the sum of its parts."""
        return self.supply == self.available + self.held + self.sold + self.reversed - self.shortfall


def pieces_of(product: Product) -> Pieces:
    """Count the pieces of a product: each sum from the rows themselves, so that the page proves the counters."""
    stock = snapshots.stock_of(product)
    rows = StockReservation.objects.filter(product_id=product.pk)
    lapsed = Q(expires_at__lte=Now())
    held = rows.held().aggregate(
        held=Sum("pieces", default=0),
        lapsed=Sum("pieces", filter=lapsed, default=0),
        next_end=Min("expires_at", filter=~lapsed),
    )
    of_order = Q(session__reversed_at__isnull=True)
    sold = rows.filter(status=StockReservation.Status.SOLD).aggregate(
        sold=Sum("pieces", filter=of_order, default=0), reversed=Sum("pieces", filter=~of_order, default=0)
    )
    short = rows.filter(of_order, status=StockReservation.Status.SHORT).aggregate(short=Sum("pieces", default=0))
    supply = StockAdjustment.objects.filter(product_id=product.pk).aggregate(supply=Sum("delta", default=0))
    return Pieces(
        limited=bool(stock and stock.limited),
        available=stock.available if stock else 0,
        shortfall=stock.shortfall if stock else 0,
        **{name: int(value) for name, value in (sold | short | supply).items()},
        held=int(held["held"]),
        lapsed=int(held["lapsed"]),
        next_end=held["next_end"],
    )


def verdict(product: Product, pieces: Pieces, obtainable: int | None, at: datetime) -> tuple[str, str]:
    """Say in one sentence whether the next buyer would get a piece and why, and in which tone.

    :param obtainable: what a start could hold now, as the API tells it; None is unlimited.
    """
    if not product.listed:
        return (
            "bad",
            gettext("The next buyer would not get one: the product is unlisted, so no basket takes it and no start buys it."),
        )
    if not pieces.limited or obtainable is None:
        return "good", gettext("The next buyer would get one: the product is unlimited, and nothing has to be held for it.")
    if pieces.available:
        return "good", ngettext(
            "The next buyer would get one: %(number)s piece is free.",
            "The next buyer would get one: %(number)s pieces are free.",
            pieces.available,
        ) % {"number": display.count(pieces.available)}
    if obtainable:
        return "good", ngettext(
            "The next buyer would get one: no piece is free, but %(number)s piece is held by checkouts whose time is over, and a start"
            " takes it back.",
            "The next buyer would get one: no piece is free, but %(number)s pieces are held by checkouts whose time is over, and a start"
            " takes them back.",
            pieces.lapsed,
        ) % {"number": display.count(pieces.lapsed)}
    return "bad", _why_not(pieces, at)


def _why_not(pieces: Pieces, at: datetime) -> str:
    if pieces.shortfall:
        return ngettext(
            "The next buyer would not get one: the shop has reported %(number)s piece fewer than are held, and whatever is released pays"
            " that off first.",
            "The next buyer would not get one: the shop has reported %(number)s pieces fewer than are held, and whatever is released pays"
            " that off first.",
            pieces.shortfall,
        ) % {"number": display.count(pieces.shortfall)}
    if pieces.held and pieces.next_end:
        return ngettext(
            "The next buyer would not get one: the last %(number)s piece is held by active checkouts, of which the first ends %(when)s"
            " unless it is ordered.",
            "The next buyer would not get one: the last %(number)s pieces are held by active checkouts, of which the first ends %(when)s"
            " unless it is ordered.",
            pieces.held,
        ) % {"number": display.count(pieces.held), "when": display.distance(pieces.next_end - at)}
    if pieces.held:
        return ngettext(
            "The next buyer would not get one: the last %(number)s piece is held by active checkouts.",
            "The next buyer would not get one: the last %(number)s pieces are held by active checkouts.",
            pieces.held,
        ) % {"number": display.count(pieces.held)}
    if not pieces.sold:
        return gettext("The next buyer would not get one: the shop has supplied no piece.")
    return ngettext(
        "The next buyer would not get one: all of the supply was sold, %(number)s piece.",
        "The next buyer would not get one: all of the supply was sold, %(number)s pieces.",
        pieces.sold,
    ) % {"number": display.count(pieces.sold)}


def lists_of(request: HttpRequest, product: Product) -> list[tuple[str, str]]:
    """Link to the lists of the buyers of a product, as far as the user may see them."""
    return [
        (f"{reverse(f'admin:baskets_{model}_changelist')}?{urlencode(chosen | {'product': product.pk})}", str(label))
        for label, model, chosen in LISTS
        if request.user.has_perm(f"baskets.view_{model}")
    ]


def product_page(request: HttpRequest, product: Product) -> dict[str, Any]:
    """Collect what the page of a product shows."""
    pieces = pieces_of(product)
    at = Product.objects.filter(pk=product.pk).annotate(at=Now()).values_list("at", flat=True).get()
    offered: QuerySet[Any] = Product.objects.offered([product.pk])
    tone, sentence = verdict(product, pieces, next(iter(offered.values_list("obtainable", flat=True)), 0), at)
    holds = (
        StockReservation.objects.held()
        .filter(product_id=product.pk)
        .select_related("basket__partner", "session")
        .order_by("expires_at", "pk")[: MAX_HOLDS + 1]
    )
    shown = list(holds)
    return {
        "title": gettext("Product"),
        "name": format_html("{} ({})", display.visible(product.name, limit=80), display.visible(product.product_id)),
        "product": product,
        "lists": lists_of(request, product),
        "tone": tone,
        "verdict": sentence,
        "facts": [
            (gettext("Name"), display.visible(product.name)),
            (gettext("Brand"), display.visible(product.brand) if product.brand else display.NOTHING),
            (gettext("Variant"), display.visible(product.variant) if product.variant else display.NOTHING),
            (
                gettext("Main product"),
                display.visible(product.main_product_id) if product.main_product_id else display.NOTHING,
            ),
            (gettext("Price"), display.money(product.price, product.currency)),
            (gettext("Listed"), display.yes_no(product.listed)),
            (gettext("Stock is"), gettext("limited") if pieces.limited else gettext("unlimited")),
            (gettext("Latest report of unsold pieces"), snapshots.reported(snapshots.stock_of(product))),
        ],
        "counters": [
            (gettext("supply"), display.count(pieces.supply), gettext("all recorded adjustments together")),
            (gettext("available"), display.count(pieces.available), gettext("free for the next checkout")),
            (
                gettext("held"),
                display.count(pieces.held),
                gettext("by active checkouts, %(number)s of them lapsed") % {"number": display.count(pieces.lapsed)},
            ),
            (gettext("sold"), display.count(pieces.sold), gettext("in orders")),
            (gettext("reversed"), display.count(pieces.reversed), gettext("in orders that were reversed: back as supply")),
            (gettext("shortfall"), display.count(pieces.shortfall), gettext("held or sold beyond what the shop has")),
            (gettext("short"), display.count(pieces.short), gettext("in late orders, without stock behind them")),
        ],
        "adds_up": pieces.adds_up,
        "has_stock": pieces.supply or pieces.held or pieces.sold or pieces.reversed or pieces.limited,
        "holds": [
            (
                (
                    display.basket(hold.basket_id, hold.basket.user_id),
                    display.visible(hold.basket.partner.name),
                    display.page("checkoutsession", hold.session_id, display.order_no(hold.session.order_no)),
                    display.count(hold.pieces),
                    display.moment(hold.created_at),
                    display.moment(hold.expires_at),
                    display.badge(gettext("lapsed"), "bad") if hold.expires_at <= at else display.distance(hold.expires_at - at),
                ),
                [
                    *repair_links(RESERVATION_REPAIRS, request, hold),
                    *repair_links(SESSION_REPAIRS, request, hold.session, only={"abort"}),
                ],
            )
            for hold in shown[:MAX_HOLDS]
        ],
        "all_holds": f"{reverse('admin:baskets_checkoutsession_changelist')}?{urlencode({'status': 'ACTIVE', 'q': product.pk})}"
        if request.user.has_perm("baskets.view_checkoutsession")
        else "",
        "more_holds": len(shown) > MAX_HOLDS,
        "adjustments": [
            (
                display.moment(row.created_at),
                f"{row.delta:+d}",
                row.get_kind_display(),
                display.count(row.reported),
                display.moment(row.as_of),
                display.visible(row.reason, limit=200),
                display.actor_name(row.actor),
            )
            for row in StockAdjustment.objects.filter(product_id=product.pk).order_by("-pk")[:MAX_ADJUSTMENTS]
        ],
        "at": display.moment(at),
    }
