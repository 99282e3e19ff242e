"""Every invariant finds nothing in rows of every state, and finds the row that breaks it."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from uuid import UUID

import pytest
from django.apps import apps
from django.db import IntegrityError, connection, transaction
from django.db.models import ForeignKey
from django.test import TestCase
from pytest_django import DjangoDbBlocker

from baskets.domain import idempotency
from baskets.domain.checkout import expiry
from baskets.domain.errors import Refusal
from baskets.domain.events import activity
from baskets.domain.maintenance import invariant_checker
from baskets.domain.maintenance.invariants import INVARIANTS
from baskets.domain.stock import supply
from baskets.domain.support import checkout_repairs, reservation_repairs
from baskets.models import Basket, CheckoutSession, Partner, StockReservation
from baskets.models.basket_snapshot import Owner
from tests.domain.maintenance.violations import VIOLATIONS
from tests.domain.maintenance.violations.statements import sql
from tests.domain.scenarios import User
from tests.factories import TESTER, PartnerFactory, ProductFactory


def build() -> None:
    """Make sessions of every state and stock of every kind, built by domain calls.

    `anna` ordered; `bob` is in checkout with a hold, an unlimited and a failed item, and has a cart and a saved item; `carla` aborted;
    `dev` expired; `emil` ordered late and short; `fay` is in a test checkout; `gus` deleted his basket; `hal` ordered, then changed his
    basket and was flagged; the order of `ida` was reversed; `jan` ordered late after a report that was refused; the order of `kim`, all of
    it short, was reversed; staff released a hold of `lea`, who is in checkout.
    """
    for product_id, unsold in {"shirt": 20, "cap": 3, "mug": 4, "lamp": 9, "vase": 6}.items():
        ProductFactory(product_id=product_id, unsold=unsold)
    ProductFactory(product_id="song")
    supply.set_unsold(reports={"lamp": None}, as_of=None, reason="no longer counted", actor=TESTER)
    partner = PartnerFactory(name="accepting", late_orders=Partner.LateOrders.ACCEPT)
    names = ("anna", "bob", "carla", "dev", "emil", "fay", "gus", "hal", "ida", "jan", "kim", "lea")
    anna, bob, carla, dev, emil, fay, gus, hal, ida, jan, kim, lea = (User(Owner(partner_id=partner.pk, user_id=name)) for name in names)
    anna.place("shirt", 2)
    anna.start()
    anna.finish(ordered=True)

    carla.place("shirt", 2)
    carla.place("song", 1)
    carla.start()
    carla.finish(ordered=False)

    dev.place("cap", 1)
    dev.start()
    dev.wait(hours=1)
    dev.place("song")
    dev.remove("song")
    dev.start()
    dev.wait(hours=1)
    assert expiry.sweep_sessions().expired == 1

    emil.place("mug", 4)
    order_no = emil.start().session.order_no
    emil.finish(ordered=False)
    emil.remove("mug")
    supply.set_unsold(reports={"mug": 1}, as_of=None, reason="counted", actor=TESTER)
    emil.finish(ordered=True, order_no=order_no)

    fay.place("cap", 2)
    fay.start(test_mode=True)

    gus.place("song", 2)
    gus.delete()

    hal.place("shirt", 1)
    hal.start()
    hal.finish(ordered=True)
    hal.place("song", 1)
    with pytest.raises(Refusal):
        hal.finish(ordered=True)

    build_repaired(ida, jan, kim, lea)

    bob.place("shirt", 5)
    bob.place("song", 1)
    bob.place("cap", 99)
    bob.start()
    bob.place("lamp", 1)
    bob.place("mug", 0)
    supply.set_unsold(reports={"shirt": 3}, as_of=None, reason="fewer than are held", actor=TESTER)
    idempotency.claim(basket_id=bob.owner.basket_id, key="key", fingerprint=bytes(32))
    idempotency.remember(basket_id=bob.owner.basket_id, key="key", status=200, body="{}")
    for _ in range(3):  # The marks move in rounds.
        activity.count_events()


def build_repaired(ida: User, jan: User, kim: User, lea: User) -> None:
    ida.place("shirt", 1)
    ida.start()
    ida.finish(ordered=True)
    send_back(ida)

    order_late(jan, "vase", 2, unsold=6)
    order_late(kim, "vase", 3, unsold=0)
    send_back(kim)

    lea.place("lamp", 1)
    lea.place("cap", 1)
    lea.start()
    release(lea, "cap")


def seen(user: User) -> int:
    return Basket.objects.get(pk=user.owner.basket_id).events


def order_late(user: User, product_id: str, count: int, *, unsold: int) -> None:
    """Order what was aborted and removed from the cart: first without its number, which is refused."""
    user.place(product_id, count)
    order_no = user.start().session.order_no
    user.finish(ordered=False)
    user.remove(product_id)
    supply.set_unsold(reports={product_id: unsold}, as_of=None, reason="counted", actor=TESTER)
    with pytest.raises(Refusal):
        user.finish(ordered=True)
    user.finish(ordered=True, order_no=order_no)


def send_back(user: User) -> None:
    session = CheckoutSession.objects.get(basket_id=user.owner.basket_id)
    checkout_repairs.reverse_order(session=session, expected_events=seen(user), reason="sent back", actor=TESTER)


def release(user: User, product_id: str) -> None:
    hold = StockReservation.objects.get(basket_id=user.owner.basket_id, product_id=product_id)
    reservation_repairs.release(reservation=hold, expected_events=seen(user), reason="needed elsewhere", actor=TESTER)


class CommittedScenario(TestCase):
    """Django's way to build something once for many tests, each of which is rolled back to it."""

    @classmethod
    def setUpTestData(cls) -> None:
        build()


