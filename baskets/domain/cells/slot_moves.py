"""Moves the baskets of slots from this cell to another. It decides nothing about which slots, and changes no slot map.

Note [A basket is in one cell]
A slot moves in three steps. First it drains: its users start no checkout, and those that are active end. Then no cell has it in the slot
map: every cell answers 421, and the guards of both databases refuse what a process with an old map would write. Then its baskets move,
a batch at a time, in one transaction of each cell: this one locks and reads the baskets, the other one writes, compares and commits,
and only then this one deletes and commits. Before the first COMMIT nothing has moved; after the second everything has. Between the two
the batch is in both cells and served by none; the next run finds it in both, and deletes it here. At the end the other cell gets the slot.

Note [Events that move]
The events of a basket get places in the feed of the other cell with the public ids that they had, and leave this one. A consumer that
had read them reads them again there, and knows them by their ids; one that had not misses none. What it has seen of a basket is the
union of two beginnings of one timeline, so whatever it sees for the first time is in order.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.db import DEFAULT_DB_ALIAS, connection, connections, transaction

from baskets import conf
from baskets.domain import audit_log, slots
from baskets.domain.actors import Actor
from baskets.domain.cells import basket_copies, slot_division
from baskets.domain.cells.stock_moves import database_of
from baskets.domain.checkout import expiry
from baskets.domain.errors import Refusal
from baskets.domain.events import activity
from baskets.models import Basket, CheckoutSession, DeskEntry

BATCH = 50
NEXT_BASKETS = f"""
SELECT id FROM baskets_basket WHERE id > %s::uuid AND {slots.SLOT_SQL} = ANY(%s) ORDER BY id LIMIT %s
"""  # noqa: S608 (a constant)
COUNT_ACTIVE = f"""
SELECT count(*) FROM baskets_checkoutsession s JOIN baskets_basket b ON b.id = s.basket_id
WHERE s.status = 'ACTIVE' AND {slots.SLOT_SQL} = ANY(%s)
"""  # noqa: S608 (a constant)
UNCOUNTED = """
SELECT DISTINCT e.basket_id FROM baskets_event e LEFT JOIN baskets_feedposition p ON p.event_id = e.id
WHERE e.basket_id = ANY(%s::uuid[]) AND coalesce(p.position > (SELECT max(position) FROM baskets_activitystate), true)
"""
LAST_EVENTS = """
SELECT b.id, b.events, (SELECT e.at FROM baskets_event e WHERE e.basket_id = b.id AND e.number = known.number)
FROM baskets_basket b JOIN unnest(%s::uuid[], %s::bigint[]) AS known (id, number) ON known.id = b.id
"""
PARTNERS = "SELECT id, name FROM baskets_partner ORDER BY id"
MISSING_PRODUCTS = "SELECT id FROM unnest(%s::text[]) AS used (id) WHERE id NOT IN (SELECT product_id FROM baskets_product) ORDER BY id"
USED_PRODUCTS = """
SELECT product_id FROM baskets_basketitem WHERE basket_id = ANY(%(baskets)s::uuid[])
UNION SELECT i.product_id FROM baskets_checkoutitem i JOIN baskets_checkoutsession s ON s.id = i.session_id
WHERE s.basket_id = ANY(%(baskets)s::uuid[])
"""


class SlotMoveRefused(Refusal):
    """The baskets of the slots cannot be moved now."""

    reason = "slot_move_refused"
    message = "The slots cannot be moved."


@dataclass(frozen=True, kw_only=True)
class SlotsMoved:
    """The result of a move.

    :param baskets: how many moved in this run.
    :param repeated: how many of them an earlier run had copied.
    :param in_checkout: how many stay, because their checkout is active.
    """

    baskets: int
    repeated: int
    in_checkout: int


class LastEvent(NamedTuple):
    """How far the timeline of a basket goes.

    :param events: how many events it has.
    :param at: the moment of the event with the given number; None if it has none.
    """

    events: int
    at: datetime | None


def drain_slots(chosen: Sequence[int], *, actor: Actor) -> int:
    """Let no checkout start in slots of this cell, and expire those that have lapsed. Safe to repeat.

    :returns: how many checkouts are active in these slots.
    :raises SlotMoveRefused: this cell does not have the slots.
    """
    division = _division()
    own = _slots_of(division, conf.cell())
    if not set(chosen) <= set(own):
        raise SlotMoveRefused(f"The slot map does not give these slots to cell {conf.cell()}.")
    slot_division.guard_slots(own, leaving=chosen)
    audit_log.record(kind=DeskEntry.Kind.MAINTAINED, about="slots", data={"draining": list(chosen)}, actor=actor)
    return count_active(chosen)


def count_active(chosen: Sequence[int]) -> int:
    """Expire lapsed checkouts, and count those that are active in slots."""
    expiry.sweep_sessions()
    with connection.cursor() as cursor:
        cursor.execute(COUNT_ACTIVE, [list(chosen)])
        ((count,),) = cursor.fetchall()
    return int(count)


def move_slots(chosen: Sequence[int], *, target: int, actor: Actor) -> SlotsMoved:
    """Move all baskets of slots that no cell has in the slot map. See Note [A basket is in one cell].

    Runs one transaction in each cell for each batch. Locks at most `BATCH` baskets by primary key here, then the feed of the other
    cell. Only the owner of the tables can do it. Safe to repeat after whatever ended it.

    :param target: the number of the cell that the baskets move to.
    :raises UnknownCell: the settings do not name the database of the other cell.
    :raises SlotMoveRefused: a cell still has the slots, the cells have other partners or products, or a basket is in both cells and
        has changed in this one.
    :raises CopyDiffers: what was written is not what was read.
    :raises ShortfallUnexplained: the sold pieces of a basket are the reason of a shortfall.
    """
    database, division = database_of(target), _division()
    if target == conf.cell():
        raise SlotMoveRefused("The baskets are in that cell already.")
    if served := [slot for slot in chosen if division[slot] != slots.NO_CELL]:
        raise SlotMoveRefused(f"The slot map gives slot {served[0]} to cell {division[served[0]]}; it must give the slots to none, 0.")
    slot_division.guard_slots(_slots_of(division, conf.cell()))
    slot_division.guard_slots(_slots_of(division, target), using=database)
    if _rows(DEFAULT_DB_ALIAS, PARTNERS, []) != _rows(database, PARTNERS, []):
        raise SlotMoveRefused(f"Cell {target} has other partners than this cell, or other numbers of them.")
    count_active(chosen)
    moved = repeated = 0
    last = UUID(int=0)
    while batch := [pk for (pk,) in _rows(DEFAULT_DB_ALIAS, NEXT_BASKETS, [last, list(chosen), BATCH])]:
        activity.count_events()
        with transaction.atomic(durable=True):
            done, known = _move_batch(batch, database=database, actor=actor)
        moved, repeated = moved + done, repeated + known
        last = batch[-1]
    in_checkout = count_active(chosen)
    data = {"moved": list(chosen), "to": target, "baskets": moved, "in_checkout": in_checkout}
    audit_log.record(kind=DeskEntry.Kind.MAINTAINED, about="slots", data=data, actor=actor)
    if left := slot_division.count_baskets(chosen) - in_checkout:
        raise SlotMoveRefused(f"{left} baskets were locked, or changed at that moment. Move the slots again.")
    if not in_checkout:
        slot_division.guard_slots([*_slots_of(division, target), *chosen], using=database)
    return SlotsMoved(baskets=moved, repeated=repeated, in_checkout=in_checkout)


def _move_batch(batch: Sequence[UUID], *, database: str, actor: Actor) -> tuple[int, int]:
    """Move one batch within a transaction of this cell; skip baskets that are locked, in checkout, or not counted yet.

    :returns: how many moved, and how many of them were in the other cell already.
    """
    free = list(Basket.objects.filter(pk__in=batch).locked(skip_locked=True).values_list("pk", flat=True))
    active = set(CheckoutSession.objects.active().filter(basket_id__in=free).values_list("basket_id", flat=True))
    uncounted = {pk for (pk,) in _rows(DEFAULT_DB_ALIAS, UNCOUNTED, [free])}
    chosen = [pk for pk in free if pk not in active | uncounted]
    if not chosen:
        return 0, 0
    basket_copies.check_shortfall(DEFAULT_DB_ALIAS, chosen)
    with transaction.atomic(using=database, durable=True):
        _rows(database, "SELECT set_config(%s, 'on', true)", [slot_division.MOVING])
        known = _find_copies(chosen, database=database)
        fresh = [pk for pk in chosen if pk not in known]
        used = [product_id for (product_id,) in _rows(DEFAULT_DB_ALIAS, USED_PRODUCTS, {"baskets": fresh})]
        if missing := _rows(database, MISSING_PRODUCTS, [used]):
            raise SlotMoveRefused(f"The other cell does not know {len(missing)} of the products, {missing[0][0]} among them.")
        if fresh:
            basket_copies.copy_baskets(DEFAULT_DB_ALIAS, database, fresh, actor=actor)
    basket_copies.delete_baskets(DEFAULT_DB_ALIAS, chosen, actor=actor)
    return len(chosen), len(known)


def _find_copies(chosen: Sequence[UUID], *, database: str) -> set[UUID]:
    """Find the baskets that an earlier run has copied. The copy may have gone on since, by a sweep or staff; this one may not.

    :raises SlotMoveRefused: the basket has changed here since.
    """
    numbers = dict(Basket.objects.filter(pk__in=chosen).values_list("pk", "events"))
    here = _last_events(DEFAULT_DB_ALIAS, numbers)
    there = _last_events(database, numbers)
    for pk, copied in there.items():
        if copied.events < here[pk].events or copied.at != here[pk].at:
            raise SlotMoveRefused(f"The basket {pk} is in both cells, and has changed here since it was copied.")
    return set(there)


def _last_events(database: str, numbers: dict[UUID, int]) -> dict[UUID, LastEvent]:
    """Read the baskets that a cell has.

    :param numbers: the number of one event of each basket.
    """
    return {pk: LastEvent(events, at) for pk, events, at in _rows(database, LAST_EVENTS, [list(numbers), list(numbers.values())])}


def _division() -> tuple[int, ...]:
    if not conf.cell():
        raise SlotMoveRefused("BASKETS_CELL must be the number of this cell.")
    with suppress(slots.InvalidSlotMap):
        return slots.read_slot_map(conf.slot_map_file())
    raise SlotMoveRefused("BASKETS_SLOT_MAP must name a valid slot map.")


def _slots_of(division: Sequence[int], cell: int) -> list[int]:
    return [slot for slot, owner in enumerate(division) if owner == cell]


def _rows(database: str, statement: str, parameters: Any) -> list[tuple[Any, ...]]:
    with connections[database].cursor() as cursor:
        cursor.execute(statement, parameters)
        return list(cursor.fetchall())
