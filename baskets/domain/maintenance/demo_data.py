"""Loads demo data: a partner with a key, an administrator, products and baskets, all through domain calls.

In one of several cells: a share of each supply, and the baskets of the users of the cell.
"""

import contextlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

from django.contrib.auth import get_user_model
from django.db import transaction

from baskets import conf
from baskets.domain import runner, slots
from baskets.domain.access import api_keys, partners
from baskets.domain.actors import Actor
from baskets.domain.baskets import items
from baskets.domain.checkout import expiry, sessions
from baskets.domain.errors import CheckoutActive, Refusal
from baskets.domain.staff import rights
from baskets.domain.stock import catalog
from baskets.domain.stock.catalog import ProductRow
from baskets.domain.support import sandboxes
from baskets.models import ApiKey, Basket, CheckoutSession, Partner, Product, Stock
from baskets.models.basket_snapshot import Owner

PARTNER = "demo"
# Further users belong to a second partner, so that the first one has only the users of the documented examples.
SECOND_PARTNER = "demo-second-screen"
ADMINISTRATOR = "admin"
# The user with an active checkout, and the order number of the first one, so that examples can name it.
USER_ID = "demo-anna"
ORDER_NO = "DEM0-ANNA-2026-0001"
# A user with a full cart, and one whose basket may be deleted.
SHOPPER_ID, LEAVER_ID = "demo-finn", "demo-gina"
ACTOR = Actor.system("load_demo")

_product = partial(ProductRow, currency="EUR")
PRODUCTS = [
    _product(product_id="demo-raincoat", name="Yellow raincoat", brand="Nordwind", price=8900, stock=250),
    _product(
        product_id="demo-raincoat-m",
        name="Yellow raincoat",
        brand="Nordwind",
        variant="M",
        main_product_id="demo-raincoat",
        price=8900,
        stock=120,
    ),
    _product(
        product_id="demo-raincoat-l",
        name="Yellow raincoat",
        brand="Nordwind",
        variant="L",
        main_product_id="demo-raincoat",
        price=8900,
        stock=3,
    ),
    _product(product_id="demo-mug", name="Detective's mug", brand="Kiln & Co", price=1490, stock=1000),
    _product(product_id="demo-lamp", name="Desk lamp of episode 3", brand="Lumo", price=12900, stock=40),
    _product(product_id="demo-record", name="Soundtrack on vinyl", brand="Grooves", price=2999, stock=75),
    _product(product_id="demo-soundtrack", name="Soundtrack, download", brand="Grooves", price=999, stock=None),
    _product(product_id="demo-voucher", name="Cinema voucher", price=2500, stock=None),
    _product(product_id="demo-cookbook", name="The chef's cookbook", brand="Paper Boat", price=3200, stock=60),
    _product(product_id="demo-scarf", name="Knitted scarf", brand="Nordwind", price=4500, stock=18),
    _product(product_id="demo-jacket", name="The jacket of the finale", brand="Nordwind", price=24900, stock=0),
    _product(product_id="demo-poster", name="Signed poster, sold last year", price=5900, stock=5, listed=False),
]


@dataclass(frozen=True, kw_only=True)
class DemoAccess:
    """What a user of the demo needs.

    :param api_key: None if the key was issued before: its text is not stored.
    :param test_api_key: a key of the demo's sandbox; None as above.
    :param admin_password: None if it was set before.
    :param order_no: of the active checkout of `user_id`; None if no checkout could be started.
    """

    api_key: str | None
    test_api_key: str | None
    admin_user: str
    admin_password: str | None
    user_id: str
    order_no: str | None


def load_demo(*, new_api_key: bool = False, new_test_api_key: bool = False, new_admin_password: bool = False) -> DemoAccess:
    """Create the missing demo data, and an active checkout for the user of the demo.

    Safe to run twice and in parallel. Existing products stay unchanged, so a second run adds no stock.

    :param new_api_key: issue another key although one exists.
    :param new_test_api_key: issue another test key although one exists.
    :param new_admin_password: set another password of the administrator.
    """
    api_key, test_api_key, admin_password = _ensure_access(
        new_api_key=new_api_key, new_test_api_key=new_test_api_key, new_admin_password=new_admin_password
    )
    if missing := _missing_products():
        catalog.import_products(rows=[_share(row) for row in missing], as_of=None, reason="demo supply", actor=ACTOR)
    _ensure_carts()
    _ensure_other_baskets()
    return DemoAccess(
        api_key=api_key,
        test_api_key=test_api_key,
        admin_user=ADMINISTRATOR,
        admin_password=admin_password,
        user_id=USER_ID,
        order_no=_ensure_active_checkout(),
    )


def _missing_products() -> list[ProductRow]:
    """List the products that are not in the catalog, or that the cell which publishes it has brought without pieces."""
    known = set(Product.objects.filter(pk__in=[row.product_id for row in PRODUCTS]).values_list("pk", flat=True))
    reported = set(Stock.objects.reported().filter(product_id__in=known).values_list("product_id", flat=True))
    limited = set(Stock.objects.filter(product_id__in=known).values_list("product_id", flat=True))
    return [row for row in PRODUCTS if row.product_id not in known or row.product_id in limited - reported]


