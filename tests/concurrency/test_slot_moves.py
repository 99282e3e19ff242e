"""Baskets that move between two cells, each with a separate database: whole, once, and killed at every step."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.apps import apps
from django.db import connections
from psycopg import sql
from pytest_django import Settings

from baskets.domain import runner, slots
from baskets.domain.access import api_keys
from baskets.domain.cells import basket_copies, slot_division, slot_moves
from baskets.domain.checkout import expiry
from baskets.domain.maintenance import invariant_checker
from baskets.domain.maintenance.invariants import INVARIANTS
from baskets.domain.support import basket_repairs, checkout_repairs
from baskets.models import Basket, CheckoutSession, Partner
from tests.api.conftest import Api
from tests.cells import close
from tests.commands.conftest import Run, run  # noqa: F401 (a fixture)
from tests.concurrency.test_stock_moves import cells, second_database  # noqa: F401 (two fixtures)
from tests.domain.scenarios import User
from tests.factories import TESTER

# The upper half of the slots stays.
MOVING = range(32)
REPAIR = {"reason": "a test", "actor": TESTER}
SUMS = """
SELECT (SELECT sum(delta) FROM baskets_stockadjustment)::bigint,
       (SELECT sum(available - shortfall) FROM baskets_stock)::bigint,
       (SELECT coalesce(sum(pieces), 0) FROM baskets_stockreservation WHERE status = 'SOLD')::bigint,
       (SELECT count(*) FROM baskets_checkoutsession WHERE status = 'ORDERED')::bigint,
       (SELECT count(*) FROM baskets_event)::bigint, (SELECT count(*) FROM baskets_basketitem)::int,
       (SELECT count(*) FROM baskets_comfort)::bigint, (SELECT count(*) FROM baskets_idempotencyrecord)::int,
       (SELECT count(*) FROM baskets_guesttoken)::bigint, (SELECT count(*) FROM baskets_attention)::int,
       (SELECT count(*) FROM baskets_deskentry WHERE about = 'basket')::bigint,
       (SELECT coalesce(sum(ordered), 0) FROM baskets_partneractivity)::bigint
