"""What is left of a user who was erased: nothing that names them, and every piece that was sold."""

from collections.abc import Callable
from typing import Any

import pytest
from django.apps import apps
from django.db import connection

from baskets.domain import audit_log, idempotency, runner
from baskets.domain.actors import Actor, ActorKind
from baskets.domain.baskets import items
from baskets.domain.errors import OrderNotFound, Refusal
from baskets.domain.events import feed
from baskets.domain.maintenance import invariant_checker
from baskets.domain.support import attention_repairs, basket_repairs, erasure, guards
from baskets.models import Basket, CheckoutSession, DeskEntry, Event, FeedPosition
from baskets.models.basket_snapshot import Owner
from tests.domain.scenarios import User, available
from tests.factories import ProductFactory

STAFF = Actor(kind=ActorKind.STAFF, name="rita")
TELLTALE = "tell-tale"
pytestmark = pytest.mark.django_db


@pytest.fixture
def user(owner: Owner) -> User:
    """A user with an order, something in cart and saved, and a word of theirs in every place that takes one."""
    ProductFactory(product_id="shirt", unsold=9)
    ProductFactory(product_id="song")
    user = User(Owner(partner_id=owner.partner_id, user_id=f"{TELLTALE}-user"))
    actor = Actor(kind=ActorKind.KEY, name="testkey", request_id=f"{TELLTALE}-request", tracking={"session_id": f"{TELLTALE}-app"})
    runner.run(items.place_item, owner=user.owner, product_id="shirt", count=2, actor=actor)
    user.start(language="de", country="AT")
    user.finish(True)
    user.place("shirt")
    user.place("song", 0)

    def remember() -> None:
        idempotency.claim(basket_id=user.owner.basket_id, key=f"{TELLTALE}-key", fingerprint=b"0" * 32)
        idempotency.remember(basket_id=user.owner.basket_id, key=f"{TELLTALE}-key", status=200, body=f"{TELLTALE}-body")

    runner.run(remember)
    return user


def erase(user: User, **options: bool) -> Basket:
    basket = Basket.objects.get(pk=user.owner.basket_id)
    values: Any = {"expected_events": basket.events, "reason": "requested", "actor": STAFF, **options}
    return runner.run(erasure.erase_user, basket=basket, **values)


def stored_texts() -> str:
    """Every row of every table, as text."""
    texts = []
    with connection.cursor() as cursor:
        for model in apps.get_app_config("baskets").get_models():
            cursor.execute(f"SELECT row::text FROM {model._meta.db_table} AS row")  # noqa: S608 (the name is the model's)
            texts += [text for (text,) in cursor.fetchall()]
    return "\n".join(texts)


def test_nothing_names_the_user_any_more(user: User) -> None:
    key = str(user.owner.basket_id)
    assert TELLTALE in stored_texts()
    erased = erase(user)
    assert TELLTALE not in stored_texts()
    assert key not in stored_texts()
    assert erased.pk == Owner(partner_id=erased.partner_id, user_id=erased.user_id).basket_id
    session = CheckoutSession.objects.get()
    assert (session.language, session.country) == ("", "")
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
    assert invariant_checker.check_invariants() == []


def test_no_event_of_the_feed_can_be_found_by_the_former_key(user: User) -> None:
    feed.assign_positions()
    before = set(FeedPosition.objects.values_list("public_id", flat=True))
    assert None not in before
    erase(user)
    after = set(FeedPosition.objects.values_list("public_id", flat=True))
    assert len(after) == len(before)
    assert before & after == set()


def test_orders_stock_and_timeline_stay(user: User) -> None:
    before = list(Event.objects.order_by("number").values_list("number", "kind", "actor"))
    erased = erase(user)
    assert available("shirt") == (7, 0)
    assert CheckoutSession.objects.get(basket=erased).status == "ORDERED"
    recorded = list(Event.objects.filter(basket=erased).order_by("number").values_list("number", "kind", "actor"))
    assert recorded == [*before, (len(before) + 1, "basket_deleted", "rita"), (len(before) + 2, "repaired", "rita")]
    last = Event.objects.get(basket=erased, number=len(recorded))
    assert last.data == {"repair": "erase", "reason": "requested"}


def test_a_user_who_returns_begins_with_a_new_basket(user: User) -> None:
    order_no = CheckoutSession.objects.get().order_no
    erase(user)
    assert user.basket() is None
    with pytest.raises(Refusal):
        user.finish(True)
    user.place("song")
    assert user.lists()["cart"] == [("song", 1)]
    with pytest.raises(OrderNotFound):
        user.finish(True, order_no)
    assert invariant_checker.check_invariants() == []


def test_a_basket_that_was_deleted_is_erased_all_the_same(user: User) -> None:
    user.delete()
    hidden_at = Basket.objects.get().hidden_at
    assert erase(user).hidden_at == hidden_at
    assert TELLTALE not in stored_texts()
    assert invariant_checker.check_invariants() == []


def named_everywhere(user_id: str, partner_id: int) -> tuple[User, Basket]:
    """A user whose id stands in texts about the own basket, another basket, a flag, a webhook and the journal."""
    ProductFactory(product_id="shirt", unsold=9)
    user, other = (User(Owner(partner_id=partner_id, user_id=name)) for name in (user_id, "other"))
    for each in (user, other):
        each.place("shirt")
        basket = Basket.objects.get(pk=each.owner.basket_id)
        text = f"see {user_id}, not {user_id}7"
        runner.run(basket_repairs.extend, basket=basket, days=99, expected_events=basket.events, reason=text, actor=STAFF)
    audit_log.record(kind=DeskEntry.Kind.TESTED, about="webhookendpoint", subject="1", reason=f"{user_id} calls", actor=STAFF)
    return user, Basket.objects.get(pk=other.owner.basket_id)


