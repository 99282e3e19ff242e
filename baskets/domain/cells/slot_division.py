"""Divides the slots among cells, writes the map file of a division, and makes the database of a cell refuse other slots."""

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connection, connections, transaction

from baskets.db.limits import client_waits
from baskets.domain import audit_log, slots
from baskets.domain.actors import Actor, ActorKind
from baskets.models import Basket, DeskEntry, Event

# Slots of a cell: under None those that partners share, under each partner that is served apart its own.
OwnSlots = Mapping[int | None, Sequence[int]]
TABLE, EVENTS = Basket._meta.db_table, Event._meta.db_table  # noqa: SLF001 (Django documents `_meta`)


def divide(cells: int, *, current: Sequence[int] | None = None, without: Collection[int] = ()) -> tuple[int, ...]:
    """Divide the slots evenly among cells, and move as few as possible.

    With a further cell each of the others gives up slots, and nothing moves between those.

    :param cells: how many cells there will be, from 1 to `SLOTS`.
    :param current: the cell of each slot now; None: no slot has a cell.
    :param without: those of them that get no slot, because they serve only some partners.
    :returns: the cell of each slot.

    >>> Counter(divide(3))
    Counter({1: 22, 2: 21, 3: 21})
    """
    division = list(current or [slots.NO_CELL] * slots.SLOTS)
    # Cells with more slots keep the larger shares, so that fewer slots move.
    size = Counter(division)
    by_size = sorted(set(range(1, cells + 1)) - set(without), key=lambda cell: (-size[cell], cell))
    share = {cell: slots.SLOTS // len(by_size) + (place < slots.SLOTS % len(by_size)) for place, cell in enumerate(by_size)}
    free = []
    for slot, cell in enumerate(division):
        if share.get(cell, 0) > 0:
            share[cell] -= 1
        else:
            free.append(slot)
    missing = [cell for cell in sorted(share) for _ in range(share[cell])]
    for slot, cell in zip(free, missing, strict=True):
        division[slot] = cell
    return tuple(division)


def render_slot_map(
    division: Sequence[int], *, current: Sequence[int] | None = None, partners: Mapping[int, Sequence[int]] | None = None
) -> str:
    """Render a division as a map file of HAProxy.

    :param current: the division before; comments name the slots that move.
    :param partners: the divisions of partners that are served apart.
    """
    moved = [
        f"# slot {slot} moves from cell {old} to cell {new}"
        for slot, (old, new) in enumerate(zip(current or (), division, strict=False))
        if old != new
    ]
    apart = [f"{partner}/{slot} {cell}" for partner, own in (partners or {}).items() for slot, cell in enumerate(own)]
    return "\n".join([*moved, *(f"{slot} {cell}" for slot, cell in enumerate(division)), *apart]) + "\n"


def assign_slots(division: Sequence[int], chosen: Iterable[int], cell: int) -> tuple[int, ...]:
    """Return a division in which chosen slots have another cell.

    :param cell: `slots.NO_CELL`: no cell serves them.
    """
    moving = set(chosen)
    return tuple(cell if slot in moving else owner for slot, owner in enumerate(division))


# Whether a basket is in slots, by partner.
OWN = f"coalesce({{slots}} -> partner_id::text, {{slots}} -> '') @> to_jsonb({slots.SLOT_SQL})"
# A setting of the transaction that brings the past events of a basket.
MOVING = "baskets.slot_move"
# A back end, an app or a device; not staff, and not the sweeps: a basket that stays in a former cell must still end, and free its stock.
# The arguments are JSON, with slots by partner, and under '' those of all other partners. The second one has slots that are about to
# leave: their checkouts may end, and none starts.
GUARD = f"""
CREATE OR REPLACE FUNCTION {slots.SLOT_CONSTRAINT}() RETURNS trigger LANGUAGE plpgsql AS $guard$
BEGIN
    IF EXISTS (
        SELECT FROM {TABLE} WHERE id = NEW.basket_id AND (
            NOT ({OWN.format(slots="TG_ARGV[0]::jsonb")})
            OR NEW.kind = '{Event.Kind.CHECKOUT_STARTED}' AND {OWN.format(slots="TG_ARGV[1]::jsonb")}
        )
    ) THEN
        RAISE check_violation USING CONSTRAINT = TG_NAME, MESSAGE = 'another cell serves the user of this basket';
    END IF;
    RETURN NEW;
END
$guard$;
CREATE OR REPLACE TRIGGER {slots.SLOT_CONSTRAINT} BEFORE INSERT ON {EVENTS}
FOR EACH ROW WHEN (NEW.actor_kind = '{ActorKind.KEY}' AND current_setting('{MOVING}', true) IS DISTINCT FROM 'on')
EXECUTE FUNCTION {slots.SLOT_CONSTRAINT}('{{own}}', '{{leaving}}')
"""  # noqa: S608 (constants of ours)


def claim_slots(own: OwnSlots | None, *, actor: Actor) -> int:
    """Make the database refuse changes by keys of a basket of any other slot, whatever slot map a process has read.

    Each change writes an event, in its transaction, so a trigger of the events refuses both.
    Locks writers of events out for a moment. Only the owner of the table can do it.

    :param own: the slots of this cell; None: the installation is whole again, and nothing is refused.
    :returns: how many stored baskets are in other slots.
    """
    with transaction.atomic(durable=True), connection.cursor() as cursor:
        audit_log.record(kind=DeskEntry.Kind.MAINTAINED, about="slots", data={"slots": None if own is None else own[None]}, actor=actor)
        if own is None:
            cursor.execute(f"DROP TRIGGER IF EXISTS {slots.SLOT_CONSTRAINT} ON {EVENTS}")
            cursor.execute(f"DROP FUNCTION IF EXISTS {slots.SLOT_CONSTRAINT}()")
            return 0
        guard_slots(own)
    return count_foreign_baskets(own)


def guard_slots(own: OwnSlots, *, leaving: OwnSlots | None = None, using: str = DEFAULT_DB_ALIAS) -> None:
    """Make a database refuse changes as `claim_slots` does, and those that start a checkout in slots that are about to leave.

    Waits for writers of events, and locks them out for a moment. Only the owner of the table can do it.

    :param using: the alias of the database.
    """
    with transaction.atomic(using=using), connections[using].cursor() as cursor:
        cursor.execute(GUARD.format(own=_as_json(own), leaving=_as_json({partner: [] for partner in own} | dict(leaving or {}))))


def count_foreign_baskets(own: OwnSlots) -> int:
    """Count the stored baskets that are in none of these slots. Reads the whole table, for as long as it takes, and locks nothing."""
    return count_baskets(f"NOT ({OWN.format(slots='%(own)s::jsonb')})", {"own": _as_json(own)})


def count_baskets(condition: str, parameters: Mapping[str, Any]) -> int:
    """Count stored baskets. Reads the whole table, for as long as it takes, and locks nothing.

    :param condition: SQL, trusted.
    """
    with client_waits(statement_seconds=None), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = 0")
        cursor.execute(f"SELECT count(*) FROM {TABLE} b WHERE {condition}", parameters)  # noqa: S608 (trusted)
        ((count,),) = cursor.fetchall()
    return int(count)


def _as_json(own: OwnSlots) -> str:
    return json.dumps({"" if partner is None else str(partner): list(chosen) for partner, chosen in own.items()})
