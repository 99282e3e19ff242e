"""The two forms of a start, and of an order, leave the same in all states that follow from the models. See `tests.domain.varied_states`."""

import random
from collections.abc import Callable
from typing import Any

import pytest
from django.db.models import Model
from django.db.models.functions import Now

from baskets import conf
from baskets.domain.actors import Actor, ActorKind
from baskets.domain.baskets import store
from baskets.domain.checkout import expiry
from baskets.domain.errors import CartEmpty
from baskets.domain.stock import supply
from baskets.models import BasketItem, CheckoutItem, CheckoutSession, GuestToken, Partner, Product, Stock
from baskets.models.basket_snapshot import BasketSnapshot, Owner
from tests import seams
from tests.conftest import LongRun
from tests.domain.order_twins import order_twins
from tests.domain.scenarios import User
from tests.domain.start_twins import start_twins
from tests.domain.twins import Twins
from tests.domain.varied_states import Difference, Variations
from tests.factories import TESTER, PartnerFactory, ProductFactory

pytestmark = pytest.mark.django_db

CALLER = Actor(kind=ActorKind.KEY, name="k" * 12, request_id="r-1", tracking={"session_id": 'a"b', "source": "ü"})
Common = Callable[[Owner], Twins[Any]]


def common_start(owner: Owner) -> Twins[Any]:
    """A cart with all its pieces in stock, and one to spare; beside it a saved item, a session of each end, and other baskets."""
    ProductFactory(product_id="limited", unsold=10, variant="red", main_product_id="main")
    ProductFactory(product_id="other")
    ProductFactory(product_id="saved", unsold=5)
    ProductFactory(product_id="unlimited")
    user = User(owner)
    user.beside("bea").place("other")
    User(Owner(partner_id=PartnerFactory().pk, user_id="anna")).place("other")
    for ordered, product_id in (True, "limited"), (False, "unlimited"), (None, "limited"):
        user.place(product_id)
        user.start()
        if ordered is None:
            user.wait(hours=1)
            expiry.sweep_sessions()
        else:
            user.finish(ordered)
    user.place("limited", 3)
    user.place("unlimited", 2)
    user.place("saved", 0)
    supply.set_unsold(reports={"limited": 4}, as_of=None, reason="test supply", actor=TESTER)
    return start_twins(owner=owner, actor=CALLER)


def common_order(owner: Owner) -> Twins[Any]:
    """An active session with an item that is held and one that is unlimited, and a cart."""
    common_start(owner)
    user = User(owner)
    user.start()
    user.place("limited")
    return order_twins(owner=owner, order_no=None, actor=CALLER)


COMMON = [common_start, common_order]
# The database refuses every other value.
FIXED = {"partner.id", "product.product_id", "stock.product_id"}


@pytest.mark.parametrize("common", COMMON)
def test_forms_leave_the_same_in_all_states(owner: Owner, common: Common, long_run: LongRun) -> None:
    variations = Variations(common(owner), random.Random(1))
    variations.compare_small_changes()
    assert variations.unchanged_columns() <= FIXED
    assert len(variations.direct) > 500
    assert len(variations.decided) > 5
    variations.compare_joint_changes(states=15)
    assert len(variations.pairs) > 10_000
    compared = len(variations.direct) + len(variations.decided)
    long_run.record(states_in_which_two_forms_are_alike=compared, pairs_of_changes_in_them=len(variations.pairs))


@pytest.mark.long
@pytest.mark.parametrize("common", COMMON)
def test_forms_leave_the_same_in_many_states(owner: Owner, common: Common, long_run: LongRun) -> None:
    variations = Variations(common(owner), long_run.rng)
    variations.compare_small_changes()
    variations.compare_joint_changes(states=500)
    long_run.record(pairs_of_changes_in_many_states=len(variations.pairs))


# --- Rules that stand in Python alone ------------------------------------------------


def add_rule(monkeypatch: pytest.MonkeyPatch, refuses: Callable[[BasketSnapshot], object]) -> None:
    """Add a rule to `start_session` and `finish_session`, as an engineer would who does not know of the direct forms."""

    def write_lists(*, before: BasketSnapshot, after: BasketSnapshot) -> BasketSnapshot:
        if refuses(before):
            raise CartEmpty
        return store.write_lists(before=before, after=after)

    seams.LISTS_OF_A_START.replace(monkeypatch, write_lists)


def in_cart(basket: BasketSnapshot) -> Any:
    return Product.objects.filter(basket_items__basket=basket.basket_id, basket_items__list="cart")


def in_checkout(basket: BasketSnapshot) -> Any:
    return CheckoutItem.objects.filter(session__basket=basket.basket_id, session__finished_at=None)


Refuses = Callable[[BasketSnapshot], object]
RULES: list[tuple[Common, type[Model] | None, str, Refuses]] = [
    (common_start, Stock, "purged_until = ", lambda basket: in_cart(basket).filter(stock__purged_until__isnull=False)),
    (common_start, Product, "created_at = ", lambda basket: in_cart(basket).filter(created_at__gt=Now())),
    (common_start, Product, "brand = ", lambda basket: in_cart(basket).exclude(brand="")),
    (common_start, BasketItem, "count = ", lambda basket: sum(line.count for line in basket.cart) > conf.piece_limit()),
    (common_start, None, "BASKETS_PIECE_LIMIT = ", lambda basket: sum(line.count for line in basket.cart) > conf.piece_limit()),
    (common_start, Partner, "origins = ", lambda basket: Partner.objects.filter(baskets=basket.basket_id).exclude(origins=[])),
    (common_order, Partner, "late_orders = ", lambda basket: basket.late_orders == Partner.LateOrders.ACCEPT),
    (common_order, CheckoutItem, "price = None", lambda basket: in_checkout(basket).filter(price=None)),
    (common_order, CheckoutSession, "country = ", lambda basket: in_checkout(basket).exclude(session__country="")),
]


@pytest.mark.parametrize(("common", "model", "change", "refuses"), RULES)
def test_rule_in_python_alone_is_found(
    owner: Owner, monkeypatch: pytest.MonkeyPatch, common: Common, model: type[Model] | None, change: str, refuses: Refuses
) -> None:
    twins = common(owner)
    add_rule(monkeypatch, refuses)
    with pytest.raises(Difference, match=rf"{change}[^;]*:\nthe rule refuses, and the direct form does not$"):
        Variations(twins, random.Random(1)).compare_small_changes(only=[model])


def test_rule_about_two_columns_is_found(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    twins = common_start(owner)
    add_rule(monkeypatch, lambda basket: in_cart(basket).exclude(brand="").exclude(basket_items__basket__partner__origins=[]))
    variations = Variations(twins, random.Random(1))
    variations.compare_small_changes(only=[Partner, Product])
    with pytest.raises(Difference, match=r"differ where (\S+ \S+: (origins|brand) = [^;]*(; )?){2}:\nthe rule refuses"):
        variations.compare_joint_changes(states=30)


def test_rule_about_another_table_is_found(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    twins = common_start(owner)
    add_rule(monkeypatch, lambda basket: GuestToken.objects.filter(basket=basket.basket_id).exists())
    with pytest.raises(AssertionError, match="a form reads baskets_guesttoken: add a row of it to the common state"):
        Variations(twins, random.Random(1)).compare_small_changes(only=[GuestToken])
