"""What a repair may touch, as names and values: read before and after, so that the page can show the difference. Changes nothing."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

from django.db.models import Sum
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from baskets import conf
from baskets.admin.core import display
from baskets.db.errors import read_with_reconnect
from baskets.domain.events import webhook_control
from baskets.domain.support.assignments import assignees
from baskets.domain.support.attention_repairs import assignee_of
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
    Partner,
    Product,
    Stock,
    StockAdjustment,
    StockReservation,
    WebhookEndpoint,
)
from baskets.models.basket_snapshot import BasketLine, read_basket
from baskets.models.checkouts import AttentionQuerySet

Snapshot = dict[str, object]
# A higher count takes long and adds no information.
MAX_WAITING = 1000
NOT_ASSIGNED = _("not assigned")
STATUS_WORDS = {
    StockReservation.Status.HELD: _("held"),
    StockReservation.Status.SOLD: _("sold"),
    StockReservation.Status.RELEASED: _("released"),
    StockReservation.Status.FAILED: _("failed"),
    StockReservation.Status.SHORT: _("short"),
}


class Difference(NamedTuple):
    """One value before and after a repair."""

    name: str
    before: object
    after: object
    is_changed: bool


def of_basket(basket_id: UUID) -> Snapshot:
    """The lists and the times of a basket; empty if it no longer exists."""
    snapshot = read_with_reconnect(lambda: read_basket(basket_id))
    if snapshot is None:
        return {}
    return {
        gettext("Cart"): _lines(snapshot.cart),
        gettext("Saved"): _lines(snapshot.saved),
        gettext("Checkout"): _lines(snapshot.checkout),
        gettext("Active checkout"): display.order_no(snapshot.session.order_no) if snapshot.session else gettext("none"),
        gettext("Expires"): display.moment(snapshot.expires_at),
        gettext("Closed"): display.moment(snapshot.hidden_at),
    }


def of_session(session: CheckoutSession) -> Snapshot:
    """A checkout with its basket, its holds, their stock, and its open flags."""
    now = CheckoutSession.objects.get(pk=session.pk)
    holds = StockReservation.objects.filter(session=session).order_by("product_id", "pk")
    products = CheckoutItem.objects.filter(session=session).values_list("product_id", flat=True)
    stock = Stock.objects.filter(pk__in=list(products)).order_by("pk")
    return {
        gettext("Order number"): display.order_no(now.order_no),
        gettext("Status"): ", ".join(
            word
            for word, holds in (
                (now.get_status_display(), True),
                (gettext("ordered late"), now.late),
                (gettext("reversed"), now.reversed_at),
            )
            if holds
        ),
        gettext("Hold ends"): display.moment(now.expires_at),
        **of_basket(session.basket_id),
        gettext("Reservations"): _listed(
            format_html(
                "{} \N{MULTIPLICATION SIGN} {}: {}",
                hold.pieces,
                display.visible(hold.product_id),
                with_fate(word_of(hold), fate(hold, now)),
            )
            for hold in holds
        ),
        gettext("Stock"): _listed(_counters(row) for row in stock),
        gettext("Open flags"): _open(Attention.objects.filter(session=session)),
    }


def fate(hold: StockReservation, session: CheckoutSession) -> str:
    """Describe what the status of a reservation does not show: staff released it, or its order was reversed; else nothing."""
    status = StockReservation.Status
    if hold.status == status.RELEASED and hold.ended_at != session.released_at:
        return gettext("by staff")
    return gettext("reversed") if session.reversed_at and hold.status in (status.SOLD, status.SHORT) else ""


def word_of(hold: StockReservation) -> str:
    """Name the status of a reservation in a word."""
    return str(STATUS_WORDS[StockReservation.Status(hold.status)])


def with_fate(words: str, fate: str) -> str:
    """Join a state and what `fate` adds to it."""
    return ", ".join(filter(None, (words, fate)))


def of_partner(partner: Partner) -> Snapshot:
    """The settings of a partner."""
    return partner_settings(Partner.objects.get(pk=partner.pk))


def partner_settings(partner: Partner) -> Snapshot:
    """Name the settings of a partner, and write their values."""
    default = display.duration(conf.hold_duration())
    own = None if partner.hold_seconds is None else timedelta(seconds=partner.hold_seconds)
    return {
        gettext("Late order without stock"): partner.get_late_orders_display(),
        gettext("Hold"): gettext("%(time)s, the default of the service") % {"time": default} if own is None else display.duration(own),
        gettext("Share of a product"): share_of(partner),
        gettext("Orders are reported by"): gettext("server keys only") if partner.orders_need_server_key else gettext("client keys too"),
        gettext("Web origins"): display.visible(", ".join(partner.origins)) if partner.origins else gettext("none"),
    }


def share_of(partner: Partner) -> str:
    """Write the share of the unsold pieces of a product that a partner's checkouts may hold at once."""
    percent = conf.partner_share_percent() if partner.share_percent is None else partner.share_percent
    share = gettext("%(number)s percent") % {"number": percent} if percent else gettext("no limit")
    return gettext("%(share)s, the default of the service") % {"share": share} if partner.share_percent is None else share


