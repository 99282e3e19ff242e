"""The states that a basket can be in when its session is to end: each function brings a user's basket into one."""

from baskets.models import Basket
from tests.domain.scenarios import User
from tests.factories import ProductFactory


def make_products() -> None:
    """Make the products that the states need."""
    ProductFactory(product_id="limited", unsold=50, variant="red", main_product_id="main")
    ProductFactory(product_id="other", unsold=50)
    ProductFactory(product_id="scarce", unsold=1)
    ProductFactory(product_id="unlimited")


def all_held(user: User) -> None:
    user.place("other", 2)
    user.place("limited", 3)
    user.start()


def with_cart_and_saved(user: User) -> None:
    user.place("limited", 3)
    user.place("unlimited", 2)
    user.place("other", 0)
    user.start()
    user.place("limited", 4)
    user.place("scarce", 1)


def one_failed(user: User) -> None:
    user.place("limited", 3)
    user.place("scarce", 2)
    user.start()


def test_mode(user: User) -> None:
    user.place("scarce", 7)
    user.start(test_mode=True)


def lapsed(user: User) -> None:
    all_held(user)
    user.wait(hours=2)


def guest(user: User) -> None:
    all_held(user)
    Basket.objects.filter(pk=user.owner.basket_id).update(guest=True)


def second_session(user: User) -> None:
    for ordered in (True, False):
        all_held(user)
        user.finish(ordered=ordered)
    user.start()


def ended(user: User) -> None:
    all_held(user)
    user.finish(ordered=True)


def aborted(user: User) -> None:
    all_held(user)
    user.finish(ordered=False)


def cart_only(user: User) -> None:
    user.place("limited", 3)


def deleted(user: User) -> None:
    cart_only(user)
    user.delete()


def no_basket(user: User) -> None:
    del user
