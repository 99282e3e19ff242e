"""Every proof of the checker is silent over a world of every state, and speaks up when its rule is broken."""

import pytest
from django.db import connection

from baskets.domain import checker, idempotency, stock
from baskets.domain.errors import Refusal
from baskets.domain.proofs import PROOFS
from baskets.models import Partner
from baskets.models.contents import Owner
from tests.domain.worlds import User
from tests.factories import TESTER, PartnerFactory, ProductFactory


@pytest.fixture
def world(db: None) -> None:
    """Sessions of every state and stock of every kind, built by domain calls.

    `anna` ordered; `bob` is in checkout with a hold, an unlimited and a failed item, and has a cart and a saved item; `carla` aborted;
    `dev` expired; `emil` ordered late and short; `fay` is in a test checkout; `gus` deleted his basket; `hal` ordered, then changed his
    basket and was flagged.
    """
    for product_id, unsold in {"shirt": 20, "cap": 3, "mug": 4, "lamp": 9}.items():
        ProductFactory(product_id=product_id, unsold=unsold)
    ProductFactory(product_id="song")
    stock.set_unsold(reports={"lamp": None}, as_of=None, reason="no longer counted", actor=TESTER)
    partner = PartnerFactory(name="accepting", late_orders=Partner.LateOrders.ACCEPT)
    anna, bob, carla, dev, emil, fay, gus, hal = (
        User(Owner(partner_id=partner.pk, user_id=name)) for name in ("anna", "bob", "carla", "dev", "emil", "fay", "gus", "hal")
    )
    anna.place("shirt", 2)
    anna.start()
    anna.finish(ordered=True)

    carla.place("shirt", 1)
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
    checker_sweep()

    emil.place("mug", 4)
    order_no = emil.start().session.order_no
    emil.finish(ordered=False)
    emil.remove("mug")
    stock.set_unsold(reports={"mug": 1}, as_of=None, reason="counted", actor=TESTER)
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

    bob.place("shirt", 5)
    bob.place("song", 1)
    bob.place("cap", 99)
    bob.start()
    bob.place("lamp", 1)
    bob.place("mug", 0)
    stock.set_unsold(reports={"shirt": 3}, as_of=None, reason="fewer than are held", actor=TESTER)
    idempotency.claim(basket_id=bob.owner.basket_id, key="key", fingerprint=bytes(32))
    idempotency.remember(basket_id=bob.owner.basket_id, key="key", status=200, body="{}")


def checker_sweep() -> None:
    """Expire what has lapsed."""
    from baskets.domain import expiry

    assert expiry.sweep_sessions().expired == 1


def broken() -> dict[str, int]:
    """What the checker finds: how many rows by proof."""
    return {finding.proof.slug: finding.total for finding in checker.findings()}


def execute(*statements: str) -> None:
    """Write behind the back of the domain. Pending checks come first, for a table with some cannot be altered."""
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        for statement in statements:
            cursor.execute(statement)


OF = "(SELECT id FROM baskets_basket WHERE user_id = '{}')"
ANNA, BOB, CARLA, DEV, EMIL, FAY, GUS, HAL = (OF.format(name) for name in ("anna", "bob", "carla", "dev", "emil", "fay", "gus", "hal"))
SESSION_OF = "(SELECT max(id) FROM baskets_checkoutsession WHERE basket_id = {})"


def drop(table: str, *constraints: str) -> list[str]:
    """Statements that drop constraints of a table."""
    return [f"ALTER TABLE baskets_{table} DROP CONSTRAINT {name}" for name in constraints]


