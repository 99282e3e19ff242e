"""The statements of a sweep end what the functions for one basket end, and leave the same rows."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db.models.functions import Now

from baskets.domain.stock import supply
from baskets.models import Basket, CheckoutSession, Partner
from baskets.models.basket_snapshot import Owner
from tests.domain import basket_states as states
from tests.domain.endings import assert_ends_alike
from tests.domain.scenarios import User
from tests.factories import TESTER
from tests.time_travel import age_all_rows

pytestmark = pytest.mark.django_db

Stored = Callable[[], dict[str, list[Any]]]


def _in_cart_again(user: User) -> None:
    """The cart has one product in front of what comes back, and one behind."""
    user.place("limited", 3)
    user.place("scarce", 0)
    user.place("other", 2)
    user.start()
    user.place("unlimited", 1)
    user.place("limited", 5)
    Basket.objects.get(pk=user.owner.basket_id).items.filter(product_id="limited").update(position=1)


def _in_saved_as_well(user: User) -> None:
    """One product is in saved behind its place in the checkout, and one in front of it."""
    user.place("unlimited", 0)
    for product in ("other", "limited"):
        user.place(product, 3)
    user.start()
    for product in ("limited", "other"):
        user.place(product, 0)
    Basket.objects.get(pk=user.owner.basket_id).items.filter(product_id="other").update(position=1)


def _clock_ahead(user: User) -> None:
    """Its last change was by a server whose clock was ahead by more than a hold."""
    states.all_held(user)
    Basket.objects.filter(pk=user.owner.basket_id).update(last_changed_at=Now() + timedelta(hours=3))


def _cart_and_saved(user: User) -> None:
    for count, product in ((1, "other"), (2, "limited"), (0, "unlimited"), (0, "scarce")):
        user.place(product, count)


def _guest_without_session(user: User) -> None:
    states.cart_only(user)
    Basket.objects.filter(pk=user.owner.basket_id).update(guest=True)


def _emptied(user: User) -> None:
    states.cart_only(user)
    user.remove("limited")


ACTIVE = (
    *(states.all_held, states.one_failed, states.test_mode, states.guest, states.second_session),
    *(_in_cart_again, _in_saved_as_well, _clock_ahead),
)
STATES = (*ACTIVE, _cart_and_saved, _guest_without_session, _emptied, states.aborted, states.deleted)


@pytest.fixture
def users(partner: Partner) -> dict[str, User]:
    """A user in each state that a sweep can meet."""
    states.make_products()
    made = {state.__name__: User(Owner(partner_id=partner.pk, user_id=state.__name__)) for state in STATES}
    for state in STATES:
        state(made[state.__name__])
    return made


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
