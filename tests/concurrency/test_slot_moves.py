"""Baskets that move between two cells, each with a separate database: whole, once, and killed at every step."""

import contextlib
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import DEFAULT_DB_ALIAS, connection, connections
from django.db.models.functions import Now
from psycopg import sql
from pytest_django import Settings

from baskets.domain import runner, slots
from baskets.domain.access import api_keys
from baskets.domain.cells import basket_copies, slot_division, slot_moves
from baskets.domain.checkout import expiry
from baskets.domain.events import activity
from baskets.domain.maintenance import invariant_checker
from baskets.domain.maintenance.invariants import INVARIANTS
from baskets.domain.support import basket_repairs, checkout_repairs
from baskets.models import Basket, CheckoutSession, Partner
from baskets.models.basket_snapshot import Owner
from tests.api.conftest import Api
from tests.cells import close, eventually
from tests.commands.conftest import Run, run  # noqa: F401 (a fixture)
from tests.concurrency.test_stock_moves import cells, second_database  # noqa: F401 (two fixtures)
from tests.domain.scenarios import User
from tests.factories import TESTER, PartnerFactory

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


# What a commit waits for while a test holds it back, and the session that waits. A move checks deferred constraints before it commits, so
# the first check defers another one.
SLOW_COMMIT = """
CREATE FUNCTION wait_for_test() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF TG_OP = 'UPDATE' THEN PERFORM pg_advisory_xact_lock(64); RETURN NULL; END IF;
    SET CONSTRAINTS wait_for_test DEFERRED; UPDATE baskets_movingbatch SET cell = cell WHERE id = NEW.id; RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER wait_for_test AFTER INSERT OR UPDATE ON baskets_movingbatch DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION wait_for_test();
SELECT pg_advisory_lock(64)
"""
COMMITTING = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND wait_event = 'advisory'"
TERMINATE = f"SELECT pg_terminate_backend(pid) FROM ({COMMITTING}) waiting"  # noqa: S608 (a constant)


@contextlib.contextmanager
def slow_commit(blocker: psycopg.Connection[Any]) -> Iterator[None]:
    """Let the commit of an arrival wait until the block ends."""
    blocker.execute(SLOW_COMMIT)
    try:
        yield
    finally:
        blocker.execute("SELECT pg_advisory_unlock(64)")
        eventually(lambda: blocker.execute(COMMITTING).fetchone() is None)
        blocker.execute("DROP FUNCTION wait_for_test CASCADE")


def names(moving: bool) -> Iterator[str]:
    """Generate user ids in slots that move, or that stay."""
    return (name for name in map("user-{}".format, range(999)) if (slots.slot_of(name) in MOVING) == moving)


def share_partners(urls: list[str]) -> None:
    with psycopg.connect(urls[0]) as first, psycopg.connect(urls[1]) as second:
        partners = first.execute("SELECT coalesce(jsonb_agg(p), '[]')::text FROM baskets_partner p").fetchone()
        insert = "INSERT INTO baskets_partner SELECT * FROM jsonb_populate_recordset(NULL::baskets_partner, %s) ON CONFLICT DO NOTHING"
        second.execute(insert, partners)


@pytest.fixture
def api(shopper: User, cells: list[str]) -> Api:  # noqa: F811 (the fixture)
    """A back end, whose partner and key both cells know."""
    name = Partner.objects.get(pk=shopper.owner.partner_id).name
    _, text = api_keys.issue_api_key(partner_name=name, actor=TESTER)
    share_partners(cells)
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
        tables = (
            *("partner", "product", "event", "feedposition", "feedstate", "feedgap", "movingbatch"),
            *("basketitem", "checkoutsession", "checkoutitem", "stockreservation"),
            *("activitystate", "comfort", "idempotencyrecord", "deskentry"),
        )
        listed = sql.SQL(", ").join(sql.Identifier(f"baskets_{name}") for name in tables)
        second.execute(sql.SQL("TRUNCATE {} CASCADE").format(listed))


