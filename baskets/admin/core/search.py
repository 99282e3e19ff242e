"""Finds what staff type into a search box: orders, users, products, partners and keys.

Exact or from the beginning, never in the middle, so that each question is answered by an index. Every list and the search
of the header read a term in the same way. A whole API key or a token is recognised, so that no address keeps it.
"""

import functools
import operator
import re
from collections.abc import Callable, Iterable
from uuid import UUID

from django.contrib import messages
from django.db.models import Q, QuerySet
from django.db.models.functions import Lower
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.translation import gettext

from baskets.domain.checkout.order_numbers import ALPHABET, LABEL, NUMBER_LENGTH, parse_order_search
from baskets.models import ApiKey, Basket, BasketItem, CheckoutItem, CheckoutSession, Partner, Product
from baskets.models.basket_snapshot import Owner
from baskets.models.words import split_words

# More than any page shows; a product that more baskets hold is looked at from its own page.
MAX_BASKETS = 2000
MAX_PRODUCTS = 1000
# So many characters of an order number tell it from a name. After the word "order", fewer do.
MIN_NUMBER_LENGTH, MIN_LABELLED_LENGTH = 6, 3
# An API key, whole or with a part of its secret; and a JWT, such as a guest's token.
PASTED_KEY = re.compile(r"bk_([a-z0-9]{12})_?[0-9a-f]*", re.ASCII)
PASTED_TOKEN = re.compile(r"\beyJ[\w-]{10,}\.[\w-]+\.[\w-]*", re.ASCII)
KEY_PREFIX = re.compile(r"[a-z0-9]{4,12}", re.ASCII)


def search_terms(typed: str) -> list[str]:
    """List what a search looks for: the term without the blanks around it, and as it was typed, because an id may have them.

    :returns: no term, one, or two that differ.
    """
    return [term for term in dict.fromkeys((typed.strip(), typed)) if term]


def any_term(typed: str, condition: Callable[[str], Q]) -> Q:
    """Combine the conditions of all terms of a search. Without a term, every row is found."""
    return functools.reduce(operator.or_, map(condition, search_terms(typed)), Q())


def pasted_key_prefix(typed: str) -> str:
    """Return the prefix of an API key that was pasted with its secret; empty for other text."""
    return found[1] if (found := PASTED_KEY.search(typed)) else ""


def has_secret(typed: str) -> bool:
    """Return whether a term has an API key or a token in it: no address, no log and no form may keep it."""
    return bool(PASTED_KEY.search(typed) or PASTED_TOKEN.search(typed))


# --- Users --------------------------------------------------------------------


def baskets_found(term: str) -> Q:
    """The baskets that a search term may mean, as a condition on baskets.

    A user id needs its partner to be found by the index, and there are few partners: the query names all of them.
    """
    partners = dict(Partner.objects.values_list("pk", "name"))
    meant = [pk for pk, name in partners.items() if begins_like(name, term)]
    meant += ApiKey.objects.filter(prefix=term).values_list("partner_id", flat=True)
    return Q(pk__in=[*users_found(partners, [term]), *of_order(term), *of_product(term)]) | Q(partner_id__in=meant)


def users_found(partner_ids: Iterable[int], terms: Iterable[str], *, limit: int = MAX_BASKETS) -> list[UUID]:
    """The baskets of users whose id is a term, then of those whose id begins like one. Its case does not count.

    Each part has its index and its order, so that the planner reads no more than the limit from it.
    """
    ids, cases = list(partner_ids), _cases(terms)
    with_capitals = Basket.objects.alias(folded=Lower("user_id")).filter(~Q(user_id=Lower("user_id"))).order_by("folded")
    parts = [users_named(ids, cases)]
    parts += [Basket.objects.filter(partner_id__in=ids, user_id__startswith=case).order_by("partner_id", "user_id") for case in cases]
    parts += [with_capitals.filter(folded__startswith=case) for case in dict.fromkeys(case.lower() for case in cases)]
    first, *others = (part.values_list("pk", flat=True)[:limit] for part in parts)
    return list(dict.fromkeys(first.union(*others, all=True)))[:limit]


def users_named(partner_ids: Iterable[int], terms: Iterable[str]) -> "QuerySet[Basket]":
    """The baskets of these very users. The case of an id with capital letters, as of an e-mail address, does not count."""
    ids, cases = list(partner_ids), _cases(terms)
    owned = [pk for case in cases for pk in _owned(ids, case)]
    in_other_case = ~Q(user_id=Lower("user_id")) & Q(folded__in=[case.lower() for case in cases])
    return Basket.objects.alias(folded=Lower("user_id")).filter(Q(pk__in=owned) | in_other_case)