"""
FEED = """
SELECT p.public_id, e.number, b.user_id FROM baskets_feedposition p JOIN baskets_event e ON e.id = p.event_id
JOIN baskets_basket b ON b.id = e.basket_id ORDER BY p.position
"""


def names(moving: bool) -> Iterator[str]:
    """Generate user ids in slots that move, or that stay."""
    return (name for name in map("user-{}".format, range(999)) if (slots.slot_of(name) in MOVING) == moving)


@pytest.fixture
def api(shopper: User, cells: list[str]) -> Api:  # noqa: F811 (the fixture)
    """A back end, whose partner and key both cells know."""
    name = Partner.objects.get(pk=shopper.owner.partner_id).name
    _, text = api_keys.issue_api_key(partner_name=name, actor=TESTER)
    with psycopg.connect(cells[0]) as first, psycopg.connect(cells[1]) as second:
        partners = first.execute("SELECT coalesce(jsonb_agg(p), '[]')::text FROM baskets_partner p").fetchone()
        second.execute("INSERT INTO baskets_partner SELECT * FROM jsonb_populate_recordset(NULL::baskets_partner, %s::jsonb)", partners)
    return Api(text)


@pytest.fixture
def slot_map(settings: Settings, tmp_path: Path, cells: list[str]) -> Iterator[Callable[[int], str]]:  # noqa: F811 (the fixture)
    """Make the database of the test cell 1; return what gives the moving slots to a cell, and the path of the map."""
    file = tmp_path / "slots.map"

    def give(cell: int) -> str:
        file.write_text(slot_division.render_slot_map([cell if slot in MOVING else 1 for slot in range(slots.SLOTS)]))
        slots._readers.clear()
        return str(file)

    settings.BASKETS_CELL, settings.BASKETS_SLOT_MAP = 1, give(1)
    yield give
    settings.BASKETS_CELL = 0
    slot_division.claim_slots(None, actor=TESTER)
    with psycopg.connect(cells[1]) as second:
        second.execute(f"DROP TRIGGER IF EXISTS {slots.SLOT_CONSTRAINT} ON baskets_event")
        tables = ("partner", "product", "event", "feedstate", "feedgap", "activitystate", "comfort", "idempotencyrecord", "deskentry")
        listed = sql.SQL(", ").join(sql.Identifier(f"baskets_{name}") for name in tables)
        second.execute(sql.SQL("TRUNCATE {} CASCADE").format(listed))


def move(target: int = 2) -> slot_moves.SlotsMoved:
    try:
        return slot_moves.move_slots(MOVING, target=target, actor=TESTER)
    finally:
        close()


def read(urls: list[str], query: str) -> list[list[tuple[Any, ...]]]:
    found = []
    for address in urls:
        with psycopg.connect(address) as client:
            found.append(client.execute(query).fetchall())
    return found


def totals(urls: list[str]) -> list[int]:
    return [sum(column) for column in zip(*(rows[0] for rows in read(urls, SUMS)), strict=True)]


def findings(alias: str) -> set[str]:
    """Name the invariants that do not hold in a cell."""
    with contextlib.closing(connections[alias]), invariant_checker.snapshot(using=alias):
        return {invariant.slug for invariant in INVARIANTS if invariant_checker.check_invariant(invariant, using=alias)}


def live(shopper: User, api: Api) -> list[User]:
    """Let users of the moving slots do everything that leaves a row, and one of the others buy."""
    ordered, late, reversed_, closed, cart, *_ = (shopper.beside(name) for name, _ in zip(names(moving=True), range(9), strict=False))
    stays = shopper.beside(next(names(moving=False)))
    for user in (ordered, late, reversed_, stays):
        user.place("shirt")
        user.place("song", 2)
        user.start()
    ordered.finish(True)
    stays.finish(True)
    aborted = late.finish(False)
    assert aborted
    session = CheckoutSession.objects.get(basket_id=late.owner.basket_id)
    late.finish(True, session.order_no)
    reversed_.finish(True)
    order = CheckoutSession.objects.get(basket_id=reversed_.owner.basket_id)
    events = Basket.objects.get(pk=reversed_.owner.basket_id).events
    runner.run(lambda: checkout_repairs.reverse_order(session=order, expected_events=events, **REPAIR))
    closed.place("cap")
    closed.delete()
    cart.place("cap", 3)
    cart.place("shirt", 0)
    user = cart.owner.user_id
    assert api.post(f"/baskets/users/{user}/products/song", {"count": 1}, Idempotency_Key="once").status == 200
    assert api.post(f"/baskets/users/{user}/transfer", {"url": "https://shop.example/"}).status == 200
    # Two checkouts that expire, one of which is reported as ordered too late.
    cart.start()
    cart.wait(hours=1)
    expiry.sweep_sessions()
    basket = Basket.objects.get(pk=cart.owner.basket_id)
    runner.run(lambda: basket_repairs.add_note(basket=basket, expected_events=basket.events, **REPAIR))
    guest = api.post("/baskets/guests").data["userId"]
    while slots.slot_of(guest) not in MOVING:
        guest = api.post("/baskets/guests").data["userId"]
    return [ordered, late, reversed_, closed, cart, shopper.beside(guest), stays]


def test_every_table_of_a_basket_moves() -> None:
    """A table with a key of a basket moves with it, or is named as one that does not."""
    models = apps.get_app_config("baskets").get_models()
    columns = {model._meta.db_table: {field.column for field in model._meta.concrete_fields} for model in models}
    of_basket = {table for table, names in columns.items() if "basket_id" in names}
    assert of_basket == set(basket_copies.PARTS) - {"baskets_basket", "baskets_deskentry"} | set(basket_copies.NOT_COPIED)


def test_slots_move_whole_and_nothing_else(
    shopper: User,
    api: Api,
    cells: list[str],  # noqa: F811 (the fixture)
    slot_map: Callable[[int], str],
) -> None:
    users = live(shopper, api)
    stays = users.pop()
    with pytest.raises(slot_moves.SlotMoveRefused, match="gives slot 0 to cell 1"):
        move()
    assert slot_moves.drain_slots(MOVING, actor=TESTER) == 0
    busy = next(name for name in names(moving=True) if name not in {user.owner.user_id for user in users})
    assert api.place("cap", user=busy).status == 200
    assert api.start(user=busy).refusal == (421, 404, "wrong_cell")
    baskets = Basket.objects.count()
    slot_moves.activity.count_events()
    before, seen = totals(cells), read(cells, FEED)
    staying = slot_division.count_foreign_baskets(MOVING)
    slot_map(0)
    assert api.place("cap", user=busy).refusal == (421, 404, "wrong_cell")
    moved = move()
    assert (moved.baskets, moved.repeated, moved.in_checkout) == (baskets - staying, 0, 0)
    slot_moves.activity.count_events()
    after = totals(cells)
    # The other cell counts what came when it counts next.
    assert after[:-1] == before[:-1]
    assert after[-1] == 2
    assert findings("cell_1") == findings("cell_2") == set()
    # A consumer that had read everything sees the events again with the ids that it knows, each basket's in order; none is left behind.
    (here, there), (known, _) = read(cells, FEED), seen
    assert {row[0] for row in here} | {row[0] for row in there} == {row[0] for row in known}
    assert {name for *_, name in there} == {user.owner.user_id for user in users} | {busy}
    for name in {name for *_, name in there}:
        assert [row for row in there if row[2] == name] == [row for row in known if row[2] == name]
    assert stays.lists()["cart"] == []
    assert not Basket.objects.filter(pk__in=[user.owner.basket_id for user in users]).exists()
    # A process that still has the former map changes nothing.
    slot_map(1)
    assert api.place("cap", user=busy).refusal == (421, 404, "wrong_cell")


@pytest.mark.parametrize("step", ["copy", "verify", "commit", "delete"])
def test_move_that_ends_between_any_two_steps_is_completed_once(
    shopper: User,
    api: Api,
    cells: list[str],  # noqa: F811 (the fixture)
    slot_map: Callable[[int], str],
    monkeypatch: pytest.MonkeyPatch,
    step: str,
) -> None:
    live(shopper, api)
    slot_moves.activity.count_events()
    slot_map(0)
    before = totals(cells)[:-1]
    function = {"copy": "_adjust", "verify": "compare_copies", "commit": "check_shortfall", "delete": "delete_baskets"}[step]
    with monkeypatch.context() as broken:
        broken.setattr(basket_copies, function, lambda *_, **__: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            move()
    copied = read(cells[1:], "SELECT count(*) FROM baskets_basket")[0][0][0]
    assert (copied > 0) == (step == "delete")
    moved = move()
    assert moved.repeated == copied
    assert totals(cells)[:-1] == before
    assert findings("cell_1") == findings("cell_2") == set()
    assert move().baskets == 0


def test_process_killed_between_the_two_commits_leaves_a_basket_that_a_run_removes(
    shopper: User,
    api: Api,
    cells: list[str],  # noqa: F811 (the fixture)
    slot_map: Callable[[int], str],
    process: Callable[..., Any],
    run: Run,  # noqa: F811 (the fixture)
) -> None:
    live(shopper, api)
    slot_moves.activity.count_events()
    before = totals(cells)[:-1]
    environment = {"BASKETS_CELL_DATABASES": " ".join(cells), "BASKETS_CELL": "1", "BASKETS_SLOT_MAP": slot_map(0)}
    arguments = ("move_slot", *map(str, MOVING), "--to", "2")
    with psycopg.connect(cells[0]) as blocker:
        # The deletion of the events waits for this row; the other cell has committed by then.
        blocker.execute("SELECT FROM baskets_partneractivity FOR UPDATE")
        mover = process(*arguments, env=environment)
        until = time.monotonic() + 60
        while read(cells[1:], "SELECT count(*) > 0 FROM baskets_basket") != [[(True,)]]:
            assert time.monotonic() < until, mover.communicate()
            time.sleep(0.05)
        os.kill(mover.pid, signal.SIGKILL)
        mover.communicate()
    done = run(*arguments, "--json")
    assert done.code == 0, done.err
    assert done.data["baskets"] == done.data["repeated"] > 4
    assert totals(cells)[:-1] == before
    assert findings("cell_1") == findings("cell_2") == set()
    assert run("move_slot", "1").code == run("move_slot", "1", "--drain", "--to", "2").code == 2


def test_baskets_in_checkout_stay_until_it_ends(
    shopper: User,
    api: Api,
    cells: list[str],  # noqa: F811 (the fixture)
    slot_map: Callable[[int], str],
    run: Run,  # noqa: F811 (the fixture)
) -> None:
    user = shopper.beside(next(names(moving=True)))
    user.place("shirt")
    user.start()
    assert run("move_slot", *map(str, MOVING), "--drain", "--wait", "0").code == 1
    # Its checkout ends as ever.
    slot_map(0)
    assert (move().in_checkout, move().baskets) == (1, 0)
    user.wait(hours=1)
    moved = move()
    assert (moved.baskets, moved.in_checkout) == (1, 0)
