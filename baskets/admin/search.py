"""The search of the header: one field that finds orders, users, products, partners and keys. One hit opens."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.admin.utils import quote
from django.contrib.admin.views.main import SEARCH_VAR
from django.core.exceptions import PermissionDenied
from django.db.models import Q
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from baskets.admin.api_keys import key_state
from baskets.admin.checkout_detail import TONES
from baskets.admin.core import cells, display
from baskets.admin.core.languages import Text
from baskets.admin.core.readonly import Table
from baskets.admin.core.search import (
    begins_like,
    keys_found,
    order_number_in,
    products_found,
    redirect_without_secret,
    search_terms,
    users_found,
)
from baskets.domain.checkout.order_numbers import NUMBER_LENGTH
from baskets.models import ApiKey, Basket, CheckoutSession, Partner, Product

# Of one kind; its list has the others.
MAX_HITS = 10
MAX_TYPED = 500


@dataclass(frozen=True, kw_only=True)
class Hit:
    """One record that was found.

    :param is_exact: whether the term names it, and is not only the beginning of its name.
    :param opens: whether an exact hit opens although other records are found: an order number or a user id is typed for one record.
    """

    address: str
    cells: Sequence[object]
    is_exact: bool = False
    opens: bool = False


@dataclass(frozen=True, kw_only=True)
class Query:
    """What is searched for.

    :param terms: the term without the blanks around it, then as it was typed.
    :param partners: the names of all partners, by primary key.
    :param opens_baskets: whether the user may see the page of a basket, which is the page of its orders.
    """

    terms: Sequence[str]
    partners: dict[int, str]
    opens_baskets: bool


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of record that the search finds, for users with the permission to view it.

    :param find: returns the hits, at most one more than `MAX_HITS`.
    """

    model: Any
    title: Text
    heads: Sequence[Text]
    find: Callable[[Query], list[Hit]]


@dataclass(frozen=True, kw_only=True)
class Group:
    """The hits of one kind, as a table.

    :param more: the list with all hits; empty where the table has all.
    """

    hits: Sequence[Hit]
    table: Table
    more: str


def search_page(request: HttpRequest) -> HttpResponse:
    """Find what was typed. The form of the header posts it, so that no address has what opens at once, or a whole key.

    :raises PermissionDenied: the user may view none of the kinds.
    """
    kinds = [kind for kind in KINDS if request.user.has_perm(f"baskets.view_{kind.model._meta.model_name}")]  # noqa: SLF001 (Django's own name)
    if not kinds:
        raise PermissionDenied
    if request.method not in ("GET", "HEAD", "POST"):
        return HttpResponseNotAllowed(("GET", "HEAD", "POST"))
    typed = (request.POST if request.method == "POST" else request.GET).get(SEARCH_VAR, "").replace("\x00", "")[:MAX_TYPED]
    if safe := redirect_without_secret(request, typed):
        return safe
    groups = find(kinds, typed, opens_baskets=request.user.has_perm("baskets.view_basket")) if typed else []
    hits = [hit for group in groups for hit in group.hits]
    here = f"{reverse('staff:search')}?{urlencode({SEARCH_VAR: typed})}"
    chosen = _hit_to_open(hits)
    if chosen and "all" not in request.GET:
        if len(hits) > 1:
            messages.info(
                request,
                format_html(
                    '<a href="{}&amp;all=1">{}</a>', here, format_html(gettext("All hits of “{}”"), display.visible(typed, limit=60))
                ),
            )
        return HttpResponseRedirect(chosen.address)
    if request.method == "POST":
        return HttpResponseRedirect(here, status=HTTPStatus.SEE_OTHER)
    context = {
        **admin.site.each_context(request),
        "title": gettext("Search: %(typed)s") % {"typed": display.as_plain_text(typed)} if typed else gettext("Search"),
        "typed": typed,
        "groups": groups,
        "number": len(hits),
        "advice": _advice(typed) if typed and not hits else [],
        "elsewhere": None if any(hit.is_exact and hit.opens for hit in hits) else cells.search_elsewhere(request, typed),
        "kinds": [kind.title for kind in kinds],
    }
    return TemplateResponse(request, "admin/baskets/search.html", context)


def find(kinds: Iterable[Kind], typed: str, *, opens_baskets: bool) -> list[Group]:
    """Search every kind, in a number of queries that does not grow with the number of hits."""
    partners = dict(Partner.objects.values_list("pk", "name"))
    query = Query(terms=search_terms(typed), partners=partners, opens_baskets=opens_baskets)
    groups = []
    for kind in kinds:
        found = kind.find(query)
        if found:
            hits = sorted(found[:MAX_HITS], key=lambda hit: not hit.is_exact)
            name = f"admin:baskets_{kind.model._meta.model_name}_changelist"  # noqa: SLF001 (Django's own name)
            more = f"{reverse(name)}?{urlencode({SEARCH_VAR: typed})}" if len(found) > MAX_HITS else ""
            groups.append(Group(hits=hits, more=more, table=Table(title=kind.title, heads=kind.heads, rows=[hit.cells for hit in hits])))
    return groups


def _hit_to_open(hits: Sequence[Hit]) -> Hit | None:
    """Choose the hit that opens: the only one, or the only one that is exact and of a kind that is typed for one record."""
    if len(hits) == 1:
        return hits[0]
    exact = [hit for hit in hits if hit.is_exact]
    return exact[0] if len(exact) == 1 and exact[0].opens else None


