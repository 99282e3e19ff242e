"""What a repair may touch, as a list of names and values: read before and after, so that the difference can be shown."""

from collections.abc import Iterable
from uuid import UUID

from django.db.models import Sum
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from baskets.admin.core import display
from baskets.db.errors import read_with_reconnect
from baskets.domain.support.attention_repairs import assignee_of
from baskets.domain.support.audit_log import assignees
from baskets.models import (
    Attention,
    Basket,
    BasketItem,
    BrokenRule,
    CheckoutItem,
    CheckoutSession,
    Comfort,
    Event,
    FeedPosition,
    GuestToken,
    IdempotencyRecord,
    Product,
    Stock,
    StockAdjustment,
    StockReservation,
    WebhookEndpoint,
)
from baskets.models.basket_snapshot import BasketLine, read_basket
from baskets.models.checkouts import AttentionQuerySet

Snapshot = dict[str, object]
# Counting further would take long, and say no more.
MAX_WAITING = 1000


def of_basket(basket_id: UUID) -> Snapshot:
    """The lists and the life of a basket."""
    contents = read_with_reconnect(lambda: read_basket(basket_id))
    if contents is None:
        return {}
    return {
        "Cart": _lines(contents.cart),
        "Saved": _lines(contents.saved),
        "Checkout": _lines(contents.checkout),
        "Active checkout": display.order_no(contents.session.order_no) if contents.session else "none",
        "Expires": display.moment(contents.expires_at),
        "Hidden since": display.moment(contents.hidden_at),
    }


def of_session(session: CheckoutSession) -> Snapshot:
    """A session with its basket, its holds, their stock, and what is open about it."""
    now = CheckoutSession.objects.get(pk=session.pk)
    holds = StockReservation.objects.filter(session=session).order_by("product_id", "pk")
    products = CheckoutItem.objects.filter(session=session).values_list("product_id", flat=True)
    stock = Stock.objects.filter(pk__in=list(products)).order_by("pk")
    return {
        "Order number": display.order_no(now.order_no),
        "Status": f"{now.get_status_display()}{', late' if now.late else ''}{', reversed' if now.reversed_at else ''}",
        **of_basket(session.basket_id),
        "Reservations": _listed(
            format_html("{} of {}: {}{}", hold.pieces, display.visible(hold.product_id), hold.status.lower(), fate(hold, now))
            for hold in holds
        ),
        "Stock": _listed(_counters(row) for row in stock),
        "Open matters": _open(Attention.objects.filter(session=session)),
    }


def fate(hold: StockReservation, session: CheckoutSession) -> str:
    """What its status alone does not say of a reservation: staff released it, or its order was reversed."""
    status = StockReservation.Status
    if hold.status == status.RELEASED and hold.ended_at != session.released_at:
        return " by staff"
    return ", reversed" if session.reversed_at and hold.status in (status.SOLD, status.SHORT) else ""


def of_webhook(endpoint: WebhookEndpoint) -> Snapshot:
    """Whether a webhook is told of events, and how far it is."""
    now = WebhookEndpoint.objects.get(pk=endpoint.pk)
    waiting = FeedPosition.objects.filter(partner_id=now.partner_id, position__gt=now.position)
    if now.kinds:
        waiting = waiting.filter(kind__in=now.kinds)
    counted = waiting[:MAX_WAITING].count()
    return {
        "State": now.get_state_display(),
        "Failures": display.count(now.failures),
        "Events that wait": f"{display.count(counted)}{' or more' if counted == MAX_WAITING else ''}",
    }


def of_user(basket: Basket) -> Snapshot:
    """What is stored of a user, in the basket and elsewhere."""
    now = Basket.objects.filter(pk=basket.pk).first()
    events = Event.objects.filter(basket_id=basket.pk)
    tracked = events.exclude(tracking={}).count()
    return {
        "User id": display.visible(now.user_id) if now else "a random name",
        "Cart and saved": display.count(BasketItem.objects.filter(basket_id=basket.pk).count()),
        "Lines of the timeline with tracking": display.count(tracked),
        "Remembered answers": display.count(IdempotencyRecord.objects.filter(basket_id=basket.pk).count()),
        "Comfort settings": display.yes_no(Comfort.objects.filter(pk=basket.pk).exists()),
        "Found by the user id": display.yes_no(now is not None),
    }


