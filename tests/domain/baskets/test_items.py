"""Products in cart and saved: assigned, changed, moved, removed."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from pytest_django import DjangoAssertNumQueries, Settings

from baskets.domain import errors
from baskets.models import Basket, Event, Product
from baskets.models.basket_snapshot import Owner
from tests.domain.scenarios import User
from tests.factories import ProductFactory

Stored = Callable[[], dict[str, list[Any]]]


@pytest.fixture
def anna(owner: Owner) -> User:
    """A user, and three products to choose from."""
    for product_id in ("a", "b", "c"):
        ProductFactory(product_id=product_id)
    return User(owner)


def test_placing_overwrites_in_place_and_never_adds_up(anna: User) -> None:
    """The first product keeps the first place."""
    anna.place("a", 2)
    anna.place("b", 1)
    anna.place("a", 5)
    assert anna.lists()["cart"] == [("a", 5), ("b", 1)]


def test_moving_between_lists_appends_and_saved_keeps_the_count(anna: User) -> None:
    """A saved item shows the count it had, 1 if it never had one."""
    anna.place("a", 7)
    anna.place("b", 1)
    anna.place("c", 0)
    anna.place("a", 0)
    assert anna.lists() == {"cart": [("b", 1)], "saved": [("c", 1), ("a", 7)], "checkout": []}
    anna.change("c", 4)
    assert anna.lists() == {"cart": [("b", 1), ("c", 4)], "saved": [("a", 7)], "checkout": []}


def test_time_does_not_go_back_where_the_clock_does(anna: User) -> None:
    """A server with a clock that is ahead has made the last change; the next one comes from a server with the right time."""
    anna.place("a", 1)
    ahead = Basket.objects.get().last_changed_at + timedelta(hours=1)
    Basket.objects.update(last_changed_at=ahead)
    after = anna.place("a", 2)
    assert (after.at, after.last_changed_at, after.expires_at) == (ahead, ahead, ahead + timedelta(days=30))
    assert Basket.objects.get().last_changed_at == ahead
    assert Event.objects.get(number=2).at == ahead


def test_a_change_keeps_to_what_is_in_the_basket(anna: User) -> None:
    """None changes nothing; a product in neither list is refused; an unlisted one in the cart may change."""
    anna.place("a", 1)
    Product.objects.update(listed=False)
    assert anna.change("a", None).revision == 1
    assert anna.change("a", 3).revision == 2
    for product_id in ("b", "nonsense"):
        with pytest.raises(errors.ProductNotInBasket):
            anna.change(product_id, 1)
    with pytest.raises(errors.ProductNotFound):
        anna.place("a", 2)


def test_the_limits_block_new_additions_only(anna: User, settings: Settings, everything_stored: Stored) -> None:
    """A full cart still takes a new count, and a full saved list a repeat."""
    settings.BASKETS_CART_LIMIT = settings.BASKETS_SAVED_LIMIT = 1
    anna.place("a", 1)
    anna.place("b", 0)
    before = everything_stored()
    with pytest.raises(errors.CartFull):
        anna.place("c", 1)
    with pytest.raises(errors.CartFull):
        anna.change("b", 1)
    with pytest.raises(errors.SavedFull):
        anna.place("c", 0)
    with pytest.raises(errors.SavedFull):
        anna.change("a", 0)
    assert everything_stored() == before
    anna.place("a", 9)
    anna.place("b", 0)
    assert anna.lists() == {"cart": [("a", 9)], "saved": [("b", 1)], "checkout": []}


def test_an_abort_may_pass_the_limit_of_the_cart(anna: User, settings: Settings) -> None:
    """Limits block additions; nothing is lost."""
    settings.BASKETS_CART_LIMIT = 1
    anna.place("a", 999)
    anna.start()
    anna.place("b", 999)
    anna.finish(False)
    assert anna.lists()["cart"] == [("a", 999), ("b", 999)]


def test_removing_leaves_the_checkout_alone(anna: User) -> None:
    """Out of cart and saved, never out of checkout."""
    anna.place("a", 1)
    anna.start()
    with pytest.raises(errors.ProductNotInBasket):
        anna.remove("a")
    anna.place("a", 2)
    anna.remove("a")
    assert anna.lists() == {"cart": [], "saved": [], "checkout": [("a", 1, None)]}


def test_a_refused_addition_creates_no_basket(anna: User) -> None:
    """Unknown and unlisted look the same."""
    Product.objects.filter(pk="b").update(listed=False)
    for product_id in ("b", "nonsense"):
        with pytest.raises(errors.ProductNotFound):
            anna.place(product_id, 1)
    assert not Basket.objects.exists()


def test_what_changes_nothing_writes_nothing(anna: User, everything_stored: Stored) -> None:
    """Neither revision, nor time, nor timeline."""
    anna.place("a", 2)
    anna.place("b", 0)
    before = everything_stored()
    anna.place("a", 2)
    anna.place("b", 0)
    anna.change("b", 0)
    assert everything_stored() == before


def test_a_basket_past_its_time_comes_back_without_what_it_held(anna: User) -> None:
    """Absent before it is swept, and emptied when an addition brings it back."""
    anna.place("a", 1)
    anna.wait(days=30, seconds=1)
    assert anna.basket() is None
    with pytest.raises(errors.CartEmpty):
        anna.start()
    with pytest.raises(errors.ProductNotInBasket):
        anna.remove("a")
    with pytest.raises(errors.BasketNotFound):
        anna.delete()
    with pytest.raises(errors.BasketNotFound):
        anna.finish(False)
    anna.place("b", 1)
    assert anna.lists() == {"cart": [("b", 1)], "saved": [], "checkout": []}
    kinds = Event.objects.order_by("number").values_list("kind", flat=True)
    assert list(kinds) == ["item_placed", "basket_expired", "item_placed"]


def test_every_change_slides_the_end_but_not_of_a_guest(anna: User) -> None:
    """30 days after the last change; a guest's after its creation."""
    anna.place("a", 1)
    anna.wait(days=10)
    contents = anna.place("a", 2)
    assert contents.expires_at - contents.last_changed_at == timedelta(days=30)
    Basket.objects.update(guest=True)
    guest = anna.wait(days=10) or anna.place("a", 3)
    assert guest.expires_at - guest.last_changed_at < timedelta(days=20, seconds=1)