# The proof that must speak; the statements that break its rule; what else speaks of them, with the number of rows.
VIOLATIONS: list[tuple[str, list[str], dict[str, int]]] = [
    ("supply_equation", ["UPDATE baskets_stock SET available = available + 1 WHERE product_id = 'cap'"], {}),
    ("supply_equation", ["UPDATE baskets_stockadjustment SET delta = delta + 1 WHERE product_id = 'cap'"], {}),
    ("supply_equation", ["UPDATE baskets_stock SET available = available + 1 WHERE product_id = 'lamp'"], {}),
    (
        "supply_equation",
        ["ALTER TABLE baskets_stock ALTER available DROP NOT NULL", "UPDATE baskets_stock SET available = NULL WHERE product_id = 'cap'"],
        {"stock_counters": 1, "columns_guarded": 1},
    ),
    (
        "stock_behind_reservations",
        [
            f"UPDATE baskets_stockreservation SET product_id = 'song' WHERE basket_id = {ANNA}",
            f"UPDATE baskets_checkoutitem SET product_id = 'song' WHERE basket_id = {ANNA}",
        ],
        {"supply_equation": 1, "checkout_list_is_kept": 2, "checkout_list_went_somewhere": 2},
    ),
    (
        "stock_counters",
        [
            *drop("stock", "available_is_not_negative"),
            "UPDATE baskets_stock SET available = -1 WHERE product_id = 'cap'",
            "UPDATE baskets_stockadjustment SET delta = -1 WHERE product_id = 'cap'",
        ],
        {"constraints_in_place": 1},
    ),
    (
        "stock_counters",
        [
            *drop("stock", "available_or_shortfall_is_zero"),
            "UPDATE baskets_stock SET available = available + 1, shortfall = shortfall + 1 WHERE product_id = 'shirt'",
        ],
        {"constraints_in_place": 1},
    ),
    (
        "shortfall_within_reservations",
        [
            "UPDATE baskets_stock SET available = 0, shortfall = 2 WHERE product_id = 'cap'",
            "UPDATE baskets_stockadjustment SET delta = -2 WHERE product_id = 'cap'",
        ],
        {},
    ),
    (
        "adjustments_whole",
        [
            *drop("stockadjustment", "becoming_unlimited_moves_no_supply"),
            "UPDATE baskets_stockadjustment SET delta = 1 WHERE kind = 'unlimited'",
        ],
        {"constraints_in_place": 1, "supply_equation": 1},
    ),
    ("limited_as_last_reported", ["UPDATE baskets_stock SET limited = true WHERE product_id = 'lamp'"], {}),
    ("limited_as_last_reported", ["UPDATE baskets_stock SET limited = false WHERE product_id = 'cap'"], {}),
    (
        "reservations_whole",
        [
            *drop("stockreservation", "reservation_ended_unless_held"),
            "UPDATE baskets_stockreservation SET ended_at = NULL WHERE status = 'FAILED'",
        ],
        {"constraints_in_place": 1},
    ),
    (
        "one_live_reservation",
        [
            "DROP INDEX one_live_reservation_per_checkout_item",
            f"""
            INSERT INTO baskets_stockreservation (basket_id, session_id, product_id, status, pieces, created_at, expires_at, ended_at)
            SELECT basket_id, session_id, product_id, status, pieces, created_at, expires_at, ended_at
            FROM baskets_stockreservation WHERE basket_id = {ANNA}
            """,
        ],
        {"constraints_in_place": 1, "supply_equation": 1, "reservations_follow_their_session": 1},
    ),
    (
        "one_active_checkout",
        [
            "DROP INDEX one_active_checkout_per_basket",
            f"""
            UPDATE baskets_checkoutsession SET basket_id = {BOB}
            WHERE id = {SESSION_OF.format(FAY)}
            """,
        ],
        {"constraints_in_place": 1, "one_basket_for_all_of_a_session": 2},
    ),
    (
        "sessions_whole",
        [
            *drop("checkoutsession", "session_finished_unless_active"),
            f"UPDATE baskets_checkoutsession SET finished_at = NULL WHERE id = {SESSION_OF.format(ANNA)}",
        ],
        {"constraints_in_place": 1},
    ),
    (
        "sessions_whole",
        [
            *drop("checkoutsession", "session_released_if_aborted_expired_or_late"),
            f"UPDATE baskets_checkoutsession SET released_at = finished_at WHERE id = {SESSION_OF.format(ANNA)}",
        ],
        {"constraints_in_place": 1},
    ),
    (
        "one_session_per_order_number",
        [
            "ALTER TABLE baskets_checkoutsession DROP CONSTRAINT baskets_checkoutsession_order_no_key",
            "UPDATE baskets_checkoutsession SET order_no = 'SAME'",
        ],
        {"columns_guarded": 1},
    ),
    (
        "session_ended_within_its_basket",
        [f"UPDATE baskets_checkoutsession SET ended_revision = 999 WHERE id = {SESSION_OF.format(ANNA)}"],
        {},
    ),
    (
        "session_buys_something",
        [f"DELETE FROM baskets_checkoutitem WHERE basket_id = {ANNA}"],
        {"reservation_has_its_item": 1, "checkout_list_is_kept": 1, "checkout_list_went_somewhere": 1},
    ),
    (
        "checkout_items_whole",
        [
            *drop("checkoutitem", "stocked_is_the_whole_count_or_none_of_it"),
            f"UPDATE baskets_checkoutitem SET stocked = 1 WHERE basket_id = {ANNA}",
        ],
        {"constraints_in_place": 1, "reservations_follow_their_session": 1},
    ),
    # A held reservation of a session that has ended, and a sold one of a session that has not.
    (
        "reservations_follow_their_session",
        [f"UPDATE baskets_stockreservation SET status = 'HELD', ended_at = NULL WHERE basket_id = {ANNA}"],
        {},
    ),
    (
        "reservations_follow_their_session",
        [
            f"UPDATE baskets_stockreservation SET status = 'SOLD', ended_at = statement_timestamp() WHERE basket_id = {BOB} AND status = 'HELD'"
        ],
        {},
    ),
    (
        "reservations_follow_their_session",
        [f"UPDATE baskets_stockreservation SET status = 'SOLD' WHERE basket_id = {CARLA}"],
        {"supply_equation": 1},
    ),
    (
        "reservations_follow_their_session",
        [f"DELETE FROM baskets_stockreservation WHERE basket_id = {EMIL} AND status = 'SOLD'"],
        {"supply_equation": 1},
    ),
    (
        "reservations_follow_their_session",
        [f"UPDATE baskets_stockreservation SET pieces = 4 WHERE basket_id = {BOB} AND status = 'HELD'"],
        {"supply_equation": 1},
    ),
    (
        "reservations_follow_their_session",
        [f"DELETE FROM baskets_stockreservation WHERE basket_id = {BOB} AND status = 'FAILED'"],
        {},
    ),
    (
        "reservation_has_its_item",
        [f"UPDATE baskets_stockreservation SET product_id = 'lamp' WHERE basket_id = {BOB} AND status = 'FAILED'"],
        {"reservations_follow_their_session": 1},
    ),
    (
        "hold_ends_with_its_session",
        ["UPDATE baskets_stockreservation SET expires_at = expires_at + interval '1 hour' WHERE status = 'HELD'"],
        {},
    ),
    (
        "test_sessions_hold_nothing",
        [f"UPDATE baskets_checkoutitem SET stocked = count WHERE basket_id = {FAY}"],
        {},
    ),
    (
        "test_sessions_hold_nothing",
        [f"UPDATE baskets_checkoutsession SET test_mode = true WHERE id = {SESSION_OF.format(ANNA)}"],
        {},
    ),
    ("one_basket_for_all_of_a_session", [f"UPDATE baskets_checkoutitem SET basket_id = {BOB} WHERE basket_id = {ANNA}"], {}),
    ("one_basket_for_all_of_a_session", [f"UPDATE baskets_attention SET basket_id = {BOB} WHERE basket_id = {EMIL}"], {}),
    (
        "short_pieces_are_flagged",
        [f"DELETE FROM baskets_attention WHERE basket_id = {EMIL}"],
        {"flags_told_by_their_events": 1},
    ),
    (
        "short_pieces_are_flagged",
        [f"UPDATE baskets_stockreservation SET status = 'RELEASED' WHERE basket_id = {EMIL} AND status = 'SHORT'"],
        {"reservations_follow_their_session": 1},
    ),
    (
        "flags_whole",
        [
            *drop("attention", "settled_attention_names_who"),
            f"UPDATE baskets_attention SET settled_at = statement_timestamp() WHERE basket_id = {EMIL}",
        ],
        {"constraints_in_place": 1},
    ),
    (
        "returned_items_are_in_the_cart",
        [f"DELETE FROM baskets_basketitem WHERE basket_id = {CARLA} AND product_id = 'song'"],
        {},
    ),
    (
        "returned_items_are_in_the_cart",
        [f"UPDATE baskets_basketitem SET list = 'saved' WHERE basket_id = {DEV}"],
        {},
    ),
    (
        "one_basket_per_user",
        [
            *drop("basket", "one_basket_per_partner_and_user"),
            f"UPDATE baskets_basket SET user_id = 'anna' WHERE id = {BOB}",
        ],
        {"constraints_in_place": 1, "basket_key_computed": 1},
    ),
    ("basket_key_computed", ["UPDATE baskets_basket SET user_id = 'zoe' WHERE user_id = 'anna'"], {}),
    (
        "one_list_per_product",
        [
            *drop("basketitem", "one_item_per_basket_and_product"),
            f"""
            INSERT INTO baskets_basketitem (basket_id, product_id, list, count, position)
            SELECT basket_id, product_id, 'saved', 1, 9 FROM baskets_basketitem WHERE basket_id = {BOB} AND list = 'cart'
            """,
        ],
        {"constraints_in_place": 1},
    ),
    (
        "items_whole",
        [
            *drop("basketitem", "item_count_is_positive"),
            f"UPDATE baskets_basketitem SET count = 0 WHERE basket_id = {BOB} AND list = 'cart'",
        ],
        {"constraints_in_place": 1},
    ),
    ("hidden_baskets_are_empty", [f"UPDATE baskets_basketitem SET basket_id = {GUS} WHERE basket_id = {BOB} AND list = 'cart'"], {}),
    ("hidden_baskets_are_empty", [f"UPDATE baskets_basket SET hidden_at = statement_timestamp() WHERE id = {FAY}"], {}),
    ("answers_are_complete", ["UPDATE baskets_idempotencyrecord SET status = NULL"], {}),
    ("answers_are_complete", ["UPDATE baskets_idempotencyrecord SET status = 503"], {}),
    (
        "times_in_order",
        [
            *drop("checkoutsession", "session_finished_after_the_start"),
            f"UPDATE baskets_checkoutsession SET finished_at = started_at - interval '1 hour' WHERE id = {SESSION_OF.format(ANNA)}",
        ],
        {"constraints_in_place": 1},
    ),
    (
        "nothing_from_the_future",
        [f"UPDATE baskets_basket SET last_changed_at = last_changed_at + interval '1 hour' WHERE id = {ANNA}"],
        {},
    ),
    (
        "nothing_from_the_future",
        ["UPDATE baskets_stockadjustment SET as_of = statement_timestamp() + interval '1 day' WHERE product_id = 'cap'"],
        {},
    ),
    ("events_without_gaps", [f"UPDATE baskets_event SET number = 99 WHERE basket_id = {GUS} AND number = 2"], {}),
    ("events_without_gaps", [f"UPDATE baskets_basket SET events = events + 1 WHERE id = {ANNA}"], {}),
    ("events_without_gaps", [f"DELETE FROM baskets_event WHERE basket_id = {GUS}"], {}),
    ("revisions_go_forward", [f"UPDATE baskets_event SET revision = 99 WHERE basket_id = {GUS} AND number = 2"], {}),
    (
        "revisions_go_forward",
        [f"UPDATE baskets_basket SET revision = 1 WHERE id = {HAL}"],
        {"session_ended_within_its_basket": 1},
    ),
    (
        "changes_go_forward",
        [f"UPDATE baskets_event SET at = at - interval '1 hour' WHERE basket_id = {GUS} AND number = 2"],
        {},
    ),
    (
        "session_told_by_its_events",
        [f"UPDATE baskets_event SET kind = 'checkout_aborted' WHERE basket_id = {ANNA} AND kind = 'checkout_ordered'"],
        {},
    ),
    (
        "session_told_by_its_events",
        [
            f"""
            UPDATE baskets_checkoutsession SET status = 'EXPIRED' WHERE id = {SESSION_OF.format(CARLA)}
            """
        ],
        {},
    ),
    (
        "session_events_name_their_session",
        [f"UPDATE baskets_event SET session_id = NULL WHERE basket_id = {HAL} AND kind = 'attention_needed'"],
        {"flags_told_by_their_events": 2},
    ),
    (
        "flags_told_by_their_events",
        [f"DELETE FROM baskets_attention WHERE basket_id = {HAL}"],
        {},
    ),
    (
        "checkout_list_is_kept",
        [f"DELETE FROM baskets_checkoutitem WHERE basket_id = {BOB} AND product_id = 'song'"],
        {},
    ),
    (
        "checkout_list_went_somewhere",
        [
            f"""
            UPDATE baskets_event SET data = jsonb_set(data, '{{items,0,count}}', '1')
            WHERE basket_id = {ANNA} AND kind = 'checkout_ordered'
            """
        ],
        {},
    ),
    ("constraints_in_place", drop("basket", "user_id_is_not_empty"), {}),
    ("constraints_in_place", ["DROP INDEX one_active_checkout_per_basket"], {}),
    (
        "constraints_in_place",
        [
            *drop("stock", "available_is_not_negative"),
            "ALTER TABLE baskets_stock ADD CONSTRAINT available_is_not_negative CHECK (available >= 0) NOT VALID",
        ],
        {},
    ),
    ("columns_guarded", ["ALTER TABLE baskets_event ALTER kind DROP NOT NULL"], {}),
    ("triggers_switched_on", ["ALTER TABLE baskets_attention DISABLE TRIGGER ALL"], {}),
]


