"""Moves the baskets of slots from this cell to another. It decides nothing about which slots, and changes no slot map.

Note [A basket is in one cell]
A slot moves in three steps. First it drains: its users start no checkout, and those that are active end. Then no cell has it in the slot
map: every cell answers 421, and the guards of both databases refuse what a process with an old map would write. Then its baskets move,
a batch at a time: this cell locks and reads the baskets, the other one writes and compares them; then this one deletes them, stores them
as text (`MovingBatch`) and commits; then the other one commits. Before the first COMMIT nothing has moved. Between the two the baskets
are in no cell: sweeps, purges and staff find them nowhere, and so change neither copy. The next run writes them from the text, unless the
other cell says that they have arrived. At the end the other cell gets the slot.

Note [Events that move]
The events of a basket get places in the feed of the other cell with the public ids that they had, and leave this one. A consumer that
had read them reads them again there, and knows them by their ids; one that had not misses none. What it has seen of a basket is the
union of two beginnings of one timeline, so whatever it sees for the first time is in order.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from django.db import DEFAULT_DB_ALIAS, connections, transaction

from baskets import conf
from baskets.domain import audit_log, slots
from baskets.domain.actors import Actor
from baskets.domain.cells import basket_copies, slot_division
from baskets.domain.cells.stock_moves import database_of
from baskets.domain.checkout import expiry
from baskets.domain.errors import Refusal
from baskets.domain.events import activity
from baskets.models import Basket, CheckoutSession, DeskEntry, MovingBatch

BATCH = 50
# The users of slots: those of chosen partners, or of all that are not served apart.
IN_SLOTS = f"""
{slots.SLOT_SQL} = ANY(%(slots)s) AND CASE WHEN cardinality(%(partners)s::bigint[]) = 0
    THEN b.partner_id <> ALL(%(apart)s::bigint[]) ELSE b.partner_id = ANY(%(partners)s::bigint[]) END