def of_webhook(endpoint: WebhookEndpoint) -> Snapshot:
    """The state of a webhook, and how many events wait for it."""
    now = WebhookEndpoint.objects.get(pk=endpoint.pk)
    waiting = FeedPosition.objects.filter(partner_id=now.partner_id, position__gt=now.position)
    if now.kinds:
        waiting = waiting.filter(kind__in=now.kinds)
    counted = waiting[:MAX_WAITING].count()
    return {
        gettext("State"): now.get_state_display(),
        gettext("Failures"): display.count(now.failures),
        gettext("Waiting events"): gettext("%(number)s or more") % {"number": display.count(counted)}
        if counted == MAX_WAITING
        else display.count(counted),
        gettext("Refused events"): display.count(len(webhook_control.blocked_events(now))),
        gettext("Test event"): gettext("requested, and sent within seconds") if now.test_requested_at else gettext("none requested"),
    }


def of_user(basket: Basket) -> Snapshot:
    """What is stored of a user, in the basket and elsewhere."""
    now = Basket.objects.filter(pk=basket.pk).first()
    events = Event.objects.filter(basket_id=basket.pk)
    tracked = events.exclude(tracking={}).count()
    return {
        gettext("User id"): display.visible(now.user_id) if now else gettext("a random name"),
        gettext("Cart and saved"): display.count(BasketItem.objects.filter(basket_id=basket.pk).count()),
        gettext("Events with tracking"): display.count(tracked),
        gettext("Stored responses"): display.count(IdempotencyRecord.objects.filter(basket_id=basket.pk).count()),
        gettext("Comfort settings"): display.yes_no(Comfort.objects.filter(pk=basket.pk).exists()),
        gettext("Found by the user id"): display.yes_no(now is not None),
    }


def of_notes(basket_id: UUID) -> Snapshot:
    """The number of notes about a basket."""
    return {gettext("Notes"): display.count(Event.objects.filter(basket_id=basket_id).notes().count())}


def of_flag(flag: Attention) -> Snapshot:
    """One attention flag."""
    now = Attention.objects.select_related("session").get(pk=flag.pk)
    return {
        gettext("Order number"): display.order_no(now.session.order_no),
        gettext("Reason"): now.get_reason_display(),
        gettext("Resolved"): gettext("yes") if now.settled_at else gettext("no"),
        gettext("By"): display.visible(now.settled_by) if now.settled_by else display.NOTHING,
    }


def of_flags(basket: Basket) -> Snapshot:
    """The open flags of a basket."""
    return {gettext("Open flags"): _open(Attention.objects.filter(basket_id=basket.pk))}