def texts_about(basket: Basket) -> tuple[set[str], set[str]]:
    """The reasons in the timeline of a basket, and those of the journal about others."""
    events = Event.objects.filter(basket=basket, data__repair="extend").values_list("data__reason", flat=True)
    return set(events), set(DeskEntry.objects.exclude(subject=str(basket.pk)).values_list("note", flat=True)) - {"requested", ""}


def test_texts_of_other_baskets_lose_the_user_id_too(owner: Owner) -> None:
    user, other = named_everywhere("ann+x@example.org", owner.partner_id)
    erase(user)
    kept = "see [erased], not ann+x@example.org7"
    assert texts_about(other) == ({kept}, {kept, "[erased] calls"})


@pytest.mark.parametrize("user_id", ["42", "max", "Jürgen"])
def test_an_ambiguous_id_is_replaced_elsewhere_only_if_staff_say_that_it_is_the_user(owner: Owner, user_id: str) -> None:
    user, other = named_everywhere(user_id, owner.partner_id)
    basket = Basket.objects.get(pk=user.owner.basket_id)
    kept, redacted = f"see {user_id}, not {user_id}7", f"see [erased], not {user_id}7"
    assert sorted(erasure.texts_elsewhere(basket, limit=5)) == [f"{user_id} calls", kept, kept]
    erased = erase(user)
    assert texts_about(other) == ({kept}, {redacted, f"{user_id} calls"})
    assert texts_about(erased)[0] == {redacted}


@pytest.mark.parametrize("user_id", ["42", "max"])
def test_an_ambiguous_id_that_staff_say_is_the_user_is_replaced_everywhere(owner: Owner, user_id: str) -> None:
    user, other = named_everywhere(user_id, owner.partner_id)
    erase(user, means_user_elsewhere=True)
    redacted = f"see [erased], not {user_id}7"
    assert texts_about(other) == ({redacted}, {redacted, "[erased] calls"})


def test_texts_that_contain_the_id_of_several_baskets_include_those_about_them(owner: Owner) -> None:
    user, other = named_everywhere("max", owner.partner_id)
    basket = Basket.objects.get(pk=user.owner.basket_id)
    assert len(erasure.texts_elsewhere(basket, limit=9)) == 3
    assert len(erasure.texts_elsewhere(basket, other, limit=9)) == 5


@pytest.mark.parametrize(
    ("repair", "values"),
    [
        (basket_repairs.change_item, {"product_id": "song", "count": 5}),
        (basket_repairs.add_item, {"product_id": "shirt", "count": 1}),
        (basket_repairs.restore, {}),
        (basket_repairs.extend, {"days": 5}),
        (basket_repairs.end, {}),
        (basket_repairs.add_note, {}),
        (attention_repairs.resolve_all, {}),
        (erasure.erase_user, {}),
    ],
)
def test_a_request_that_read_the_old_basket_does_not_touch_the_new_one(
    user: User, repair: Callable[..., Any], values: dict[str, Any], stored_rows: Callable[[], Any]
) -> None:
    read_by_the_request = Basket.objects.get()
    erase(user)
    user.place("song")
    new = Basket.objects.get(pk=read_by_the_request.pk)
    before = stored_rows()
    with pytest.raises(guards.StaleState):
        runner.run(repair, basket=read_by_the_request, expected_events=new.events, reason="requested", actor=STAFF, **values)
    assert stored_rows() == before


def test_an_erased_user_is_known_by_the_name_alone(user: User) -> None:
    erased = erase(user)
    Event.objects.filter(basket=erased).delete()
    assert erasure.is_erased(erased)
    with pytest.raises(Refusal, match="already erased"):
        runner.run(erasure.erase_user, basket=erased, expected_events=erased.events, reason="again", actor=STAFF)


def test_texts_of_other_baskets_lose_the_user_id_in_any_case(owner: Owner) -> None:
    user, other = named_everywhere("Ann+x@example.org", owner.partner_id)
    basket = Basket.objects.get(pk=other.pk)
    runner.run(basket_repairs.add_note, basket=basket, expected_events=basket.events, reason="as ann+X@example.org", actor=STAFF)
    erase(user)
    assert Event.objects.notes().get().data["reason"] == "as [erased]"


def test_the_text_of_a_note_goes_whatever_it_says(user: User) -> None:
    basket = Basket.objects.get(pk=user.owner.basket_id)
    runner.run(basket_repairs.add_note, basket=basket, expected_events=basket.events, reason="She is deaf: write to her", actor=STAFF)
    assert DeskEntry.objects.filter(note="She is deaf: write to her").exists()
    erase(user)
    assert "deaf" not in stored_texts()
    assert Event.objects.notes().get().data == {"repair": "note", "reason": "[erased]"}


def test_a_user_in_checkout_is_not_erased(user: User, stored_rows: Callable[[], Any]) -> None:
    user.start()
    before = stored_rows()
    with pytest.raises(Refusal, match="A checkout is active"):
        erase(user)
    assert stored_rows() == before