@pytest.mark.usefixtures("world")
def test_a_sound_world_breaks_nothing() -> None:
    assert broken() == {}


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize(("slug", "statements", "others"), VIOLATIONS, ids=[f"{n}-{v[0]}" for n, v in enumerate(VIOLATIONS)])
def test_a_broken_rule_is_found(slug: str, statements: list[str], others: dict[str, int]) -> None:
    execute(*statements)
    found = broken()
    assert found.pop(slug, 0) >= 1
    assert found == others


def test_every_proof_is_shown_to_speak() -> None:
    assert {slug for slug, _, _ in VIOLATIONS} == {proof.slug for proof in PROOFS} | {checker.BASKET_KEYS.slug}


def test_the_names_of_proofs_are_unique_and_no_query_asks_for_a_user() -> None:
    assert len({proof.slug for proof in PROOFS}) == len(PROOFS)
    assert [proof.slug for proof in PROOFS if "user_id" in proof.sql and proof.slug != "one_basket_per_user"] == []


@pytest.mark.usefixtures("world")
def test_a_finding_counts_all_and_shows_some_without_user_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checker, "EXAMPLES", 1)
    execute("UPDATE baskets_stock SET available = available + 1 WHERE shortfall = 0")
    (finding,) = checker.findings()
    assert (finding.proof.slug, finding.total, len(finding.examples)) == ("supply_equation", 3, 1)
    assert sorted(finding.examples[0]) == ["available", "held", "product_id", "shortfall", "sold", "supply"]


@pytest.mark.django_db(transaction=True)
def test_the_check_reads_one_snapshot_and_cannot_write() -> None:
    seen = []

    def look(_: int) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only')")
            seen.append(cursor.fetchone())

    assert checker.check(advance=look) == []
    assert set(seen) == {("repeatable read", "on")}
    assert len(seen) == checker.proof_count()


def test_held_reservations_past_their_end_are_no_finding(world: None) -> None:
    bob = User(Owner(partner_id=Partner.objects.get(name="accepting").pk, user_id="bob"))
    bob.wait(days=1)
    assert broken() == {}