def _cases(terms: Iterable[str]) -> list[str]:
    """The terms as they are typed, and in small letters."""
    return list(dict.fromkeys(case for term in terms for case in (term, term.lower())))


def of_owner(term: str) -> list[UUID]:
    """The baskets of this very user id, of every partner, whether they exist or not; and of its other spellings that exist."""
    ids = list(Partner.objects.values_list("pk", flat=True))
    return [*_owned(ids, term), *users_named(ids, [term]).values_list("pk", flat=True)[:MAX_BASKETS]]


def _owned(partner_ids: Iterable[int], user_id: str) -> list[UUID]:
    return [Owner(partner_id=pk, user_id=user_id).basket_id for pk in partner_ids]


# --- Orders -------------------------------------------------------------------


def of_order(term: str) -> list[UUID]:
    """The baskets of the order numbers that begin like this, however the number is typed."""
    return list(sessions_numbered(term).values_list("basket_id", flat=True)[:MAX_BASKETS])


def sessions_numbered(term: str) -> "QuerySet[CheckoutSession]":
    """The sessions whose order number begins like this, however the number is typed."""
    number = parse_order_search(term)
    return CheckoutSession.objects.filter(order_no__startswith=number) if number else CheckoutSession.objects.none()


def order_number_in(term: str) -> str:
    """Read an order number, or its beginning, out of a term of any kind.

    :returns: the number in its one form; empty where the term is more likely something else, such as a name.
    """
    number = parse_order_search(term)
    letters = number.replace("-", "")
    least = MIN_LABELLED_LENGTH if LABEL.match(term) else MIN_NUMBER_LENGTH
    return number if least <= len(letters) <= NUMBER_LENGTH and set(letters) <= set(ALPHABET) else ""


# --- Products, partners, keys -------------------------------------------------


def of_product(term: str) -> list[UUID]:
    """The baskets that hold or held this very product, in any list or session."""
    return [
        basket_id
        for rows in (BasketItem, CheckoutItem)
        for basket_id in rows.objects.filter(product_id=term).values_list("basket_id", flat=True)[:MAX_BASKETS]
    ]


def products_found(typed: str, *, limit: int = MAX_PRODUCTS) -> list[str]:
    """The ids of products whose id begins like the term, then of those that have all its words.

    Separate queries: of a common word, one query would read every product in the order of the ids.
    """
    by_id = Product.objects.filter(any_term(typed, lambda term: Q(product_id__startswith=term)))
    ids = list(by_id.order_by("pk").values_list("pk", flat=True)[:limit])
    by_word = Product.objects.with_words(typed).order_by().values_list("pk", flat=True)[:limit]
    return list(dict.fromkeys([*ids, *by_word]))[:limit]


def begins_like(name: str, term: str) -> bool:
    """Return whether each word of a term begins a word of a name, whatever case and accents."""
    words, names = split_words(term.lower()), split_words(name.lower())
    return name.startswith(term) or (bool(words) and all(any(known.startswith(word) for known in names) for word in words))


def keys_found(term: str) -> "QuerySet[ApiKey]":
    """The keys whose prefix begins like the term."""
    prefix = term.strip().lower()
    return ApiKey.objects.filter(prefix__startswith=prefix) if KEY_PREFIX.fullmatch(prefix) else ApiKey.objects.none()


def redirect_without_secret(request: HttpRequest, typed: str) -> HttpResponse | None:
    """Lead a search for a whole key to the page of the key, and a search for a token nowhere, so that no address keeps it.

    :returns: the redirect; None where the term has no secret.
    """
    if not has_secret(typed):
        return None
    prefix = pasted_key_prefix(typed)
    sentences = [
        gettext("You pasted a whole API key: only its prefix was used, and nothing was stored.")
        if prefix
        else gettext("You pasted a token: it was not searched for, and nothing was stored."),
        gettext("It was in an address, so the history of this browser may still have it.") if request.method != "POST" else "",
        gettext("It can call as the partner: if it came by mail or chat, revoke it.") if prefix else gettext("Search for the user id."),
    ]
    messages.warning(request, " ".join(filter(None, sentences)))
    key = ApiKey.objects.filter(prefix=prefix).values_list("pk", flat=True).first() if prefix else None
    if key and request.user.has_perm("baskets.view_apikey"):
        return HttpResponseRedirect(reverse("admin:baskets_apikey_change", args=[key]))
    return HttpResponseRedirect(f"{reverse('staff:search')}?{urlencode({'q': prefix})}" if prefix else reverse("staff:search"))