def _share(row: ProductRow) -> ProductRow:
    """Return a product with the pieces of this cell. The shares of all cells add up to its stock."""
    cells = len(conf.cell_databases())
    if not conf.cell() or not isinstance(row.stock, int) or cells < 2:
        return row
    return replace(row, stock=row.stock // cells + (conf.cell() <= row.stock % cells))


# --- Access -----------------------------------------------------------------------


@transaction.atomic(savepoint=False)
def _ensure_access(*, new_api_key: bool, new_test_api_key: bool, new_admin_password: bool) -> tuple[str | None, str | None, str | None]:
    """Create the keys and the administrator that are missing.

    :returns: the API key, the test key and the administrator's password; None for each that was there.
    """
    api_key = _server_key(_partner(PARTNER), renew=new_api_key)
    test_api_key = _server_key(sandboxes.open_sandbox(partner_name=PARTNER, actor=ACTOR), renew=new_test_api_key)
    return api_key, test_api_key, _administrator_password(renew=new_admin_password)


def _server_key(partner: Partner, *, renew: bool) -> str | None:
    if not renew and ApiKey.objects.valid().filter(partner=partner, kind=ApiKey.Kind.SERVER).exists():
        return None
    return api_keys.issue_api_key(partner_name=partner.name, label="demo", actor=ACTOR)[1]


def _partner(name: str, late_orders: str = Partner.LateOrders.REFUSE) -> Partner:
    try:
        return partners.create_partner(name=name, late_orders=late_orders, actor=ACTOR)
    except partners.PartnerNameTaken:
        return Partner.objects.get(name=name)


def _administrator_password(*, renew: bool) -> str | None:
    users = get_user_model().objects
    administrator = users.filter(username=ADMINISTRATOR).first()
    if administrator is not None and not renew:
        return None
    password = secrets.token_urlsafe(15)
    if administrator is None:
        created = users.create_superuser(ADMINISTRATOR, password=password)
        rights.record_change(subject=created, before=[], session_key="", actor=ACTOR)
    else:
        administrator.set_password(password)
        administrator.save(update_fields=["password"])
        rights.record_password(account=administrator, session_key="", actor=ACTOR)
    return password


# --- Baskets ----------------------------------------------------------------------


def _ensure_active_checkout() -> str | None:
    """Give the user of the demo an active checkout that has not lapsed. Fills the cart for it.

    :returns: its order number; None if the checkout cannot be started.
    """
    if not slots.is_in_this_cell(USER_ID):
        return None
    owner = Owner(partner_id=Partner.objects.get(name=PARTNER).pk, user_id=USER_ID)
    expiry.expire_session(basket_id=owner.basket_id, actor=ACTOR)
    active = CheckoutSession.objects.active().filter(basket_id=owner.basket_id).first()
    if active is not None:
        return active.order_no
    is_new = not Basket.objects.filter(pk=owner.basket_id, hidden_at__isnull=True).exists()
    try:
        if is_new:
            _place(owner, {"demo-record": 0, "demo-scarf": 0})
        _place(owner, {"demo-mug": 2, "demo-soundtrack": 1})
        is_first = not CheckoutSession.objects.filter(order_no=ORDER_NO).exists()
        order_no = _start(owner, order_no=ORDER_NO if is_first else None)
        if is_new:
            # Shows that the cart stays usable during a checkout.
            _place(owner, {"demo-cookbook": 1})
    except CheckoutActive as refusal:
        return refusal.active.order_no
    except Refusal:
        return None  # The products are sold out or unlisted, or the cart is full. The demo starts without a checkout.
    return order_no


def _ensure_carts() -> None:
    """Fill the baskets of the documented examples, once each."""
    partner_id = Partner.objects.get(name=PARTNER).pk
    carts = {
        SHOPPER_ID: {"demo-mug": 1, "demo-cookbook": 1, "demo-scarf": 1, "demo-voucher": 1},
        LEAVER_ID: {"demo-soundtrack": 1},
    }
    for user_id, counts in carts.items():
        owner = Owner(partner_id=partner_id, user_id=user_id)
        if Basket.objects.filter(pk=owner.basket_id).exists() or not slots.is_in_this_cell(user_id):
            continue
        with contextlib.suppress(Refusal):  # The demo works without these baskets.
            _place(owner, counts)


def _ensure_other_baskets() -> None:
    """Create a few baskets in different states for the admin, once."""
    partner = _partner(SECOND_PARTNER, late_orders=Partner.LateOrders.ACCEPT)
    if Basket.objects.filter(partner=partner).exists():
        return
    carts = {
        "demo-bob": {"demo-lamp": 1, "demo-jacket": 1, "demo-voucher": 0},
        "demo-carla": {"demo-raincoat-m": 1, "demo-cookbook": 2},
        "demo-dev": {"demo-record": 1, "demo-scarf": 1},
        "demo-emil": {"demo-lamp": 2, "demo-raincoat-l": 5, "demo-voucher": 1},
    }
    ordered = {"demo-carla": True, "demo-dev": False}
    for user_id, counts in carts.items():
        if not slots.is_in_this_cell(user_id):
            continue
        owner = Owner(partner_id=partner.pk, user_id=user_id)
        with contextlib.suppress(Refusal):  # The demo works without these baskets.
            _place(owner, counts)
            if user_id != "demo-bob":
                _start(owner)
            if user_id in ordered:
                _finish(owner, ordered=ordered[user_id])


def _place(owner: Owner, counts: Mapping[str, int]) -> None:
    def place() -> None:
        for product_id, count in counts.items():
            items.place_item(owner=owner, product_id=product_id, count=count, actor=ACTOR)

    runner.run(place)


def _start(owner: Owner, *, order_no: str | None = None) -> str:
    return runner.run(sessions.start_session, owner=owner, order_no=order_no, actor=ACTOR).session.order_no


def _finish(owner: Owner, *, ordered: bool) -> None:
    runner.run(sessions.finish_session, owner=owner, ordered=ordered, order_no=None, actor=ACTOR)
