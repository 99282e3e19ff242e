"""Checks every invariant in one snapshot and reports violations. It never repairs: `domain.support` does, by staff."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections, transaction

from baskets.db.limits import client_waits
from baskets.domain.maintenance.invariants import INVARIANTS, Invariant
from baskets.models import Basket, basket_key

MAX_EXAMPLES = 20
BATCH = 5_000
# All queries see the data of one moment, also while other transactions write.
SNAPSHOT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
# A scan of millions of rows takes longer than a call may. It blocks no other transaction.
QUERY_SECONDS = 15 * 60
QUERY_LIMITS = f"SET LOCAL statement_timeout = '{QUERY_SECONDS}s'; SET LOCAL work_mem = '64MB'"
COUNT_AND_SAMPLE = "SELECT row_to_json(found)::text, count(*) OVER () FROM ({sql}) AS found LIMIT {examples}"

BASKET_KEYS = Invariant(
    slug="basket_key_computed",
    rule=3,
    sentence="The primary key of a basket is the one computed from its partner and user id.",
    sql="",  # PostgreSQL has no SHA-1 without an extension, so these rows are streamed and computed here.
)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A violated invariant.

    :param total: how many rows violate it.
    :param examples: the first `MAX_EXAMPLES` of them.
    """

    invariant: Invariant
    total: int
    examples: list[dict[str, Any]] = field(default_factory=list)


def check(*, advance: Callable[[int], object] = lambda _: None) -> list[Finding]:
    """Check every invariant in one snapshot. Blocks no other transaction.

    Source: `baskets/docs/rules.md`.

    :param advance: called with 1 after each invariant.
    :returns: the violations; empty for sound data.
    """
    with snapshot():
        return check_invariants(advance=advance)


@contextmanager
def snapshot(*, using: str = DEFAULT_DB_ALIAS) -> Iterator[None]:
    """Run the queries of the block in one read-only snapshot, with the time that scans of large tables take.

    :param using: the alias of the database.
    """
    with client_waits(statement_seconds=QUERY_SECONDS), transaction.atomic(using=using, durable=True):
        with connections[using].cursor() as cursor:
            cursor.execute(SNAPSHOT)
            cursor.execute(QUERY_LIMITS)
        yield


def check_invariants(*, advance: Callable[[int], object] = lambda _: None) -> list[Finding]:
    """Check every invariant in the transaction of the caller, or without one."""
    found = []
    for invariant in INVARIANTS:
        if finding := check_invariant(invariant):
            found.append(finding)
        advance(1)
    if finding := _check_basket_keys():
        found.append(finding)
    advance(1)
    return found


def invariant_count() -> int:
    """Return the number of invariants."""
    return len(INVARIANTS) + 1


def check_invariant(invariant: Invariant, *, using: str = DEFAULT_DB_ALIAS) -> Finding | None:
    """Check one invariant.

    :param using: the alias of the database.
    :returns: the violation; None for sound data.
    """
    with connections[using].cursor() as cursor:
        cursor.execute(COUNT_AND_SAMPLE.format(sql=invariant.sql, examples=MAX_EXAMPLES), invariant.parameters())
        rows = cursor.fetchall()
    if not rows:
        return None
    return Finding(invariant=invariant, total=rows[0][1], examples=[json.loads(row) for row, _ in rows])


def _check_basket_keys() -> Finding | None:
    wrong = [
        str(basket_id)
        for basket_id, partner_id, user_id in Basket.objects.values_list("pk", "partner_id", "user_id").iterator(BATCH)
        if basket_id != basket_key(partner_id=partner_id, user_id=user_id)
    ]
    if not wrong:
        return None
    return Finding(invariant=BASKET_KEYS, total=len(wrong), examples=[{"basket": key} for key in wrong[:MAX_EXAMPLES]])