def of_matter(matter: Attention) -> Snapshot:
    """One matter for staff."""
    now = Attention.objects.select_related("session").get(pk=matter.pk)
    return {
        "Order number": display.order_no(now.session.order_no),
        "Reason": now.get_reason_display(),
        "Settled": "yes" if now.settled_at else "no",
        "By": display.visible(now.settled_by) if now.settled_by else display.NOTHING,
    }


def of_flags(basket: Basket) -> Snapshot:
    """The open matters of a basket."""
    return {"Open matters": _open(Attention.objects.filter(basket_id=basket.pk))}


def of_taking(session: CheckoutSession) -> Snapshot:
    """Who has the open matters of a session in hand."""
    return {
        "Order number": display.order_no(session.order_no),
        "Open matters": _open(Attention.objects.filter(session=session)),
        "In hand of": display.visible(assignee_of(session) or "nobody"),
    }


def of_subject(about: str, subject: str) -> Snapshot:
    """Who has something in hand that has no basket."""
    return {"In hand of": display.visible(assignees(about, [subject]).get(subject, "nobody"))}


def of_rule(rule: BrokenRule) -> Snapshot:
    """What is open about a broken rule."""
    now = BrokenRule.objects.get(pk=rule.pk)
    return {
        "Rule": now.sentence,
        "Broken by": display.count(now.total),
        "Settled": "yes" if now.settled_at else "no",
        "By": display.visible(now.settled_by) if now.settled_by else display.NOTHING,
    }


def of_device(device: GuestToken) -> Snapshot:
    """Whether the token of a device is let in."""
    now = GuestToken.objects.get(pk=device.pk)
    return {
        "Device": str(now.pk),
        "Revoked": display.moment(now.revoked_at),
        "By": display.visible(now.revoked_by) if now.revoked_by else display.NOTHING,
    }


def of_product(product: Product) -> Snapshot:
    """The stock of a product."""
    row = Stock.objects.filter(pk=product.pk).first()
    supply = StockAdjustment.objects.filter(product_id=product.pk).aggregate(supply=Sum("delta", default=0))
    held = StockReservation.objects.held().filter(product_id=product.pk).aggregate(held=Sum("pieces", default=0))
    return {
        "Stock is": "limited" if row and row.limited else "unlimited",
        "Reported": reported(row),
        "Supply": display.count(int(supply["supply"])),
        "Available": display.count(row.available if row else 0),
        "Held": display.count(int(held["held"])),
        "Shortfall": display.count(row.shortfall if row else 0),
    }


def reported(row: Stock | None) -> SafeString | str:
    """The report that counts: its number and its moment."""
    if row is None:
        return display.NOTHING
    return format_html("{} as of {}", "unlimited" if row.reported is None else row.reported, display.moment(row.reported_as_of))


def differences(before: Snapshot, after: Snapshot | None) -> list[tuple[str, object, object, bool]]:
    """Lay two snapshots side by side: name, before, after, and whether it changes."""
    if after is None:
        return [(name, value, "", False) for name, value in before.items()]
    return [(name, before.get(name, ""), value, before.get(name, "") != value) for name, value in after.items()]


def _open(flags: AttentionQuerySet) -> SafeString | str:
    lines = flags.open().select_related("session").order_by("pk")
    return _listed(format_html("{} {}", display.order_no(flag.session.order_no), flag.get_reason_display()) for flag in lines)


def _lines(lines: Iterable[BasketLine]) -> SafeString | str:
    return _listed(format_html("{} of {}", line.count, display.visible(line.product_id)) for line in lines)


def _counters(row: Stock) -> SafeString:
    less = f", shortfall {row.shortfall}" if row.shortfall else ""
    return format_html("{}: {} available{}", display.visible(row.pk), row.available, less)


def _listed(values: Iterable[SafeString]) -> SafeString | str:
    return format_html_join("", "<div>{}</div>", ((value,) for value in values)) or "nothing"