def _advice(typed: str) -> list[str]:
    """Say why a search may have found nothing, and what to try."""
    advice = []
    letters = order_number_in(typed).replace("-", "")
    if "@" not in typed and any(map(str.isdigit, typed)) and letters and len(letters) != NUMBER_LENGTH:
        advice.append(
            gettext("An order number has %(right)s letters and digits; this has %(number)s.")
            % {"right": NUMBER_LENGTH, "number": len(letters)}
        )
    elif len(letters) == NUMBER_LENGTH:
        advice.append(
            gettext("No order has this number. Ask the customer to read it again: B and 8, S and 5, Z and 2 sound or look alike.")
        )
    return [
        *advice,
        gettext("A user is found by the whole id or its beginning, deleted and expired baskets included."),
        gettext(
            "A user whose data were erased is not found by the former id: it was removed for good. The order number still finds the orders."
        ),
        gettext("A product is found by its id, or by the beginnings of words of its name, brand and variant."),
        gettext("An order that was purged is not kept any more."),
    ]


# --- The kinds ----------------------------------------------------------------


def _link(address: str, text: object) -> SafeString:
    return format_html('<a href="{}">{}</a>', address, text)


def _address(model: str, pk: int | str | UUID) -> str:
    return reverse(f"admin:baskets_{model}_change", args=[quote(pk)])


def _orders(query: Query) -> list[Hit]:
    numbers = {number for term in query.terms if (number := order_number_in(term))}
    if not numbers:
        return []
    begins = Q(*(("order_no__startswith", number) for number in sorted(numbers)), _connector=Q.OR)
    sessions = CheckoutSession.objects.filter(begins).select_related("basket").order_by("order_no")[: MAX_HITS + 1]
    return [
        Hit(
            address=(
                address := f"{_address('basket', session.basket_id)}#{session.order_no}"
                if query.opens_baskets
                else _address("checkoutsession", session.pk)
            ),
            cells=(
                _link(address, display.order_no(session.order_no)),
                display.visible(session.basket.user_id, limit=60),
                display.visible(query.partners.get(session.partner_id, "")),
                display.badge(session.get_status_display(), TONES.get(session.status, "plain")),
                display.moment(session.started_at),
            ),
            is_exact=session.order_no in numbers,
            opens=True,
        )
        for session in sessions
    ]


def _users(query: Query) -> list[Hit]:
    ids = users_found(query.partners, query.terms, limit=MAX_HITS + 1)
    baskets = Basket.objects.filter(pk__in=ids).in_bulk() if ids else {}
    named = {term.lower() for term in query.terms}
    return [
        Hit(
            address=(address := _address("basket", basket.pk)),
            cells=(
                _link(address, display.visible(basket.user_id, limit=60)),
                display.visible(query.partners.get(basket.partner_id, "")),
                display.basket_state(basket),
                display.moment(basket.last_changed_at),
                display.moment(basket.expires_at),
            ),
            is_exact=basket.user_id.lower() in named,
            opens=True,
        )
        for pk in ids
        if (basket := baskets.get(pk))
    ]


def _products(query: Query) -> list[Hit]:
    ids = products_found(query.terms[-1], limit=MAX_HITS + 1)
    products = Product.objects.select_related("stock").in_bulk(ids) if ids else {}
    return [
        Hit(
            address=(address := _address("product", product.pk)),
            cells=(
                _link(address, display.visible(product.name, limit=80)),
                display.visible(product.brand, limit=40),
                display.visible(product.variant, limit=40),
                display.visible(product.pk, limit=60),
                display.money(product.price, product.currency),
                display.available(product),
            ),
            is_exact=product.pk in query.terms,
        )
        for pk in ids
        if (product := products.get(pk))
    ]


def _partners(query: Query) -> list[Hit]:
    return [
        Hit(address=(address := _address("partner", pk)), cells=(_link(address, display.visible(name)),), is_exact=name in query.terms)
        for pk, name in sorted(query.partners.items(), key=lambda partner: partner[1])
        if begins_like(name, query.terms[0])
    ][: MAX_HITS + 1]


def _keys(query: Query) -> list[Hit]:
    keys = keys_found(query.terms[0]).defer("digest").annotate(ended=Q(expires_at__lte=Now())).order_by("prefix")[: MAX_HITS + 1]
    return [
        Hit(
            address=(address := _address("apikey", key.pk)),
            cells=(
                _link(address, key.prefix),
                display.visible(query.partners.get(key.partner_id, "")),
                key.kind,
                display.visible(key.label),
                key_state(key),
            ),
            is_exact=key.prefix == query.terms[0].lower(),
        )
        for key in keys
    ]


KINDS = (
    Kind(
        model=CheckoutSession,
        title=_("Orders"),
        heads=(_("Order number"), _("Basket of"), _("Partner"), _("Status"), _("Started")),
        find=_orders,
    ),
    Kind(model=Basket, title=_("Users"), heads=(_("User"), _("Partner"), _("Basket"), _("Changed"), _("Expires")), find=_users),
    Kind(
        model=Product,
        title=_("Products"),
        heads=(_("Product"), _("Brand"), _("Variant"), _("Product id"), _("Price"), _("Available")),
        find=_products,
    ),
    Kind(model=Partner, title=_("Partners"), heads=(_("Partner"),), find=_partners),
    Kind(model=ApiKey, title=_("API keys"), heads=(_("Prefix"), _("Partner"), _("Kind"), _("Label"), _("State")), find=_keys),
)
