"""Shows values to staff. Texts of partners and users are escaped, and their invisible characters are made visible."""

import json
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timedelta
from math import ceil
from typing import Any
from uuid import UUID

from django.contrib.admin.utils import quote
from django.urls import reverse
from django.utils import timezone
from django.utils.html import escape, format_html, format_html_join
from django.utils.http import urlencode
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext, ngettext

from baskets.admin.core.labels import KEY_KINDS, SYSTEM_ACTORS, value_name, value_text
from baskets.admin.core.money import format_amount, format_plain_amount
from baskets.domain.actors import ActorKind
from baskets.domain.support.erasure import ERASED_PREFIX
from baskets.models import CheckoutSession, Partner

# What a page shows for a missing value. Files compare by identity, and write an empty cell.
NOTHING = "\N{EN DASH}"
# Controls, formats (such as bidi overrides and zero-width characters), surrogates, private and unassigned characters, and
# line breaks: in an id they are invisible or misleading.
INVISIBLE_CATEGORIES = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


# Whether values are shown for a file: whole, in UTC, and without what only a page can have.
_for_files: ContextVar[bool] = ContextVar("for_files", default=False)


# The permissions of the user who will see the page; None where it is not known, and every link is shown.
_has_permission: ContextVar[Callable[[str], bool] | None] = ContextVar("has_permission", default=None)


@contextmanager
def for_user(user: Any) -> Iterator[None]:
    """Link to no record that this user may not view, as long as this lasts."""
    token = _has_permission.set(user.has_perm)
    try:
        yield
    finally:
        _has_permission.reset(token)


@contextmanager
def for_files() -> Iterator[None]:
    """Show values for a file, as long as this lasts."""
    token = _for_files.set(True)
    try:
        yield
    finally:
        _for_files.reset(token)


def visible(text: object, *, limit: int | None = None) -> SafeString:
    """Show a text as it was sent: escaped, apart from its surroundings, with every hiding character by its number.

    A file has the text itself.

    :param limit: characters to show of a longer text.
    """
    whole = str(text)
    if _for_files.get():
        return format_html("{}", whole)
    cut = whole if limit is None or len(whole) <= limit else whole[: limit - 1]
    last = len(cut) - 1
    pieces = (_piece(char, at_edge=place in (0, last)) for place, char in enumerate(cut))
    shown = format_html_join("", "{}", ((piece,) for piece in pieces))
    return format_html('<bdi class="given">{}{}</bdi>', shown, "" if cut is whole else "…")


def as_plain_text(text: str) -> str:
    """Show a text where there is room for nothing but text, such as a choice in a form."""
    return "".join(f"[U+{ord(char):04X}]" if unicodedata.category(char) in INVISIBLE_CATEGORIES else char for char in text)


def _piece(char: str, *, at_edge: bool) -> str | SafeString:
    kind = unicodedata.category(char)
    if kind in INVISIBLE_CATEGORIES or (kind == "Zs" and (char != " " or at_edge)):
        name = unicodedata.name(char, "character without a name").lower()
        return format_html('<span class="hidden-char" title="{}">U+{}</span>', name, f"{ord(char):04X}")
    return char


def moment(value: datetime | None) -> SafeString | str:
    """Show a time to the second, in the time zone of the user; a file has it in UTC."""
    if value is None:
        return NOTHING
    if _for_files.get():
        return value.isoformat(timespec="seconds")
    return format_html('<time datetime="{}">{}</time>', value.isoformat(), clock(value))


def clock(value: datetime) -> str:
    """Write a time to the second, in the time zone of the user."""
    return f"{timezone.localtime(value):%Y-%m-%d %H:%M:%S}"


def time_left(seconds: float) -> SafeString:
    """Show how much is left of a hold; a browser counts it down from there.

    Seconds are rounded up: a page never says "over" of a hold that still counts.
    """
    whole = max(ceil(seconds), 0)
    return format_html(
        '<span class="left" data-seconds-left="{}" data-left="{}" data-over="{}" data-reload="{}">{}</span>',
        whole,
        gettext("%(time)s left"),
        gettext("over"),
        gettext("Reload the page"),
        gettext("%(time)s left") % {"time": f"{whole // 60:02}:{whole % 60:02}"},
    )


