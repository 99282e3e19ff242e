"""The statements of a sweep end what the functions for one basket end, and leave the same rows."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db.models.functions import Now

from baskets.domain.stock import supply
from baskets.models import Basket, CheckoutSession, Partner
from baskets.models.basket_snapshot import Owner
from tests.domain.endings import assert_ends_alike
from tests.domain.scenarios import User
from tests.factories import TESTER, ProductFactory
from tests.time_travel import age_all_rows

pytestmark = pytest.mark.django_db

Stored = Callable[[], dict[str, list[Any]]]


@pytest.fixture
def users(partner: Partner) -> dict[str, User]:
    """A user in each state that a sweep can meet."""
    for product in ("cap", "limited", "other"):
        ProductFactory(product_id=product, unsold=50)
    ProductFactory(product_id="scarce", unsold=1)
    ProductFactory(product_id="unlimited")
    return {build.__name__[1:]: build(User(Owner(partner_id=partner.pk, user_id=build.__name__))) for build in STATES}


def _all_held(user: User) -> User:
    user.place("other", 2)
    user.place("limited", 3)
    user.start()
    return user


def _in_cart_again(user: User) -> User:
    """The cart has one product in front of what comes back, and one behind."""
    user.place("limited", 3)
    user.place("cap", 1)
    user.place("other", 2)
    user.start()
    user.place("cap", 4)
    user.place("unlimited", 1)
    user.place("limited", 5)
    Basket.objects.get(pk=user.owner.basket_id).items.filter(product_id="limited").update(position=1)
    return user


def _in_saved_as_well(user: User) -> User:
    user.place("limited", 0)
    user.place("other", 3)
    user.place("cap", 2)
    user.start()
    user.place("cap", 0)
    user.place("other", 0)
    Basket.objects.get(pk=user.owner.basket_id).items.filter(product_id="other").update(position=1)
    return user


def _one_failed(user: User) -> User:
    user.place("unlimited", 3)
    user.place("scarce", 2)
    user.place("cap", 2)
    user.start()
    return user


def _test_mode(user: User) -> User:
    user.place("scarce", 7)
    user.start(test_mode=True)
    return user


def _guest(user: User) -> User:
    _all_held(user)
    Basket.objects.filter(pk=user.owner.basket_id).update(guest=True)
    return user


def _second_session(user: User) -> User:
    for ordered in (True, False):
        _all_held(user).finish(ordered=ordered)
    user.start()
    return user


def _clock_behind(user: User) -> User:
    """The basket was changed by a server whose clock is ahead."""
    _all_held(user)
    basket = Basket.objects.get(pk=user.owner.basket_id)
    Basket.objects.filter(pk=basket.pk).update(last_changed_at=basket.last_changed_at + timedelta(hours=3))
    return user


def _cart_and_saved(user: User) -> User:
    for count, product in ((1, "other"), (2, "cap"), (0, "limited"), (0, "scarce")):
        user.place(product, count)
    return user


def _guest_without_session(user: User) -> User:
    user.place("cap", 1)
    Basket.objects.filter(pk=user.owner.basket_id).update(guest=True)
    return user


def _emptied(user: User) -> User:
    user.place("cap", 1)
    user.remove("cap")
    return user


def _deleted(user: User) -> User:
    user.place("cap", 1)
    user.delete()
    return user


def _aborted(user: User) -> User:
    _all_held(user).finish(ordered=False)
    return user


ACTIVE = (_all_held, _in_cart_again, _in_saved_as_well, _one_failed, _test_mode, _guest, _second_session, _clock_behind)
STATES = (*ACTIVE, _cart_and_saved, _guest_without_session, _emptied, _deleted, _aborted)


def test_nothing_ends_before_its_time(users: dict[str, User], stored_rows: Stored) -> None:
    assert len(users) == len(STATES)
    # The clock of one of them is ahead, and its time is the later of the two.
    assert assert_ends_alike(read=stored_rows) == (1, 0)


def test_all_lapsed_sessions_end_alike(users: dict[str, User], stored_rows: Stored) -> None:
    CheckoutSession.objects.active().filter(basket_id=users["guest"].owner.basket_id).update(expires_at=Now() + timedelta(hours=9))
    age_all_rows(timedelta(hours=2))
    assert assert_ends_alike(read=stored_rows) == (len(ACTIVE) - 1, 0)


def test_released_pieces_pay_off_a_shortfall_alike(users: dict[str, User], stored_rows: Stored) -> None:
    assert len(users) == len(STATES)
    age_all_rows(timedelta(hours=2))
    supply.set_unsold(reports={"limited": 4, "other": 1}, as_of=None, reason="feed", actor=TESTER)
    assert assert_ends_alike(read=stored_rows)[0] == len(ACTIVE)


def test_all_old_baskets_close_alike_and_none_in_checkout(users: dict[str, User], stored_rows: Stored) -> None:
    age_all_rows(timedelta(days=31))
    assert assert_ends_alike(read=stored_rows) == (len(ACTIVE), len(STATES) - len(ACTIVE) - len([users["deleted"]]))