@pytest.fixture(scope="module")
def rows_of_every_state(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Rows of every state, built once for this module."""
    with django_db_blocker.unblock():
        CommittedScenario.setUpClass()
        yield
        CommittedScenario.tearDownClass()
        CommittedScenario.doClassCleanups()


def broken() -> dict[str, int]:
    """What the checker finds: how many rows by proof."""
    return {finding.invariant.slug: finding.total for finding in invariant_checker.check_invariants()}


def execute(*statements: str) -> None:
    """Write behind the back of the domain. Pending checks come first, for a table with some cannot be altered."""
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        for statement in statements:
            cursor.execute(sql(statement))


@pytest.mark.usefixtures("rows_of_every_state", "db")
def test_a_sound_world_breaks_nothing() -> None:
    assert broken() == {}


@pytest.mark.usefixtures("rows_of_every_state", "db")
@pytest.mark.parametrize(("slug", "statements", "others"), VIOLATIONS, ids=[f"{n}-{v[0]}" for n, v in enumerate(VIOLATIONS)])
def test_a_broken_rule_is_found(slug: str, statements: list[str], others: dict[str, int]) -> None:
    execute(*statements)
    found = broken()
    assert found.pop(slug, 0) >= 1
    assert found == others


def test_every_proof_is_shown_to_speak() -> None:
    assert {slug for slug, _, _ in VIOLATIONS} == {proof.slug for proof in INVARIANTS} | {invariant_checker.BASKET_KEYS.slug}


def test_the_names_of_proofs_are_unique_and_no_query_asks_for_a_user() -> None:
    assert len({proof.slug for proof in INVARIANTS}) == len(INVARIANTS)
    assert [proof.slug for proof in INVARIANTS if "user_id" in proof.sql and proof.slug != "one_basket_per_user"] == []


@pytest.mark.usefixtures("rows_of_every_state", "db")
def test_a_finding_counts_all_and_shows_some_without_user_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invariant_checker, "MAX_EXAMPLES", 1)
    execute("UPDATE baskets_stock SET available = available + 1 WHERE shortfall = 0")
    finding, other = invariant_checker.check_invariants()
    assert (finding.invariant.slug, finding.total, len(finding.examples)) == ("supply_equation", 4, 1)
    assert (other.invariant.slug, other.total) == ("available_as_reported", 3)
    assert sorted(finding.examples[0]) == ["available", "held", "product_id", "shortfall", "sold", "supply"]


@pytest.mark.usefixtures("rows_of_every_state", "db")
def test_held_reservations_past_their_end_are_no_finding() -> None:
    bob = User(Owner(partner_id=Partner.objects.get(name="accepting").pk, user_id="bob"))
    bob.wait(days=1)
    assert broken() == {}


# What finds a row whose key refers to nothing, for each key that the database does not check: ADR 55 and 71.
UNCHECKED = {
    "BasketItem.basket": "items_whole",
    "BasketItem.product": "items_have_their_product",
    "CheckoutItem.basket": "one_basket_for_all_of_a_session",
    "CheckoutItem.product": "items_have_their_product",
    "CheckoutItem.session": "one_basket_for_all_of_a_session",
    "CheckoutSession.basket": "session_within_its_basket",
    "CheckoutSession.partner": "places_are_of_their_event",
    "Event.basket": "revisions_go_forward",
    "Event.session": "one_basket_for_all_of_a_session",
    "FeedPosition.event": "places_are_of_their_event",
    "FeedPosition.partner": "places_are_of_their_event",
    "StockReservation.basket": "one_basket_for_all_of_a_session",
    "StockReservation.product": "reservation_has_its_item",
    "StockReservation.session": "one_basket_for_all_of_a_session",
}
NOTHING = {"BigAutoField": 0, "CharField": "no such product", "UUIDField": UUID(int=0)}


@pytest.mark.usefixtures("rows_of_every_state", "db")
@pytest.mark.parametrize("key", UNCHECKED)
def test_a_key_that_refers_to_nothing_is_found_in_every_row(key: str) -> None:
    model = apps.get_model("baskets", key.partition(".")[0])
    field: Any = model._meta.get_field(key.partition(".")[2])
    rows = model._base_manager.filter(**{f"{field.name}__isnull": False}).values_list("pk", flat=True)
    assert rows
    for pk in list(rows):
        with transaction.atomic():
            model._base_manager.filter(pk=pk).update(**{field.attname: NOTHING[field.target_field.get_internal_type()]})
            assert UNCHECKED[key] in broken()
            transaction.set_rollback(True)


def test_every_unchecked_key_is_shown_to_be_found() -> None:
    fields = [field for model in apps.get_app_config("baskets").get_models() for field in model._meta.local_concrete_fields]
    unchecked = [field for field in fields if isinstance(field, ForeignKey) and not field.db_constraint]
    assert {f"{field.model.__name__}.{field.name}" for field in unchecked} == UNCHECKED.keys()


# Columns that may be empty without anything being wrong, each for a reason.
HARMLESS = {
    "baskets_product.price": "it is not kept then",
    "baskets_deskentry.partner_id": "the entry is about something that belongs to no partner",
    "baskets_apikey.expires_at": "the key has no end then",
    "baskets_apikey.revoked_at": "the key was never revoked then",
    "baskets_feedposition.public_id": "the primary key names the event then",
    "baskets_partner.hold_seconds": "the default of the service then",
    "baskets_partner.share_percent": "the default of the service then",
    "baskets_checkoutitem.price": "of an item that failed, it counts for nothing; of others, see `price_adds_up`",
    "baskets_checkoutsession.full_tax": "not kept",
    "baskets_feedstate.horizon": "the mark of the feed waits for one round more",
    "baskets_checkoutsession.shipping_cost": "not kept",
}


@pytest.mark.usefixtures("rows_of_every_state", "db")
def test_no_value_can_get_lost_unnoticed() -> None:
    """Every value that may be NULL is taken away, in every row that has one; some proof must speak, whatever it is about."""
    unnoticed = []
    for model in apps.get_app_config("baskets").get_models():
        for field in model._meta.local_concrete_fields:
            column = f"{model._meta.db_table}.{field.column}"
            filled = model._base_manager.filter(**{f"{field.name}__isnull": False})
            if not field.null or column in HARMLESS or not filled.exists():
                continue
            for key in filled.values_list("pk", flat=True):
                with suppress(IntegrityError), transaction.atomic():  # A constraint may speak first.
                    model._base_manager.filter(pk=key).update(**{field.name: None})
                    unnoticed += [] if broken() else [(column, key)]
                    transaction.set_rollback(True)
    assert unnoticed == []