def count_events() -> None:
    """Count all events. A transaction of another test, in another database of the server, may keep the latest from their places."""

    def counted() -> bool:
        activity.count_events()
        with connection.cursor() as cursor:
            cursor.execute(slot_moves.UNCOUNTED, [list(Basket.objects.values_list("pk", flat=True))])
            return not cursor.fetchall()

    eventually(counted)


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
    count_events()
    before, seen = totals(cells), read(cells, FEED)
    staying = slot_division.count_foreign_baskets({None: MOVING})
    slot_map(0)
    assert api.place("cap", user=busy).refusal == (421, 404, "wrong_cell")
    moved = move()
    assert (moved.baskets, moved.completed, moved.in_checkout) == (baskets - staying, 0, 0)
    count_events()
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


@pytest.mark.parametrize("step", ["check_shortfall", "_adjust", "compare_baskets", "delete_baskets"])
def test_move_that_ends_before_the_first_commit_changes_nothing(
    shopper: User,
    api: Api,
    cells: list[str],  # noqa: F811 (the fixture)
    slot_map: Callable[[int], str],
    monkeypatch: pytest.MonkeyPatch,
    step: str,
) -> None:
    live(shopper, api)
    count_events()
    slot_map(0)
    before = read(cells, SUMS)
    with monkeypatch.context() as broken:
        broken.setattr(basket_copies, step, lambda *_, **__: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            move()
    assert read(cells, SUMS) == before
    assert read(cells, "SELECT count(*) FROM baskets_movingbatch") == [[(0,)], [(0,)]]


@pytest.mark.parametrize("arrives", [False, True])
def test_process_killed_between_the_two_commits_is_completed_whatever_sweeps_did(
    shopper: User,
    api: Api,
    cells: list[str],  # noqa: F811 (the fixture)
    slot_map: Callable[[int], str],
    process: Callable[..., Any],
    run: Run,  # noqa: F811 (the fixture)
    arrives: bool,
) -> None:
    live(shopper, api)
    count_events()
    Basket.objects.update(expires_at=Now())
    before, seen, staying = totals(cells), read(cells, FEED), slot_division.count_foreign_baskets({None: MOVING})
    environment = {"BASKETS_CELL_DATABASES": " ".join(cells), "BASKETS_CELL": "1", "BASKETS_SLOT_MAP": slot_map(0)}
    arguments = ("move_slot", *map(str, MOVING), "--to", "2")
    with psycopg.connect(cells[1], autocommit=True) as blocker, slow_commit(blocker):
        mover = process(*arguments, env=environment)
        eventually(lambda: Basket.objects.count() == staying)
        os.kill(mover.pid, signal.SIGKILL)
        mover.communicate()
        # The baskets are nowhere: sweeps, purges and staff find no copy of them.
        assert read(cells[1:], "SELECT count(*) FROM baskets_basket") == [[(0,)]]
        assert findings(DEFAULT_DB_ALIAS) == {"moved_baskets_have_arrived"}
        if not arrives:
            blocker.execute(TERMINATE)
    eventually(lambda: (read(cells[1:], "SELECT count(*) > 0 FROM baskets_basket") == [[(True,)]]) == arrives)
    swept = expiry.sweep_baskets().expired
    assert swept == staying
    if arrives:
        sweep = process("expire_baskets", "--json", env={"DATABASE_URL": cells[1]})
        swept += json.loads(sweep.communicate()[0])["baskets_expired"]
        assert swept > staying + 4
    done = run(*arguments, "--json")
    assert done.code == 0, done.err
    assert done.data["baskets"] == 0
    assert (done.data["completed"] == 0) == arrives
    assert run(*arguments, "--json").data == {"baskets": 0, "completed": 0, "in_checkout": 0}
    after = totals(cells)
    assert after[:4] == before[:4]
    assert after[4] == before[4] + swept
    assert {row[0] for rows in seen for row in rows} <= {row[0] for rows in read(cells, FEED) for row in rows}
    assert Basket.objects.count() == staying
    assert read(cells, "SELECT count(*) FROM baskets_movingbatch") == [[(0,)], [(0,)]]
    assert findings("cell_1") == findings("cell_2") == set()


def test_partner_moves_as_a_whole_and_others_stay(
    shopper: User,
    api: Api,
    cells: list[str],  # noqa: F811 (the fixture)
    slot_map: Callable[[int], str],
    run: Run,  # noqa: F811 (the fixture)
    settings: Settings,
) -> None:
    users = live(shopper, api)
    partner = Partner.objects.get(pk=shopper.owner.partner_id)
    stays = User(Owner(partner_id=PartnerFactory().pk, user_id=users[0].owner.user_id))
    share_partners(cells)
    stays.place("cap")
    count_events()
    baskets, before = Basket.objects.filter(partner=partner).count(), totals(cells)
    assert run("move_slot", "--partner", partner.name, "--drain").code == 0
    user = users[0].owner.user_id
    api.place("cap", user=user)
    assert api.start(user=user).refusal == (421, 404, "wrong_cell")
    count_events()

    def give(cell: str) -> None:
        arguments = ("--partner", partner.name, "--to", cell, "--from", settings.BASKETS_SLOT_MAP)
        Path(settings.BASKETS_SLOT_MAP).write_text(run("slot_map", *arguments).out)
        slots._readers.clear()

    assert run("move_slot", "--partner", partner.name, "--to", "2").code == 1
    give("0")
    assert api.get(f"/baskets/users/{user}").refusal == (421, 404, "wrong_cell")
    moved = run("move_slot", "--partner", partner.name, "--to", "2", "--json")
    assert (moved.code, moved.data) == (0, {"baskets": baskets, "completed": 0, "in_checkout": 0})
    assert list(Basket.objects.values_list("pk", flat=True)) == [stays.owner.basket_id]
    assert totals(cells)[:4] == before[:4]
    assert findings("cell_1") == findings("cell_2") == set()
    give("2")
    assert api.get(f"/baskets/users/{user}").refusal == (421, 404, "wrong_cell")
    # A process that still has the former map changes nothing, and other partners are served.
    slot_map(1)
    assert api.place("cap", user=user).refusal == (421, 404, "wrong_cell")
    stays.place("cap", 3)
    give("2")
    proxy = ("haproxy_config", "--slot-map", settings.BASKETS_SLOT_MAP, "--cell", "a:1", "--cell", "b:2", "--partner")
    backend = f"backend any_{partner.pk}\n  balance roundrobin\n  server cell2-1 b:2"
    assert backend in run(*proxy, f"p.example.com={partner.name}").out
    assert run(*proxy, f"p.example.com={Partner.objects.get(pk=stays.owner.partner_id).name}").code == 2
    assert run(*proxy, "p.example.com").code == run("move_slot", "--drain").code == 2
    stays.place("cap", 2)


def test_user_with_a_basket_in_the_other_cell_is_erased_there_first(
    shopper: User,
    api: Api,
    cells: list[str],  # noqa: F811 (the fixture)
    slot_map: Callable[[int], str],
) -> None:
    user = shopper.beside(next(names(moving=True)))
    user.place("cap")
    count_events()
    slot_map(0)
    with psycopg.connect(cells[0]) as first, psycopg.connect(cells[1]) as second:
        rows = first.execute("SELECT to_jsonb(b)::text FROM baskets_basket b").fetchone()
        second.execute("INSERT INTO baskets_basket SELECT * FROM jsonb_populate_record(NULL::baskets_basket, %s::jsonb)", rows)
    with pytest.raises(slot_moves.SlotMoveRefused, match=f"another basket of a user whose basket moves there: {user.owner.basket_id}"):
        move()
    assert user.lists()["cart"] != []
    with psycopg.connect(cells[1]) as second:
        second.execute("UPDATE baskets_basket SET id = gen_random_uuid(), user_id = 'erased'")
    assert move().baskets == 1


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