def of_assignment(session: CheckoutSession) -> Snapshot:
    """The assignee of a checkout, and its open flags."""
    return {
        gettext("Order number"): display.order_no(session.order_no),
        gettext("Open flags"): _open(Attention.objects.filter(session=session)),
        gettext("Assigned to"): display.visible(assignee) if (assignee := assignee_of(session)) else NOT_ASSIGNED,
    }


def of_subject(about: str, subject: str) -> Snapshot:
    """The assignee of a record that belongs to no basket."""
    assignee = assignees(about, [subject]).get(subject)
    return {gettext("Assigned to"): display.visible(assignee) if assignee else NOT_ASSIGNED}


def of_rule(rule: BrokenRule) -> Snapshot:
    """A finding of the invariant checker."""
    now = BrokenRule.objects.get(pk=rule.pk)
    return {
        gettext("Rule"): now.sentence,
        gettext("Broken by"): display.count(now.total),
        gettext("Resolved"): gettext("yes") if now.settled_at else gettext("no"),
        gettext("By"): display.visible(now.settled_by) if now.settled_by else display.NOTHING,
    }


def of_device(device: GuestToken) -> Snapshot:
    """Whether the token of a device is valid."""
    now = GuestToken.objects.get(pk=device.pk)
    return {
        gettext("Device"): str(now.pk),
        gettext("Revoked"): display.moment(now.revoked_at),
        gettext("By"): display.visible(now.revoked_by) if now.revoked_by else display.NOTHING,
    }


def of_product(product: Product) -> Snapshot:
    """The stock of a product."""
    row = Stock.objects.filter(pk=product.pk).first()
    supply = StockAdjustment.objects.filter(product_id=product.pk).aggregate(supply=Sum("delta", default=0))
    held = StockReservation.objects.held().filter(product_id=product.pk).aggregate(held=Sum("pieces", default=0))
    return {
        gettext("Stock is"): gettext("limited") if row and row.limited else gettext("unlimited"),
        gettext("Reported"): reported(row),
        gettext("Supply"): display.count(int(supply["supply"])),
        gettext("Available"): display.count(row.available if row else 0),
        gettext("Held"): display.count(int(held["held"])),
        gettext("Shortfall"): display.count(row.shortfall if row else 0),
    }


def reported(row: Stock | None) -> SafeString | str:
    """The latest report of unsold pieces: its number and its time."""
    if row is None:
        return display.NOTHING
    return format_html(
        gettext("{} as of {}"), gettext("unlimited") if row.reported is None else row.reported, display.moment(row.reported_as_of)
    )


def stock_of(product: Product) -> Stock | None:
    """The stock of a product; None for one that was never limited."""
    try:
        return product.stock
    except Stock.DoesNotExist:
        return None


def differences(before: Snapshot, after: Snapshot | None) -> Sequence[Difference]:
    """Compare two snapshots.

    :param after: None to list the values of `before` only.
    """
    if after is None:
        return [Difference(name, value, "", is_changed=False) for name, value in before.items()]
    return [Difference(name, before.get(name, ""), value, is_changed=before.get(name, "") != value) for name, value in after.items()]


def _open(flags: AttentionQuerySet) -> SafeString | str:
    lines = flags.open().select_related("session").order_by("pk")
    return _listed(format_html("{} {}", display.order_no(flag.session.order_no), flag.get_reason_display()) for flag in lines)


def _lines(lines: Iterable[BasketLine]) -> SafeString | str:
    return _listed(format_html("{} \N{MULTIPLICATION SIGN} {}", line.count, display.visible(line.product_id)) for line in lines)


def _counters(row: Stock) -> SafeString:
    if row.shortfall:
        return format_html(gettext("{}: {} available, shortfall {}"), display.visible(row.pk), row.available, row.shortfall)
    return format_html(gettext("{}: {} available"), display.visible(row.pk), row.available)


def _listed(values: Iterable[SafeString]) -> SafeString | str:
    return format_html_join("", "<div>{}</div>", ((value,) for value in values)) or gettext("nothing")