def hold_end(end: datetime, at: datetime) -> SafeString:
    """Show when a hold ends; a browser counts down what is left of it. A file has the time alone.

    :param at: now, by the database's clock.
    """
    if _for_files.get():
        return format_html("{}", moment(end))
    if end <= at:
        return format_html("{} {}", moment(end), badge(gettext("lapsed %(ago)s") % {"ago": distance(end - at)}, "bad"))
    return format_html("{} {}", moment(end), time_left((end - at).total_seconds()))


def duration(length: timedelta) -> str:
    """Write how long something lasts: "15 min", "1 h 30 min", "45 s"."""
    seconds = round(length.total_seconds())
    parts = ((seconds // 86400, "d"), (seconds // 3600 % 24, "h"), (seconds // 60 % 60, "min"), (seconds % 60, "s"))
    return " ".join(f"{number} {unit}" for number, unit in parts if number) or "0 s"


def distance(until: timedelta) -> str:
    """Write how far away a time is."""
    seconds = int(abs(until.total_seconds()))
    comes = until > timedelta()
    if days := seconds // 86400:
        text = (
            ngettext("in %(number)s day", "in %(number)s days", days)
            if comes
            else ngettext("%(number)s day ago", "%(number)s days ago", days)
        )
        return text % {"number": days}
    if hours := seconds // 3600:
        text = (
            ngettext("in %(number)s hour", "in %(number)s hours", hours)
            if comes
            else ngettext("%(number)s hour ago", "%(number)s hours ago", hours)
        )
        return text % {"number": hours}
    if minutes := seconds // 60:
        text = (
            ngettext("in %(number)s minute", "in %(number)s minutes", minutes)
            if comes
            else ngettext("%(number)s minute ago", "%(number)s minutes ago", minutes)
        )
        return text % {"number": minutes}
    return gettext("in less than a minute") if comes else gettext("less than a minute ago")


def badge(text: object, tone: str = "plain") -> SafeString:
    """Show a state as a small label; a file has the text alone.

    :param tone: `good`, `busy`, `bad` or `plain`.
    """
    return format_html("{}", text) if _for_files.get() else format_html('<span class="badge badge-{}">{}</span>', tone, text)


def basket_state(basket: Any) -> SafeString:
    """Show what the user sees of a basket, and why nothing."""
    if basket.hidden_at:
        return badge(gettext("erased") if basket.user_id.startswith(ERASED_PREFIX) else gettext("deleted or expired"))
    return badge(gettext("guest")) if basket.guest else badge(gettext("open"), "good")


def available(product_row: Any) -> SafeString:
    """Show the pieces of a product that are not held."""
    stock = getattr(product_row, "stock", None)  # Django raises an `AttributeError` where there is no row.
    if stock is None or not stock.limited:
        return badge(gettext("unlimited"), "good")
    if stock.shortfall:
        return badge(gettext("shortfall of %(pieces)s") % {"pieces": stock.shortfall}, "bad")
    return badge(count(stock.available), "good" if stock.available else "bad")


def assignee(name: str | None) -> SafeString:
    """Show to whom a record is assigned."""
    return badge(visible(name, limit=40), "busy") if name else badge(gettext("not assigned"))


def actor(event: Any, *, partner: str) -> SafeString:
    """Show the author of an event of a basket: the partner's back end or app with a link to its key, staff, or a part of the service.

    :param event: a row of `Event.objects.with_keys()`.
    :param partner: the name of the basket's partner.
    """
    if event.actor_kind == ActorKind.STAFF:
        return format_html(gettext("{}, staff"), visible(event.actor, limit=60))
    if event.actor_kind == ActorKind.SYSTEM:
        return actor_name(event.actor)
    if event.key_pk is None:
        return format_html(gettext("key {}"), visible(event.actor, limit=60))
    who = format_html("{}, {}", visible(partner), KEY_KINDS[event.key_kind])
    return format_html('{} <span class="quiet">{}</span>', page("apikey", event.key_pk, who), format_html(gettext("key {}"), event.actor))


def actor_name(name: str) -> SafeString:
    """Show an author of whom only the name is stored: a member of staff, or a part of the service."""
    return format_html("{}", SYSTEM_ACTORS[name]) if name in SYSTEM_ACTORS else visible(name, limit=60)


def copy_button(text: str, what: str) -> SafeString:
    """Show a button that copies a text. It is hidden where no script runs.

    :param what: what the text is, for those who hear the page.
    """
    label = gettext("Copy: %(what)s") % {"what": what}
    # Invisible and directional characters are written as references: they are copied, and never stand in the page itself.
    exact = mark_safe("".join(char if char.isprintable() else f"&#{ord(char)};" for char in escape(text)))  # noqa: S308
    button = '<button type="button" class="copy" data-copy="{}" data-copied="{}" data-not-copied="{}" aria-label="{}" hidden>{}</button>'
    return format_html(button, exact, gettext("Copied"), gettext("Not copied"), label, gettext("Copy"))


def came_by(*, transferred: bool) -> str:
    """Name how a device got its basket."""
    return gettext("a transfer") if transferred else gettext("creating the guest")


def device_state(token: Any) -> SafeString:
    """Show whether the token of a device is valid."""
    return badge(gettext("revoked"), "bad") if token.revoked_at else badge(gettext("valid"), "good")


def yes_no(value: bool | None) -> str:  # noqa: FBT001 (one value, and it is what is shown)
    """Show a truth value as a word."""
    return NOTHING if value is None else gettext("yes") if value else gettext("no")


def money(minor_units: int | None, currency: str) -> str:
    """Show an amount in major units of its currency; a file has a plain number and the code.

    :param minor_units: the amount as it is stored; None where it is not known.
    """
    if minor_units is None:
        return NOTHING
    return format_plain_amount(minor_units, currency) if _for_files.get() else format_amount(minor_units, currency)


def count(value: int | None) -> str:
    """Show a number in groups of three."""
    if value is not None and _for_files.get():
        return str(value)
    return NOTHING if value is None else f"{value:,}".replace(",", "\u202f")


def page(model_name: str, pk: int | str | UUID, text: object) -> SafeString:
    """Link to the page of one record; the text alone in a file, and for a user who may not view the record."""
    return _link(model_name, text, lambda: reverse(f"admin:baskets_{model_name}_change", args=[quote(pk)]))


def found_page(model_name: str, term: str, text: object) -> SafeString:
    """Link to a search for a term, which finds a record whose page is not known. Otherwise as `page`."""
    return _link(model_name, text, lambda: f"{reverse(f'admin:baskets_{model_name}_changelist')}?{urlencode({'q': term})}")


def _link(model_name: str, text: object, address: Callable[[], str]) -> SafeString:
    has_permission = _has_permission.get()
    if _for_files.get() or (has_permission is not None and not has_permission(f"baskets.view_{model_name}")):
        return format_html("{}", text)
    return format_html('<a href="{}">{}</a>', address(), text)


def product(product_id: str, name: str | None = None) -> SafeString:
    """Link to a product by its id, with its name where it is known."""
    link = page("product", product_id, visible(product_id))
    return link if name is None else format_html('{} <br><span class="quiet">{}</span>', link, visible(name, limit=80))


def partner(of: Partner) -> SafeString:
    """Link to a partner by its name."""
    return page("partner", of.pk, visible(of.name))


def basket(pk: UUID, user_id: str) -> SafeString:
    """Link to a basket by its user."""
    return page("basket", pk, visible(user_id, limit=60))


def order_no(text: str) -> SafeString:
    """Show an order number, all of it in one line; a file has the text alone."""
    return format_html("{}", text) if _for_files.get() else format_html('<span class="order-no">{}</span>', text)


def candidates(reported: list[dict[str, str]] | None, current: Mapping[str, Any], *, is_settled: bool = False) -> SafeString | str:
    """Say that a refused report named no order number, and which checkouts it may be about, as they are now.

    :param reported: as the flag has them; None where the report named its order number.
    :param current: the sessions that still exist, by order number.
    :param is_settled: whether the flag is resolved, and with it the question.
    """
    if reported is None:
        return ""
    lines = ((_candidate(each, current.get(each["orderNo"])),) for each in reported)
    if is_settled:
        text = gettext("No order number was reported; considered: {}")
    elif len(reported) > 1:
        text = gettext("No order number was reported. It may be one of: {}")
    else:
        text = gettext("No order number was reported. The only one it may be: {}")
    return format_html(text, format_html_join(", ", "{}", lines))


def status_word(status: str) -> str:
    """Name a stored status of a checkout in a word."""
    return str(dict(CheckoutSession.Status.choices).get(status, status.lower()))


def status_of(session: Any) -> str:
    """Name the status of a checkout, and whether its order was reversed."""
    status = str(session.get_status_display())
    return gettext("%(status)s, reversed") % {"status": status} if session.reversed_at else status


def _candidate(reported: dict[str, str], session: Any) -> SafeString:
    if session is None:
        return format_html(gettext("{} ({} then, purged since)"), order_no(reported["orderNo"]), status_word(reported["status"]))
    state = status_of(session)
    link = page("checkoutsession", session.pk, order_no(session.order_no))
    return format_html("{} ({} {})", link, state, moment(session.finished_at))


def record(values: Any) -> SafeString | str:
    """Show what an event stores: one line for each name, nested values as JSON."""
    if not values:
        return ""
    if not isinstance(values, dict):
        return visible(_plain(values), limit=2000)
    shown = ((name, value) for name, value in values.items() if not (name == "testMode" and value is False))
    lines = ((visible(value_name(name)), visible(_plain(value_text(name, value)), limit=2000)) for name, value in shown)
    return format_html('<ul class="record">{}</ul>', format_html_join("", "<li><b>{}</b> {}</li>", lines))


def changed_values(before: dict[str, Any], after: dict[str, Any]) -> SafeString | str:
    """Show the values before and after a change, one line for each name."""
    rows = (
        (visible(value_name(name)), *(visible(_plain(value_text(name, values.get(name))), limit=300) for values in (before, after)))
        for name in before | after
    )
    if before and after:
        return format_html('<ul class="record">{}</ul>', format_html_join("", "<li><b>{}</b> {} \N{RIGHTWARDS ARROW} {}</li>", rows))
    return record(before or after)


def _plain(value: Any) -> str:
    if value is None or isinstance(value, str | bool):
        return value if isinstance(value, str) else yes_no(value)
    if isinstance(value, dict) and value and all(isinstance(each, int | str) for each in value.values()):
        return ", ".join(
            f"{each} \N{MULTIPLICATION SIGN} {name}" if isinstance(each, int) else f"{value_name(name)}: {value_text(name, each)}"
            for name, each in value.items()
        )
    if value in ({}, []):
        return gettext("nothing")
    if isinstance(value, list) and all(isinstance(word, str) for word in value):
        return ", ".join(value)
    if isinstance(value, list) and all(isinstance(line, dict) and ("productId" in line or "orderNo" in line) for line in value):
        return ", ".join(_line(line) for line in value)
    return json.dumps(value, ensure_ascii=False)


def _line(line: dict[str, Any]) -> str:
    """One product or one checkout of a list, as events store it."""
    if "productId" not in line:
        finished_at = datetime.fromisoformat(line["finishedAt"])
        ended = finished_at.isoformat(timespec="seconds") if _for_files.get() else clock(finished_at)
        return f"{line['orderNo']} ({status_word(line['status'])} {ended})"
    rest = {name: value for name, value in line.items() if name not in ("productId", "count")}
    text = f"{line.get('count')} \N{MULTIPLICATION SIGN} {line['productId']}"
    if "stocked" in rest:
        stocked = rest.pop("stocked")
        if stocked is None:
            held = gettext("nothing to hold")
        elif stocked > 0:
            held = gettext("%(pieces)s held") % {"pieces": stocked}
        else:
            held = gettext("failed, %(pieces)s missing") % {"pieces": -stocked}
        text += f" ({held})"
    return f"{text} ({', '.join(f'{name} {json.dumps(value)}' for name, value in rest.items())})" if rest else text
