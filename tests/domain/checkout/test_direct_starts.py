"""A direct start writes what a start writes, in each of these states, and nothing in those that it leaves. `test_twins` has many more."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db import transaction

from baskets.domain import runner
from baskets.domain.access.client_limits import ClientLimits
from baskets.domain.actors import Actor, ActorKind
from baskets.domain.checkout.direct_starts import may_start_directly, start_directly
from baskets.domain.checkout.sessions import start_session
from baskets.models import Partner, Product
from baskets.models.basket_snapshot import Owner
from tests.domain import basket_states as states
from tests.domain.scenarios import User
from tests.domain.start_twins import ORDER_NO, start_alone, start_twins
from tests.factories import PartnerFactory

pytestmark = pytest.mark.django_db

Stored = Callable[[], dict[str, list[Any]]]
CALLER = Actor(kind=ActorKind.KEY, name="k" * 12, request_id="r-1", tracking={"session_id": 'a"b', "source": "ü"})


@pytest.fixture
def owner(partner: Partner) -> Owner:
    """A user whose basket can come into every state."""
    states.make_products()
    Product.objects.filter(pk="limited").update(price=1250, currency="EUR")
    Product.objects.filter(pk="other").update(price=10, currency="EUR")
    Product.objects.filter(pk="scarce").update(price=10, currency="USD")
    Product.objects.filter(pk="unlimited").update(price=None, currency="EUR")
    return Owner(partner_id=partner.pk, user_id="anna")


def cart(user: User) -> None:
    user.place("other", 2)
    user.place("limited", 3)


def cart_and_saved(user: User) -> None:
    """Two items have places before and between those of the cart."""
    user.place("other", 0)
    cart(user)
    user.place("scarce", 1)
    user.place("scarce", 0)
    user.place("unlimited", 2)


def unlimited_only(user: User) -> None:
    user.place("unlimited", 4)


def after_order(user: User) -> None:
    states.ended(user)
    cart(user)


def saved_only(user: User) -> None:
    user.place("limited", 0)


DIRECT = [cart, cart_and_saved, unlimited_only, after_order, states.aborted]
NOT_DIRECT = [saved_only, states.all_held, states.lapsed, states.with_cart_and_saved, states.ended, states.deleted, states.no_basket]


@pytest.mark.parametrize("build", DIRECT)
def test_it_leaves_what_a_start_leaves(owner: Owner, stored_rows: Stored, build: Callable[[User], None]) -> None:
    build(User(owner))
    assert start_twins(owner=owner, actor=CALLER).alike(read=stored_rows)


@pytest.mark.parametrize("build", NOT_DIRECT)
def test_it_writes_nothing_where_a_start_decides(owner: Owner, stored_rows: Stored, build: Callable[[User], None]) -> None:
    build(User(owner))
    before = stored_rows()
    assert start_alone(owner=owner, actor=CALLER) is None
    assert stored_rows() == before


def test_it_leaves_the_baskets_of_others(owner: Owner, stored_rows: Stored) -> None:
    cart(User(Owner(partner_id=PartnerFactory().pk, user_id="anna")))
    before = stored_rows()
    assert start_alone(owner=owner, actor=CALLER) is None
    assert stored_rows() == before


@pytest.mark.parametrize("finished", [False, True])
def test_a_repeat_after_a_lost_connection_returns_its_session(owner: Owner, stored_rows: Stored, *, finished: bool) -> None:
    user = User(owner)
    cart(user)
    session = user.start(order_no=ORDER_NO).session
    if finished:
        user.finish(True)
        cart(user)
    before = stored_rows()
    repeated = runner.run(start_session, owner=owner, actor=CALLER, order_no=ORDER_NO, repeated_since=0.0)
    assert (repeated.session.id, repeated.session.expires_at, repeated.session.full_price) == (session.id, session.expires_at, 3770)
    assert (repeated.snapshot.session is None) is finished
    assert stored_rows() == before


def test_a_repeat_starts_where_the_lost_call_did_not(owner: Owner) -> None:
    cart(User(owner))
    repeated = runner.run(start_session, owner=owner, actor=CALLER, order_no=ORDER_NO, repeated_since=0.0)
    assert repeated.session.order_no == ORDER_NO
    assert [line.stocked for line in repeated.snapshot.checkout] == [2, 3]


def test_a_key_that_has_become_a_client_key_starts_nothing(owner: Owner, stored_rows: Stored) -> None:
    cart(User(owner))
    before = stored_rows()
    limits = ClientLimits(key="k", source=lambda: "192.0.2.1")
    with transaction.atomic():
        assert start_directly(owner=owner, order_no=ORDER_NO, limits=limits, actor=CALLER).result() is None
    assert stored_rows() == before


def test_limits_of_users_and_of_client_keys_are_left_to_a_start(settings: Any) -> None:
    assert may_start_directly(test_mode=False, by_client_key=False)
    assert not may_start_directly(test_mode=True, by_client_key=False)
    assert not may_start_directly(test_mode=False, by_client_key=True)
    for limit in ("BASKETS_STARTS_PER_HOUR", "BASKETS_PIECES_PER_CHECKOUT"):
        setattr(settings, limit, 1)
        assert not may_start_directly(test_mode=False, by_client_key=False)
        setattr(settings, limit, 0)