"""
NEXT_BASKETS = f"""
SELECT b.id FROM baskets_basket b WHERE b.id > %(last)s::uuid AND {IN_SLOTS} ORDER BY b.id LIMIT {BATCH}
"""  # noqa: S608 (a constant)
COUNT_ACTIVE = f"""
SELECT count(*) FROM baskets_checkoutsession s JOIN baskets_basket b ON b.id = s.basket_id
WHERE s.status = 'ACTIVE' AND {IN_SLOTS}
"""  # noqa: S608 (a constant)
UNCOUNTED = """
SELECT DISTINCT e.basket_id FROM baskets_event e LEFT JOIN baskets_feedposition p ON p.event_id = e.id
WHERE e.basket_id = ANY(%s::uuid[]) AND coalesce(p.position > (SELECT max(position) FROM baskets_activitystate), true)
"""
PARTNERS = "SELECT id, name FROM baskets_partner ORDER BY id"
MISSING_PRODUCTS = "SELECT id FROM unnest(%s::text[]) AS used (id) WHERE id NOT IN (SELECT product_id FROM baskets_product) ORDER BY id"
BASKETS_THERE = "SELECT id FROM baskets_basket WHERE id = ANY(%s::uuid[]) ORDER BY id"
INSERT_ARRIVAL = "INSERT INTO baskets_movingbatch (id, cell, baskets) VALUES (%s, %s, '') ON CONFLICT (id) DO NOTHING RETURNING id"
ARRIVED = "SELECT id FROM baskets_movingbatch WHERE cell = %s AND baskets = ''"
FORGET_ARRIVED = "DELETE FROM baskets_movingbatch WHERE id = ANY(%s::uuid[]) RETURNING id"


class SlotMoveRefused(Refusal):
    """The baskets of the slots cannot be moved now."""

    reason = "slot_move_refused"
    message = "The slots cannot be moved."


@dataclass(frozen=True, kw_only=True)
class SlotsMoved:
    """The result of a move.

    :param baskets: how many moved in this run.
    :param completed: how many others had left in an earlier run, and have arrived in this one.
    :param in_checkout: how many stay, because their checkout is active.
    """

    baskets: int
    completed: int
    in_checkout: int


@dataclass(frozen=True, kw_only=True)
class SlotUsers:
    """The users of slots, in the terms of `IN_SLOTS`.

    :param partners: the primary keys of partners; empty: all that the slot map does not name.
    :param apart: those that the slot map names.
    """

    slots: Sequence[int]
    partners: Sequence[int]
    apart: Sequence[int]

    def parameters(self, **more: Any) -> dict[str, Any]:
        """Return the parameters of a statement."""
        return {"slots": list(self.slots), "partners": list(self.partners), "apart": list(self.apart), **more}


def drain_slots(chosen: Sequence[int], *, partners: Sequence[int] = (), actor: Actor) -> int:
    """Let no checkout start in slots of this cell, and expire those that have lapsed. Safe to repeat.

    :param chosen: empty, with `partners`: all slots of their users that this cell has.
    :param partners: only the users of these partners; empty: of all that the slot map does not name.
    :returns: how many checkouts are active in these slots.
    :raises SlotMoveRefused: this cell does not have the slots.
    """
    own = _own_slots(_slot_map(), conf.cell(), partners)
    names: list[int | None] = [*partners] or [None]
    leaving = {name: list(chosen) or own[name] for name in names}
    if not all(leaving[name] and set(leaving[name]) <= set(own[name]) for name in names):
        raise SlotMoveRefused(f"The slot map does not give these slots to cell {conf.cell()}.")
    slot_division.guard_slots(own, leaving=leaving)
    data = {"draining": leaving[names[0]], "partners": list(partners)}
    audit_log.record(kind=DeskEntry.Kind.MAINTAINED, about="slots", data=data, actor=actor)
    return count_active(leaving[names[0]], partners=partners)


def count_active(chosen: Sequence[int], *, partners: Sequence[int] = ()) -> int:
    """Expire lapsed checkouts, and count those that are active in slots. For the parameters see `move_slots`."""
    expiry.sweep_sessions()
    ((count,),) = _rows(DEFAULT_DB_ALIAS, COUNT_ACTIVE, _users(chosen, partners).parameters())
    return int(count)


def move_slots(chosen: Sequence[int], *, target: int, partners: Sequence[int] = (), actor: Actor) -> SlotsMoved:
    """Move all baskets of slots that no cell has in the slot map. See Note [A basket is in one cell].

    Runs one transaction in each cell for each batch. Locks at most `BATCH` baskets by primary key here, then the feed of the other
    cell. Only the owner of the tables can do it. Safe to repeat after whatever ended it.

    :param chosen: empty, with `partners`: all slots.
    :param target: the number of the cell that the baskets move to.
    :param partners: only the users of these partners; empty: of all that the slot map does not name.
    :raises UnknownCell: the settings do not name the database of the other cell.
    :raises SlotMoveRefused: a cell still has the slots, the cells have other partners or products, the other cell has a basket of one
        of the users, or baskets of an earlier run have left for a third cell.
    :raises CopyDiffers: what was written is not what was read.
    :raises ShortfallUnexplained: the sold pieces of a basket are the reason of a shortfall.
    """
    database, slot_map = database_of(target), _slot_map()
    if target == conf.cell():
        raise SlotMoveRefused("The baskets are in that cell already.")
    chosen = list(chosen or range(slots.SLOTS))
    names: list[int | None] = [*partners] or [None]
    if served := [(slot, cell) for name in names for slot in chosen if (cell := slot_map.of(name)[slot]) != slots.NO_CELL]:
        raise SlotMoveRefused(f"The slot map gives slot {served[0][0]} to cell {served[0][1]}; it must give the slots to none, 0.")
    there = _own_slots(slot_map, target, partners)
    slot_division.guard_slots(_own_slots(slot_map, conf.cell(), partners))
    slot_division.guard_slots(there, using=database)
    if _rows(DEFAULT_DB_ALIAS, PARTNERS, []) != _rows(database, PARTNERS, []):
        raise SlotMoveRefused(f"Cell {target} has other partners than this cell, or other numbers of them.")
    count_active(chosen, partners=partners)
    completed = _complete_batches(target=target, actor=actor)
    moved, last, users = 0, UUID(int=0), _users(chosen, partners)
    while batch := [pk for (pk,) in _rows(DEFAULT_DB_ALIAS, NEXT_BASKETS, users.parameters(last=last))]:
        activity.count_events()
        moved += _move_batch(batch, target=target, actor=actor)
        last = batch[-1]
    in_checkout = count_active(chosen, partners=partners)
    data = {"moved": chosen, "to": target, "baskets": moved, "in_checkout": in_checkout, "partners": list(partners)}
    audit_log.record(kind=DeskEntry.Kind.MAINTAINED, about="slots", data=data, actor=actor)
    if left := slot_division.count_baskets(IN_SLOTS, users.parameters()) - in_checkout:
        raise SlotMoveRefused(f"{left} baskets were locked, or changed at that moment. Move the slots again.")
    if not in_checkout:
        slot_division.guard_slots(there | {name: [*there[name], *chosen] for name in names}, using=database)
    return SlotsMoved(baskets=moved, completed=completed, in_checkout=in_checkout)


def _move_batch(batch: Sequence[UUID], *, target: int, actor: Actor) -> int:
    """Move one batch; skip baskets that are locked, in checkout, or not counted yet. See Note [A basket is in one cell].

    :returns: how many moved.
    """
    database = database_of(target)
    # The other cell commits last.
    with transaction.atomic(using=database, durable=True), transaction.atomic(durable=True):
        free = list(Basket.objects.filter(pk__in=batch).locked(skip_locked=True).values_list("pk", flat=True))
        active = set(CheckoutSession.objects.active().filter(basket_id__in=free).values_list("basket_id", flat=True))
        uncounted = {pk for (pk,) in _rows(DEFAULT_DB_ALIAS, UNCOUNTED, [free])}
        chosen = [pk for pk in free if pk not in active | uncounted]
        if not chosen:
            return 0
        basket_copies.check_shortfall(DEFAULT_DB_ALIAS, chosen)
        copy = basket_copies.read_baskets(DEFAULT_DB_ALIAS, chosen)
        moving = MovingBatch(pk=uuid4(), cell=target, baskets=copy.as_text())
        _write_batch(moving.pk, copy, target=target, actor=actor)
        basket_copies.delete_baskets(DEFAULT_DB_ALIAS, chosen, actor=actor)
        moving.save(force_insert=True)
    _forget_arrived(target)
    return len(chosen)


def _complete_batches(*, target: int, actor: Actor) -> int:
    """Bring baskets that have left this cell in an earlier run to the cell that they left for.

    :returns: how many baskets.
    :raises SlotMoveRefused: they left for another cell than `target`: the slot map may give their slots to `target` after this run.
    """
    unfinished = MovingBatch.objects.exclude(baskets="").order_by("created_at", "pk")
    for cell in sorted(set(unfinished.values_list("cell", flat=True))):
        _forget_arrived(cell)
    if (other := unfinished.exclude(cell=target).values_list("cell", flat=True).first()) is not None:
        raise SlotMoveRefused(f"Baskets have left for cell {other} and have not arrived: first complete that move, with --to {other}.")
    completed = 0
    for pk in list(unfinished.values_list("pk", flat=True)):
        with transaction.atomic(durable=True):
            # Another run may complete it at this moment.
            if moving := MovingBatch.objects.filter(pk=pk).locked(skip_locked=True).first():
                copy = basket_copies.BasketCopy.from_text(moving.baskets)
                with transaction.atomic(using=database_of(target), durable=True):
                    completed += len(copy.baskets) * _write_batch(pk, copy, target=target, actor=actor)
        _forget_arrived(target)
    return completed


def _write_batch(batch: UUID, copy: basket_copies.BasketCopy, *, target: int, actor: Actor) -> bool:
    """Write a batch, within an open transaction of the other cell, unless it has arrived there.

    :returns: whether it was written.
    :raises SlotMoveRefused: the other cell has not all of the products, or has a basket of one of these users.
    """
    database = database_of(target)
    _rows(database, "SELECT set_config(%s, 'on', true)", [slot_division.MOVING])
    # Two runs with the same batch: the second waits for the first, and then inserts nothing.
    if not _rows(database, INSERT_ARRIVAL, [batch, conf.cell()]):
        return False
    if missing := _rows(database, MISSING_PRODUCTS, [copy.product_ids()]):
        raise SlotMoveRefused(f"Cell {target} does not know {len(missing)} of the products, {missing[0][0]} among them.")
    if there := _rows(database, BASKETS_THERE, [copy.baskets]):
        raise SlotMoveRefused(
            f"Cell {target} has another basket of a user whose basket moves there: {there[0][0]}, of {len(there)}. "
            "Erase the data of that user in that cell, which gives the other basket another name; then move the slots again."
        )
    basket_copies.write_baskets(database, copy, actor=actor)
    return True


def _forget_arrived(target: int) -> None:
    """Remove the text of baskets that have arrived in the other cell here, then the note of their arrival there."""
    database = database_of(target)
    arrived = [pk for (pk,) in _rows(database, ARRIVED, [conf.cell()])]
    MovingBatch.objects.filter(pk__in=arrived).delete()
    _rows(database, FORGET_ARRIVED, [arrived])


def _users(chosen: Sequence[int], partners: Sequence[int]) -> SlotUsers:
    return SlotUsers(slots=chosen, partners=partners, apart=list(_slot_map().partners))


def _slot_map() -> slots.SlotMap:
    if not conf.cell():
        raise SlotMoveRefused("BASKETS_CELL must be the number of this cell.")
    with suppress(slots.InvalidSlotMap):
        return slots.read_slot_map(conf.slot_map_file())
    raise SlotMoveRefused("BASKETS_SLOT_MAP must name a valid slot map.")


def _own_slots(slot_map: slots.SlotMap, cell: int, partners: Sequence[int]) -> dict[int | None, list[int]]:
    """Return the slots of a cell, also for partners that the slot map does not name."""
    own = slot_map.slots_of(cell)
    return own | {partner: own.get(partner, own[None]) for partner in partners}


def _rows(database: str, statement: str, parameters: Any) -> list[tuple[Any, ...]]:
    with connections[database].cursor() as cursor:
        cursor.execute(statement, parameters)
        return list(cursor.fetchall())
