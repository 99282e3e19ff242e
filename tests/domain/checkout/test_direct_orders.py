"""A direct order writes what a finish writes, in every state that it takes on, and nothing in all others."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction

from baskets.domain.actors import Actor, ActorKind
from baskets.domain.checkout.direct_orders import order_directly
from baskets.domain.errors import ServerKeyRequired
from baskets.models import Basket, CheckoutSession, Partner, Product
from baskets.models.basket_snapshot import Owner
from tests.domain.direct_orders import order_alone, orders_alike
from tests.domain.scenarios import User
from tests.factories import PartnerFactory, ProductFactory

pytestmark = pytest.mark.django_db

Stored = Callable[[], dict[str, list[Any]]]
CALLER = Actor(kind=ActorKind.KEY, name="k" * 12, request_id="r-1", tracking={"session_id": 'a"b', "source": "ü"})


@pytest.fixture
def owner(partner: Partner) -> Owner:
    """A user whose basket can come into every state."""
    ProductFactory(product_id="limited", unsold=50, variant="red", main_product_id="main")
    ProductFactory(product_id="other", unsold=50)
    ProductFactory(product_id="scarce", unsold=1)
    ProductFactory(product_id="unlimited")
    return Owner(partner_id=partner.pk, user_id="anna")


def _all_held(user: User) -> None:
    user.place("other", 2)
    user.place("limited", 3)
    user.start()


def _with_cart_and_saved(user: User) -> None:
    user.place("limited", 3)
    user.place("unlimited", 2)
    user.place("other", 0)
    user.start()
    user.place("limited", 4)
    user.place("scarce", 1)


def _one_failed(user: User) -> None:
    user.place("limited", 3)
    user.place("scarce", 2)
    user.start()


def _test_mode(user: User) -> None:
    user.place("scarce", 7)
    user.start(test_mode=True)


def _lapsed(user: User) -> None:
    _all_held(user)
    user.wait(hours=2)


def _guest(user: User) -> None:
    _all_held(user)
    Basket.objects.filter(pk=user.owner.basket_id).update(guest=True)


def _second_session(user: User) -> None:
    for ordered in (True, False):
        _all_held(user)
        user.finish(ordered=ordered)
    user.start()


def _unlisted_since(user: User) -> None:
    _all_held(user)
    Product.objects.filter(pk="limited").update(listed=False)


def _clock_behind(user: User) -> None:
    """The basket was changed by a server whose clock is ahead."""
    _all_held(user)
    basket = Basket.objects.get(pk=user.owner.basket_id)
    Basket.objects.filter(pk=basket.pk).update(last_changed_at=basket.last_changed_at + timedelta(minutes=1))


def _ended(user: User) -> None:
    _all_held(user)
    user.finish(ordered=True)


def _aborted(user: User) -> None:
    _all_held(user)
    user.finish(ordered=False)


def _cart_only(user: User) -> None:
    user.place("limited", 3)


def _deleted(user: User) -> None:
    _cart_only(user)
    user.delete()


def _no_basket(user: User) -> None:
    del user


DIRECT = [_all_held, _with_cart_and_saved, _test_mode, _lapsed, _guest, _second_session, _unlisted_since, _clock_behind]
NOT_DIRECT = [_one_failed, _ended, _aborted, _cart_only, _deleted, _no_basket]


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("build", DIRECT)
def test_it_leaves_what_a_finish_leaves(owner: Owner, stored_rows: Stored, build: Callable[[User], None], *, named: bool) -> None:
    build(User(owner))
    order_no = CheckoutSession.objects.active().get().order_no if named else None
    before = stored_rows()
    assert orders_alike(owner=owner, order_no=order_no, actor=CALLER, read=stored_rows)
    assert stored_rows() == before


@pytest.mark.parametrize("build", NOT_DIRECT)
def test_it_writes_nothing_where_a_finish_decides(owner: Owner, stored_rows: Stored, build: Callable[[User], None]) -> None:
    build(User(owner))
    before = stored_rows()
    assert order_alone(owner=owner, order_no=None, actor=CALLER) is None
    assert stored_rows() == before


@pytest.mark.parametrize("build", DIRECT)
def test_it_leaves_a_session_that_the_call_does_not_name(owner: Owner, stored_rows: Stored, build: Callable[[User], None]) -> None:
    build(User(owner))
    before = stored_rows()
    assert order_alone(owner=owner, order_no="0000000000000000", actor=CALLER) is None
    assert stored_rows() == before


def test_it_leaves_the_baskets_of_others(owner: Owner, stored_rows: Stored) -> None:
    other = User(Owner(partner_id=PartnerFactory().pk, user_id="anna"))
    _all_held(other)
    before = stored_rows()
    assert order_alone(owner=owner, order_no=None, actor=CALLER) is None
    assert stored_rows() == before


def test_a_key_that_may_not_order_is_refused(owner: Owner, stored_rows: Stored) -> None:
    _all_held(User(owner))
    before = stored_rows()
    with pytest.raises(ServerKeyRequired), transaction.atomic():
        order_directly(owner=owner, order_no=None, actor=Actor(kind=ActorKind.KEY, name="k", may_order=False))
    assert stored_rows() == before
