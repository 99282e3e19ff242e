"""Products in cart and saved: assigned, changed, moved, removed."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from pytest_django import DjangoAssertNumQueries, Settings

from baskets.domain import errors, runner
from baskets.domain.checkout import sessions
from baskets.models import Basket, Event, Product
from baskets.models.basket_snapshot import Owner
from tests.conftest import APP
from tests.domain.scenarios import User
from tests.factories import ProductFactory

Stored = Callable[[], dict[str, list[Any]]]


@pytest.fixture
def shopper(owner: Owner) -> User:
    """A user, and three products to choose from."""
    for product_id in ("a", "b", "c"):
        ProductFactory(product_id=product_id)
    return User(owner)


def test_placing_overwrites_in_place_and_never_adds_up(shopper: User) -> None:
    """The first product keeps the first place."""
    shopper.place("a", 2)
    shopper.place("b", 1)
    shopper.place("a", 5)
    assert shopper.lists()["cart"] == [("a", 5), ("b", 1)]


def test_moving_between_lists_appends_and_saved_keeps_the_count(shopper: User) -> None:
    """A saved item shows the count it had, 1 if it never had one."""
    shopper.place("a", 7)
    shopper.place("b", 1)
    shopper.place("c", 0)
    shopper.place("a", 0)
    assert shopper.lists() == {"cart": [("b", 1)], "saved": [("c", 1), ("a", 7)], "checkout": []}
    shopper.change("c", 4)
    assert shopper.lists() == {"cart": [("b", 1), ("c", 4)], "saved": [("a", 7)], "checkout": []}


def test_time_does_not_go_back_where_the_clock_does(shopper: User) -> None:
    """A server with a clock that is ahead has made the last change; the next one comes from a server with the right time."""
    shopper.place("a", 1)
    ahead = Basket.objects.get().last_changed_at + timedelta(hours=1)
    Basket.objects.update(last_changed_at=ahead)
    after = shopper.place("a", 2)
    assert (after.at, after.last_changed_at, after.expires_at) == (ahead, ahead, ahead + timedelta(days=30))
    assert Basket.objects.get().last_changed_at == ahead
    assert Event.objects.get(number=2).at == ahead


def test_a_change_keeps_to_what_is_in_the_basket(shopper: User) -> None:
    """None changes nothing; a product in neither list is refused; an unlisted one in the cart may change."""
    shopper.place("a", 1)
    Product.objects.update(listed=False)
    assert shopper.change("a", None).revision == 1
    assert shopper.change("a", 3).revision == 2
    for product_id in ("b", "nonsense"):
        with pytest.raises(errors.ProductNotInBasket):
            shopper.change(product_id, 1)
    with pytest.raises(errors.ProductNotFound):
        shopper.place("a", 2)


def test_the_limits_block_new_additions_only(shopper: User, settings: Settings, stored_rows: Stored) -> None:
    """A full cart still takes a new count, and a full saved list a repeat."""
    settings.BASKETS_CART_LIMIT = settings.BASKETS_SAVED_LIMIT = 1
    shopper.place("a", 1)
    shopper.place("b", 0)
    before = stored_rows()
    with pytest.raises(errors.CartFull):
        shopper.place("c", 1)
    with pytest.raises(errors.CartFull):
        shopper.change("b", 1)
    with pytest.raises(errors.SavedFull):
        shopper.place("c", 0)
    with pytest.raises(errors.SavedFull):
        shopper.change("a", 0)
    assert stored_rows() == before
    shopper.place("a", 9)
    shopper.place("b", 0)
    assert shopper.lists() == {"cart": [("a", 9)], "saved": [("b", 1)], "checkout": []}


def test_an_abort_may_pass_the_limit_of_the_cart(shopper: User, settings: Settings) -> None:
    """Limits block additions; nothing is lost."""
    settings.BASKETS_CART_LIMIT = 1
    shopper.place("a", 999)
    shopper.start()
    shopper.place("b", 999)
    shopper.finish(False)
    assert shopper.lists()["cart"] == [("a", 999), ("b", 999)]


def test_removing_leaves_the_checkout_alone(shopper: User) -> None:
    """Out of cart and saved, never out of checkout."""
    shopper.place("a", 1)
    shopper.start()
    with pytest.raises(errors.ProductNotInBasket):
        shopper.remove("a")
    shopper.place("a", 2)
    shopper.remove("a")
    assert shopper.lists() == {"cart": [], "saved": [], "checkout": [("a", 1, None)]}


def test_a_refused_addition_creates_no_basket(shopper: User) -> None:
    """Unknown and unlisted look the same."""
    Product.objects.filter(pk="b").update(listed=False)
    for product_id in ("b", "nonsense"):
        with pytest.raises(errors.ProductNotFound):
            shopper.place(product_id, 1)
    assert not Basket.objects.exists()


def test_what_changes_nothing_writes_nothing(shopper: User, stored_rows: Stored) -> None:
    """Neither revision, nor time, nor timeline."""
    shopper.place("a", 2)
    shopper.place("b", 0)
    before = stored_rows()
    shopper.place("a", 2)
    shopper.place("b", 0)
    shopper.change("b", 0)
    assert stored_rows() == before


def test_a_basket_past_its_time_comes_back_without_what_it_held(shopper: User) -> None:
    """Absent before it is swept, and emptied when an addition brings it back."""
    shopper.place("a", 1)
    shopper.wait(days=30, seconds=1)
    assert shopper.basket() is None
    with pytest.raises(errors.CartEmpty):
        shopper.start()
    with pytest.raises(errors.ProductNotInBasket):
        shopper.remove("a")
    with pytest.raises(errors.BasketNotFound):
        shopper.delete()
    with pytest.raises(errors.BasketNotFound):
        shopper.finish(False)
    shopper.place("b", 1)
    assert shopper.lists() == {"cart": [("b", 1)], "saved": [], "checkout": []}
    kinds = Event.objects.order_by("number").values_list("kind", flat=True)
    assert list(kinds) == ["item_placed", "basket_expired", "item_placed"]


def test_every_change_slides_the_end_but_not_of_a_guest(shopper: User) -> None:
    """30 days after the last change; a guest's after its creation."""
    shopper.place("a", 1)
    shopper.wait(days=10)
    snapshot = shopper.place("a", 2)
    assert snapshot.expires_at - snapshot.last_changed_at == timedelta(days=30)
    Basket.objects.update(guest=True)
    guest = shopper.wait(days=10) or shopper.place("a", 3)
    assert guest.expires_at - guest.last_changed_at < timedelta(days=20, seconds=1)


