"""Violates each constraint once, and checks that the database refuses by its name."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import IntegrityError, transaction
from django.db.models import F, Model
from django.db.models.functions import Now

from baskets.db.errors import constraint_of
from baskets.domain.events import webhook_attempts, webhook_endpoints
from baskets.domain.events.webhook_attempts import Attempt
from baskets.models import (
    ActivityState,
    ApiKey,
    Attention,
    Basket,
    BasketItem,
    CheckoutItem,
    CheckoutSession,
    Event,
    FeedPosition,
    FeedState,
    GuestToken,
    IdempotencyRecord,
    Partner,
    PartnerActivity,
    Product,
    ProductActivity,
    RefusalActivity,
    SigningKey,
    Stock,
    StockAdjustment,
    StockReservation,
    TokenIssuer,
    WebhookAttempt,
    WebhookBlockedBasket,
    WebhookChange,
    WebhookEndpoint,
    WebhookLane,
)
from baskets.models.basket_snapshot import Owner
from tests.domain.scenarios import User
from tests.factories import TESTER, ProductFactory


@contextmanager
def refused_by(name: str) -> Iterator[None]:
    """Expect the database to refuse by this constraint."""
    with pytest.raises(IntegrityError) as refusal, transaction.atomic():
        yield
    assert constraint_of(refusal.value) == name


@pytest.fixture
def valid_rows(owner: Owner) -> None:
    """One row of each model, made by domain calls."""
    ProductFactory(product_id="shirt", unsold=5)
    user = User(owner)
    user.place("shirt", 2)
    user.start()
    user.place("shirt", 1)
    at = Basket.objects.get().last_changed_at
    GuestToken.objects.create(jti=uuid4(), basket_id=owner.basket_id, transferred=False, created_at=at, expires_at=at + timedelta(days=30))
    ApiKey.objects.create(partner_id=owner.partner_id, prefix="p", digest=b"d" * 32, created_by="tests")


UPDATES: dict[str, tuple[type[Model], dict[str, Any]]] = {
    "late_orders_is_known": (Partner, {"late_orders": "maybe"}),
    "own_hold_is_positive": (Partner, {"hold_seconds": 0}),
    "own_share_is_a_percentage": (Partner, {"share_percent": 101}),
    "sandbox_is_another_partner": (Partner, {"sandbox_of": F("id")}),
    "key_kind_is_known": (ApiKey, {"kind": "master"}),
    "key_ends_after_it_was_made": (ApiKey, {"expires_at": F("created_at")}),
    "product_id_is_not_empty": (Product, {"product_id": "", "listed": False}),
    "listed_product_id_is_valid": (Product, {"product_id": "shirt "}),
    "price_is_not_negative": (Product, {"price": -1}),
    "price_has_a_currency": (Product, {"currency": "euro"[:3]}),
    "available_is_not_negative": (Stock, {"available": -1}),
    "shortfall_is_not_negative": (Stock, {"available": 0, "shortfall": -1}),
    "available_or_shortfall_is_zero": (Stock, {"available": 1, "shortfall": 1}),
    "adjustment_kind_is_known": (StockAdjustment, {"kind": "gift", "reported": None}),
    "adjustment_has_a_reason": (StockAdjustment, {"reason": ""}),
    "unsold_report_has_its_number": (StockAdjustment, {"reported": None}),
    "becoming_unlimited_moves_no_supply": (StockAdjustment, {"kind": "unlimited", "reported": None}),
    "unheld_sale_takes_supply": (StockAdjustment, {"kind": "unheld", "reported": None}),
    "purge_adds_no_supply": (StockAdjustment, {"kind": "purged", "reported": None}),
    "half_of_a_move_is_whole": (StockAdjustment, {"kind": "supply", "reported": None, "move": uuid4()}),
    "reservation_status_is_known": (StockReservation, {"status": "LOST", "ended_at": F("created_at")}),
    "reservation_has_pieces": (StockReservation, {"pieces": 0}),
    "reservation_ended_unless_held": (StockReservation, {"status": "SOLD"}),
    "reservation_ends_after_it_began": (
        StockReservation,
        {"status": "SOLD", "ended_at": F("created_at") - timedelta(seconds=1)},
    ),
    "user_id_is_not_empty": (Basket, {"user_id": ""}),
    "revision_is_not_negative": (Basket, {"revision": -1}),
    "purged_events_are_counted": (Basket, {"events_purged": F("events") + 1}),
    "basket_expires_after_its_creation": (Basket, {"expires_at": F("created_at")}),
    "basket_changed_after_its_creation": (Basket, {"last_changed_at": F("created_at") - timedelta(seconds=1)}),
    "item_list_is_known": (BasketItem, {"list": "gone"}),
    "item_count_is_positive": (BasketItem, {"count": 0}),
    "session_finished_unless_active": (CheckoutSession, {"status": "ORDERED"}),
    "session_released_if_aborted_expired_or_late": (CheckoutSession, {"late": True}),
    "active_session_has_no_finishing_key": (CheckoutSession, {"finished_by_key": "testkey"}),
    "hold_ends_after_the_start": (CheckoutSession, {"expires_at": F("started_at")}),
    "session_finished_after_the_start": (
        CheckoutSession,
        {"status": "ORDERED", "finished_at": F("started_at") - timedelta(seconds=1), "ended_revision": 1},
    ),
    "only_an_order_is_reversed": (CheckoutSession, {"reversed_at": F("started_at")}),
    "released_item_holds_nothing": (CheckoutItem, {"released_at": Now()}),
    "checkout_count_is_positive": (CheckoutItem, {"count": 0, "stocked": None}),
    "stocked_is_the_whole_count_or_none_of_it": (CheckoutItem, {"stocked": 1}),
    "guest_token_expires_after_its_creation": (GuestToken, {"expires_at": F("created_at")}),
    "revoked_guest_token_names_who": (GuestToken, {"revoked_at": F("created_at")}),
    "event_number_counts_from_one": (Event, {"number": 0}),
    "actor_kind_is_known": (Event, {"actor_kind": "ghost"}),
}


@pytest.mark.parametrize("name", UPDATES)
@pytest.mark.usefixtures("valid_rows")
def test_database_refuses_invalid_rows_by_name(name: str) -> None:
    """Each case changes one thing about a valid row."""
    model, fields = UPDATES[name]
    with refused_by(name):
        model._default_manager.filter(pk=model._default_manager.values_list("pk")[:1]).update(**fields)


def _copy(model: type[Model], **changes: Any) -> Callable[[], object]:
    def insert() -> None:
        row = model._default_manager.order_by("pk")[0]
        row.pk = changes.pop("pk", None)
        for name, value in changes.items():
            setattr(row, name, value)
        row.save(force_insert=True)

    return insert


COPIES = {
    "one_active_checkout_per_basket": (CheckoutSession, {"order_no": "another"}),
    "one_basket_per_partner_and_user": (Basket, {"pk": "00000000-0000-0000-0000-000000000001"}),
    "one_item_per_basket_and_product": (BasketItem, {"list": "saved"}),
    "one_item_per_session_and_product": (CheckoutItem, {}),
    "one_live_and_one_short_record_per_checkout_item": (StockReservation, {}),
    "one_event_per_basket_and_number": (Event, {}),
}


@pytest.mark.parametrize("name", COPIES)
@pytest.mark.usefixtures("valid_rows")
def test_database_refuses_duplicates_by_name(name: str) -> None:
    """Each case copies a row that must be unique."""
    model, changes = COPIES[name]
    with refused_by(name):
        _copy(model, **changes)()


STATUSES = ("HELD", "SOLD", "RELEASED", "FAILED", "SHORT")
# Two records of one product in one session: both hold or have sold its pieces, or both say what was short.
NEVER_TOGETHER = {("HELD", "HELD"), ("HELD", "SOLD"), ("SOLD", "HELD"), ("SOLD", "SOLD"), ("SHORT", "SHORT")}


@pytest.mark.parametrize(("first", "second"), list(itertools.product(STATUSES, STATUSES)))
@pytest.mark.usefixtures("valid_rows")
def test_a_checkout_item_has_one_live_and_one_short_record_and_any_others(first: str, second: str) -> None:
    row = StockReservation.objects.get()
    row.status, row.ended_at = first, None if first == "HELD" else row.created_at
    row.save()
    row.pk, row.status, row.ended_at = None, second, None if second == "HELD" else row.created_at
    refused = refused_by("one_live_and_one_short_record_per_checkout_item")
    with refused if (first, second) in NEVER_TOGETHER else nullcontext():
        row.save(force_insert=True)


@pytest.mark.usefixtures("valid_rows")
def test_database_refuses_duplicate_flags_and_idempotency_keys() -> None:
    """Covers models without a row in `valid_rows`."""
    session = CheckoutSession.objects.get()
    flag = {"basket_id": session.basket_id, "session": session, "created_at": session.started_at}
    Attention.objects.create(reason="short", **flag)
    with refused_by("one_flag_per_session_and_reason"):
        Attention.objects.create(reason="short", **flag)
    with refused_by("attention_reason_is_known"):
        Attention.objects.create(reason="boredom", **flag)
    with refused_by("settled_attention_names_who"):
        Attention.objects.update(settled_at=session.started_at)
    with refused_by("merged_attention_is_settled"):
        Attention.objects.update(merged=True)

    SigningKey.objects.create(kid="one", public_jwk={}, private_key=b"p")
    with refused_by("one_key_signs"):
        SigningKey.objects.create(kid="two", public_jwk={}, private_key=b"p")

    issuer = {"partner": Partner.objects.get(), "name": "login", "created_by": "tests", "algorithms": ["ES256"], "keys": {}}
    TokenIssuer.objects.create(**issuer)
    with refused_by("one_issuer_per_partner_and_name"):
        TokenIssuer.objects.create(**issuer)
    for wrong in ({"keys": None}, {"keys_url": "https://example.com/"}):
        with refused_by("issuer_has_keys_or_their_address"):
            TokenIssuer.objects.update(**wrong)
    fetched = {"fetched_keys": {"keys": []}, "fetched_at": session.started_at}
    for wrong in (fetched, {"keys": None, "keys_url": "https://example.com/", "fetched_at": session.started_at}):
        with refused_by("fetched_keys_have_their_time_and_their_address"):
            TokenIssuer.objects.update(**wrong)
    for algorithms in ([], ["HS256"], ["ES256", "none"]):
        with refused_by("issuer_signs_with_known_algorithms"):
            TokenIssuer.objects.update(algorithms=algorithms)

    half = {"kind": "supply", "delta": 2, "moved": 2, "move": uuid4(), "other_cell": 2, "as_of": session.started_at}
    half |= {"product_id": "shirt", "reason": "moved", "actor": "tests", "created_at": session.started_at}
    StockAdjustment.objects.create(**half)
    with refused_by("one_half_of_a_move_per_cell"):
        StockAdjustment.objects.create(**half)

    record = {"basket_id": session.basket_id, "key": "k", "fingerprint": b"f", "created_at": session.started_at}
    IdempotencyRecord.objects.create(**record)
    with refused_by("one_record_per_basket_and_idempotency_key"):
        IdempotencyRecord.objects.create(**record)


OF_THE_FEED: dict[str, tuple[type[Model], dict[str, Any]]] = {
    "position_counts_from_one": (FeedPosition, {"position": 0}),
    "one_state_of_the_feed": (FeedState, {"id": 2}),
    "feed_state_in_order": (FeedState, {"purged_position": F("position") + 1}),
    "webhook_state_is_known": (WebhookEndpoint, {"state": "gone"}),
    "webhook_position_is_not_negative": (WebhookEndpoint, {"position": -1}),
    "webhook_fails_since_its_first_failure": (WebhookEndpoint, {"failures": 1}),
    "webhook_previous_secret_has_an_end": (WebhookEndpoint, {"previous_secret": b"x"}),
    "webhook_lane_position_is_not_negative": (WebhookLane, {"position": -1}),
    "blocked_basket_fails_since_its_first_failure": (WebhookBlockedBasket, {"failures": 0}),
    "webhook_change_is_known": (WebhookChange, {"kind": "moved"}),
    "webhook_attempt_has_an_outcome": (WebhookAttempt, {"acknowledged": True}),
}


@pytest.mark.parametrize("name", OF_THE_FEED)
@pytest.mark.usefixtures("valid_rows")
def test_database_refuses_invalid_feed_rows_by_name(name: str) -> None:
    """Each case changes one thing about a valid row of the feed or its webhooks."""
    webhook_endpoints.create_webhook(partner_name=Partner.objects.get().name, url="https://example.com/", actor=TESTER)
    endpoint = WebhookEndpoint.objects.get()
    webhook_attempts.record_attempts(
        [Attempt(endpoint_id=endpoint.pk, position=1, status=None, duration=timedelta(seconds=1), problem="No response.")]
    )
    WebhookBlockedBasket.objects.create(
        endpoint=endpoint, basket=Basket.objects.all()[0], position=1, failures=1, failing_since=Now(), next_try_at=Now()
    )
    model, fields = OF_THE_FEED[name]
    with refused_by(name):
        model._default_manager.filter(pk=model._default_manager.values_list("pk")[:1]).update(**fields)


OF_THE_COUNTS: dict[str, tuple[type[Model], dict[str, Any]]] = {
    "one_state_of_the_counts": (ActivityState, {"id": 2}),
    "counted_position_is_not_negative": (ActivityState, {"position": -1}),
    "partner_activity_span_is_known": (PartnerActivity, {"seconds": 61}),
    "late_orders_are_orders": (PartnerActivity, {"late": F("ordered") + 1}),
    "product_activity_span_is_known": (ProductActivity, {"seconds": 61}),
    "product_activity_counts_something": (ProductActivity, {"orders": 0}),
    "one_count_per_span_and_partner": (PartnerActivity, {"seconds": 3600}),
    "one_count_per_span_and_product": (ProductActivity, {"seconds": 3600}),
    "refusal_activity_span_is_known": (RefusalActivity, {"seconds": 61}),
    "refusal_activity_counts_something": (RefusalActivity, {"calls": 0}),
    "one_count_per_span_and_reason": (RefusalActivity, {"seconds": 3600}),
}


@pytest.mark.parametrize("name", OF_THE_COUNTS)
@pytest.mark.django_db
def test_database_refuses_invalid_counts_by_name(name: str, partner: Partner) -> None:
    starts_at, product = datetime(2026, 11, 29, 12, tzinfo=UTC), ProductFactory()
    ActivityState.objects.create()
    fields = dict.fromkeys(("started", "ordered", "late", "aborted", "expired", "flagged", "pieces"), 1)
    for seconds in (60, 3600):
        PartnerActivity.objects.create(partner=partner, seconds=seconds, starts_at=starts_at, **fields)
        ProductActivity.objects.create(product=product, seconds=seconds, starts_at=starts_at, orders=1, pieces=1)
        RefusalActivity.objects.create(reason="out_of_stock", seconds=seconds, starts_at=starts_at, calls=1)
    model, changed = OF_THE_COUNTS[name]
    with refused_by(name):
        model._default_manager.update(**changed)


def test_every_constraint_of_the_models_is_violated_here() -> None:
    """A new constraint without its violation fails this test."""
    named = {
        constraint.name
        for model in (
            *(ApiKey, Attention, Basket, BasketItem, CheckoutItem, CheckoutSession, Event, GuestToken, IdempotencyRecord),
            *(Partner, Product, SigningKey, Stock, StockAdjustment, StockReservation, TokenIssuer),
            *(ActivityState, FeedPosition, FeedState, PartnerActivity, ProductActivity, RefusalActivity),
            *(WebhookAttempt, WebhookBlockedBasket, WebhookChange, WebhookEndpoint, WebhookLane),
        )
        for constraint in model._meta.constraints
    }
    by_hand = {
        "one_flag_per_session_and_reason",
        "attention_reason_is_known",
        "settled_attention_names_who",
        "merged_attention_is_settled",
        "one_record_per_basket_and_idempotency_key",
        "one_half_of_a_move_per_cell",
        "one_key_signs",
        "one_issuer_per_partner_and_name",
        "issuer_has_keys_or_their_address",
        "issuer_signs_with_known_algorithms",
        "fetched_keys_have_their_time_and_their_address",
        "one_lane_per_endpoint_and_number",
        "one_block_per_endpoint_and_basket",
    }
    assert named == UPDATES.keys() | COPIES.keys() | OF_THE_FEED.keys() | OF_THE_COUNTS.keys() | by_hand
