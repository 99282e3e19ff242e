"""Keys that behave unlike all others are found, and what a stolen key did is undone, once, with its line in the timeline."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from baskets.domain import runner
from baskets.domain.actors import Actor, ActorKind
from baskets.domain.checkout import sessions
from baskets.domain.maintenance import invariant_checker
from baskets.domain.support import key_misuse
from baskets.domain.support.key_misuse import KeyActivity, compare_keys
from baskets.domain.validation import ReasonRequired
from baskets.models import ApiKey, CheckoutSession, Event
from baskets.models.basket_snapshot import Owner
from tests.domain.scenarios import User, available
from tests.factories import PartnerFactory, ProductFactory

OPERATOR = Actor.system("tests")
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
HONEST = KeyActivity(key_id=1, prefix="honest", partner="p", checkouts=400, pieces=600, due=300, ordered=150, earlier=0, earlier_pieces=0)


def found(*keys: KeyActivity) -> list[tuple[str, str]]:
    return [(key.activity.prefix, key.why) for key in compare_keys(keys)]


# --- The rule ------------------------------------------------------------------------------------------


def key(prefix: str = "odd", **figures: int) -> KeyActivity:
    return replace(HONEST, prefix=prefix, **figures)


def test_keys_that_are_alike_are_not_named_however_much_they_sell() -> None:
    assert found(HONEST, key(checkouts=500, pieces=900, due=500, ordered=200), key("small", checkouts=1, pieces=2, due=1, ordered=0)) == []


def test_key_with_five_times_the_pieces_a_checkout_is_named() -> None:
    assert found(HONEST, key(checkouts=20, pieces=150)) == [("odd", "7.5 pieces a checkout, where 1.5 are usual")]
    assert found(HONEST, key(checkouts=20, pieces=149)) == []


def test_key_with_few_pieces_is_never_named_for_them() -> None:
    assert found(HONEST, key(checkouts=1, pieces=99)) == []
    assert found(HONEST, key(checkouts=1, pieces=100)) == [("odd", "100.0 pieces a checkout, where 1.5 are usual")]


def test_key_alone_is_compared_with_one_piece_a_checkout() -> None:
    assert found(key(checkouts=20, pieces=100)) == [("odd", "5.0 pieces a checkout, where 1.0 are usual")]
    assert found(key(checkouts=21, pieces=100)) == []


def test_key_that_always_held_many_pieces_is_not_named() -> None:
    bulk = key(checkouts=50, pieces=1000, earlier=400, earlier_pieces=8000)
    assert found(HONEST, bulk) == []
    assert found(HONEST, replace(bulk, earlier=19, earlier_pieces=380)) == [("odd", "20.0 pieces a checkout, where 1.5 are usual")]


def test_key_that_never_orders_where_others_do_is_named() -> None:
    assert found(HONEST, key(due=100, ordered=1)) == [("odd", "1 of 100 checkouts ordered, where other keys order 50 in 100")]
    assert found(HONEST, key(due=100, ordered=2)) == []
    assert found(HONEST, key(due=99, ordered=0)) == []
    assert found(replace(HONEST, ordered=29), key(due=100, ordered=0)) == []
    assert found(replace(HONEST, due=19, ordered=19), key(due=100, ordered=0)) == []
    assert found(key(due=100, ordered=0)) == []


# --- Where it is shown -------------------------------------------------------------------------------------


@pytest.fixture
def stolen_key(owner: Owner) -> ApiKey:
    """A client key of the partner; 500 shirts are there."""
    ProductFactory(product_id="shirt", unsold=500)
    return ApiKey.objects.create(partner_id=owner.partner_id, prefix="stolen", digest=bytes(32), kind="client", created_by="tests")


def start(user: User, *, prefix: str = "stolen", count: int = 2, **options: Any) -> str:
    """Start a checkout with a key, and return its order number."""
    user.place("shirt", count)
    actor = Actor(kind=ActorKind.KEY, name=prefix)
    started = runner.run(sessions.start_session, owner=user.owner, actor=actor, **options)
    return started.session.order_no


def order(user: User, *, prefix: str = "stolen") -> None:
    actor = Actor(kind=ActorKind.KEY, name=prefix)
    runner.run(sessions.finish_session, owner=user.owner, ordered=True, order_no=None, actor=actor)


def users(owner: Owner, number: int, name: str = "user") -> list[User]:
    return [User(replace(owner, user_id=f"{name}-{i}")) for i in range(number)]


def test_activity_counts_what_the_checkouts_of_a_key_held_within_the_hour(owner: Owner, stolen_key: ApiKey) -> None:
    recent, ordered, aborted, due, old, test = users(owner, 6)
    start(recent, count=3)
    start(ordered, count=40)
    order(ordered, prefix="another")
    start(aborted, count=60)
    aborted.finish(False)
    start(due, count=5)
    order(due)
    due.wait(minutes=11)
    start(old, count=7)
    old.wait(minutes=61)
    start(test, count=9, test_mode=True)
    [activity] = _activity()
    assert activity == KeyActivity(
        key_id=stolen_key.pk,
        prefix="stolen",
        partner=stolen_key.partner.name,
        checkouts=4,
        pieces=108,
        due=1,
        ordered=1,
        earlier=1,
        earlier_pieces=7,
    )
    assert [(key.activity.prefix, key.why) for key in key_misuse.find_unusual_keys()] == [
        ("stolen", "27.0 pieces a checkout, where 1.0 are usual")
    ]
    ApiKey.objects.update(revoked_at=stolen_key.created_at)
    assert key_misuse.find_unusual_keys() == []


def _activity() -> list[KeyActivity]:
    seen: list[KeyActivity] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(key_misuse, "compare_keys", lambda keys: seen.extend(keys) or [])
        key_misuse.find_unusual_keys()
    return seen


# --- What is undone -----------------------------------------------------------------------------------------


def released(after: int = 0, **options: Any) -> key_misuse.RepairBatch:
    return key_misuse.release_holds(prefix="stolen", after=after, reason="stolen key", actor=OPERATOR, **options)


def test_many_orders_of_one_basket_are_reversed_in_one_run(stolen_key: ApiKey, owner: Owner) -> None:
    for _ in range(5):
        start(User(owner), count=2)
        order(User(owner))
    assert available("shirt") == (490, 0)
    assert (reversed_(dry_run=True).done, reversed_(dry_run=True).left) == (5, 0)
    done = reversed_()
    assert (done.done, done.left) == (5, 0)
    assert available("shirt") == (500, 0)
    assert invariant_checker.check_invariants() == []


def reversed_(since: datetime = LONG_AGO, **options: Any) -> key_misuse.RepairBatch:
    return key_misuse.reverse_orders(prefix="stolen", since=since, after=0, reason="stolen key", actor=OPERATOR, **options)


def test_holds_of_the_key_are_released_and_no_others(owner: Owner, stolen_key: ApiKey, stored_rows: Any) -> None:
    stolen, lapsed, ordered, honest = users(owner, 4)
    other = User(Owner(partner_id=PartnerFactory().pk, user_id="other"))
    start(stolen, count=100)
    start(lapsed, count=50)
    lapsed.wait(minutes=31)
    start(ordered, count=5)
    order(ordered)
    for user in (honest, other):
        start(user, prefix="honest", count=10)
    before = stored_rows()
    assert released(dry_run=True).done == 2
    assert stored_rows() == before
    batch = released()
    assert (batch.found, batch.done, batch.left) == (2, 2, 0)
    assert available("shirt") == (475, 0)
    assert (stolen.lists()["cart"], stolen.lists()["checkout"]) == ([("shirt", 100)], [])
    assert honest.lists()["checkout"] == other.lists()["checkout"] == [("shirt", 10, 10)]
    line = Event.objects.get(basket_id=stolen.owner.basket_id, kind=Event.Kind.REPAIRED)
    assert (line.actor_kind, line.actor, line.data["repair"], line.data["reason"]) == ("system", "tests", "abort", "stolen key")
    again = stored_rows()
    assert released().found == 0
    assert stored_rows() == again


def test_orders_that_the_key_reported_are_reversed_once(owner: Owner, stolen_key: ApiKey, stored_rows: Any) -> None:
    stolen, early, by_server, held = users(owner, 4)
    start(stolen, count=100)
    order(stolen)
    start(early, count=20)
    order(early)
    early.wait(hours=2)
    start(by_server, count=10)
    order(by_server, prefix="server")
    start(held, count=3)
    since = datetime.now(tz=UTC) - timedelta(hours=1)
    before = stored_rows()
    assert reversed_(since, dry_run=True).done == 1
    assert stored_rows() == before
    assert reversed_(since).done == 1
    assert available("shirt") == (467, 0)
    again = stored_rows()
    assert reversed_(since).done == 0
    assert stored_rows() == again
    assert reversed_().done == 1
    assert available("shirt") == (487, 0)
    assert set(CheckoutSession.objects.filter(finished_by_key="stolen").values_list("status", flat=True)) == {"ORDERED"}


def test_batch_goes_on_after_the_one_before(owner: Owner, stolen_key: ApiKey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_misuse, "BATCH", 2)
    for user in users(owner, 3):
        start(user)
    first = released()
    second = released(first.last)
    assert [(batch.found, batch.done) for batch in (first, second, released(second.last))] == [(2, 2), (1, 1), (0, 0)]


def test_undoing_needs_a_reason(owner: Owner, stolen_key: ApiKey) -> None:
    start(users(owner, 1)[0])
    with pytest.raises(ReasonRequired):
        key_misuse.release_holds(prefix="stolen", after=0, reason=" ", actor=OPERATOR)
    assert available("shirt") == (498, 0)
