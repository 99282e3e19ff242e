"""A direct order writes what a finish writes, in each of these states, and nothing in those that it leaves. `test_twins` has many more."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db import transaction

from baskets.domain.actors import Actor, ActorKind
from baskets.domain.checkout.direct_orders import order_directly
from baskets.domain.errors import ServerKeyRequired
from baskets.models import CheckoutSession, Partner
from baskets.models.basket_snapshot import Owner
from tests.domain import basket_states as states
from tests.domain.order_twins import order_alone, order_twins
from tests.domain.scenarios import User
from tests.factories import PartnerFactory

pytestmark = pytest.mark.django_db

Stored = Callable[[], dict[str, list[Any]]]
CALLER = Actor(kind=ActorKind.KEY, name="k" * 12, request_id="r-1", tracking={"session_id": 'a"b', "source": "ü"})


@pytest.fixture
def owner(partner: Partner) -> Owner:
    """A user whose basket can come into every state."""
    states.make_products()
    return Owner(partner_id=partner.pk, user_id="anna")


DIRECT = [states.all_held, states.with_cart_and_saved, states.test_mode, states.lapsed, states.second_session]
NOT_DIRECT = [states.one_failed, states.ended, states.aborted, states.cart_only, states.deleted, states.no_basket]


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("build", DIRECT)
def test_it_leaves_what_a_finish_leaves(owner: Owner, stored_rows: Stored, build: Callable[[User], None], *, named: bool) -> None:
    build(User(owner))
    order_no = CheckoutSession.objects.active().get().order_no if named else None
    before = stored_rows()
    assert order_twins(owner=owner, order_no=order_no, actor=CALLER).alike(read=stored_rows)
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
    states.all_held(other)
    before = stored_rows()
    assert order_alone(owner=owner, order_no=None, actor=CALLER) is None
    assert stored_rows() == before


def test_a_key_that_may_not_order_is_refused(owner: Owner, stored_rows: Stored) -> None:
    states.all_held(User(owner))
    before = stored_rows()
    with pytest.raises(ServerKeyRequired), transaction.atomic():
        order_directly(owner=owner, order_no=None, actor=Actor(kind=ActorKind.KEY, name="k", may_order=False))
    assert stored_rows() == before