def test_a_late_order_does_not_bring_back_a_basket_past_its_time(anna: User, settings: Settings) -> None:
    """What the cart held is gone; the order is the only thing that comes of it."""
    settings.BASKETS_LIFETIME_SECONDS = 3600
    anna.place("a", 2)
    order_no = anna.start().session.order_no
    anna.place("b", 1)
    anna.finish(False)
    anna.wait(hours=2)
    assert anna.basket() is None
    anna.finish(True, order_no)
    assert anna.basket() is None
    assert anna.lists() == {"cart": [], "saved": [], "checkout": []}


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
        user.start()
    with django_assert_num_queries(7 + (items > 1) + transaction_control):
        user.finish(False)
    user.start()
    with django_assert_num_queries(6 + transaction_control):
        user.finish(True)


@pytest.mark.parametrize("items", [1, 20])
def test_statements_of_a_late_order_do_not_grow_with_the_items(
    owner: Owner, django_assert_num_queries: DjangoAssertNumQueries, items: int
) -> None:
    """Everything is taken again in one round, and open flags are settled by one statement."""
    user = User(owner)
    for n in range(items):
        ProductFactory(product_id=f"limited-{n}", unsold=5)
        user.place(f"limited-{n}", 5)
    transaction_control = 2
    order_no = user.start().session.order_no
    user.finish(False)
    with django_assert_num_queries(10 + (items > 1) + transaction_control):
        user.finish(True, order_no)