def test_a_late_order_does_not_bring_back_a_basket_past_its_time(shopper: User, settings: Settings) -> None:
    """What the cart held is gone; the order is the only thing that comes of it."""
    settings.BASKETS_LIFETIME_SECONDS = 3600
    shopper.place("a", 2)
    order_no = shopper.start().session.order_no
    shopper.place("b", 1)
    shopper.finish(False)
    shopper.wait(hours=2)
    assert shopper.basket() is None
    shopper.finish(True, order_no)
    assert shopper.basket() is None
    assert shopper.lists() == {"cart": [], "saved": [], "checkout": []}


@pytest.mark.parametrize("items", [1, 20])
def test_statements_do_not_grow_with_the_items(owner: Owner, django_assert_num_queries: DjangoAssertNumQueries, items: int) -> None:
    """A placement, a start, an abort and an order cost the same with 1 item and with 20. Savepoints are counted here."""
    user = User(owner)
    for n in range(items):
        ProductFactory(product_id=f"limited-{n}", unsold=5)
        user.place(f"limited-{n}", 1)
    transaction_control = 2  # Inside a test the runner's transaction is a savepoint and its release.
    with django_assert_num_queries(5 + transaction_control):
        user.place("limited-0", 2)
    with django_assert_num_queries(8 + (items > 1) + transaction_control):
        runner.run(sessions.start_session, owner=owner, actor=APP)
    with django_assert_num_queries(7 + (items > 1) + transaction_control):
        user.finish(False)
    user.start()
    with django_assert_num_queries(2 + transaction_control):
        user.finish(True)


@pytest.mark.parametrize("items", [1, 20])
def test_statements_of_a_late_order_do_not_grow_with_the_items(
    owner: Owner, django_assert_num_queries: DjangoAssertNumQueries, items: int
) -> None:
    """A direct order does not apply; then everything is taken again in one round, and open flags are settled by one statement."""
    user = User(owner)
    for n in range(items):
        ProductFactory(product_id=f"limited-{n}", unsold=5)
        user.place(f"limited-{n}", 5)
    transaction_control = 2
    order_no = user.start().session.order_no
    user.finish(False)
    with django_assert_num_queries(2 + transaction_control + 10 + (items > 1) + transaction_control):
        user.finish(True, order_no)
