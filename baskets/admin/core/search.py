"""Finds baskets for the search box: by user id, order number, product, partner or key.

Exact or from the beginning, never in the middle, so that each question is answered by an index.
"""

import functools
import operator
from collections.abc import Callable, Iterable
from uuid import UUID

from django.db.models import Q

from baskets.domain.checkout.order_numbers import parse_order_search
from baskets.models import ApiKey, BasketItem, CheckoutItem, CheckoutSession, Partner
from baskets.models.basket_snapshot import Owner

# More than any page shows; a product that more baskets hold is looked at from its own page.
MAX_BASKETS = 2000


def search_terms(typed: str) -> list[str]:
    """List what a search looks for: the term without the blanks around it, and as it was typed, because an id may have them.

    :returns: no term, one, or two that differ.
    """
    return [term for term in dict.fromkeys((typed.strip(), typed)) if term]


def any_term(typed: str, condition: Callable[[str], Q]) -> Q:
    """Combine the conditions of all terms of a search. Without a term, every row is found."""
    return functools.reduce(operator.or_, map(condition, search_terms(typed)), Q())


def baskets_found(term: str) -> Q:
    """The baskets that a search term may mean, as a condition on baskets.

    A user id needs its partner to be found by the index, and there are few partners: the query names all of them.
    """
    partners = dict(Partner.objects.values_list("pk", "name"))
    meant = [pk for pk, name in partners.items() if name.startswith(term)]
    meant += ApiKey.objects.filter(prefix=term).values_list("partner_id", flat=True)
    return (
        Q(pk__in=[*_owned(partners, term), *of_order(term), *of_product(term)])
        | Q(partner_id__in=list(partners), user_id__startswith=term)
        | Q(partner_id__in=meant)
    )


def of_owner(term: str) -> list[UUID]:
    """The baskets of this very user id, of every partner, whether they exist or not."""
    return _owned(Partner.objects.values_list("pk", flat=True), term)


def _owned(partner_ids: Iterable[int], user_id: str) -> list[UUID]:
    return [Owner(partner_id=pk, user_id=user_id).basket_id for pk in partner_ids]


def of_order(term: str) -> list[UUID]:
    """The baskets of the order numbers that begin like this, however the number is typed."""
    number = parse_order_search(term)
    if not number:
        return []
    sessions = CheckoutSession.objects.filter(order_no__startswith=number)
    return list(sessions.values_list("basket_id", flat=True)[:MAX_BASKETS])


def of_product(term: str) -> list[UUID]:
    """The baskets that hold or held this very product, in any list or session."""
    return [
        basket_id
        for rows in (BasketItem, CheckoutItem)
        for basket_id in rows.objects.filter(product_id=term).values_list("basket_id", flat=True)[:MAX_BASKETS]
    ]
