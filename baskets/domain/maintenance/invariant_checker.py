"""Runs the proofs and reports what is broken. It reads one snapshot, and never repairs.

Repairs are for people who know what happened: see `repair`.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from django.db import connection, transaction

from baskets.domain.maintenance.invariants import INVARIANTS, Invariant
from baskets.models import Basket, basket_key

MAX_EXAMPLES = 20
BATCH = 5_000
# Everything is read at one moment, however long it takes and whatever is written meanwhile.
SNAPSHOT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
# A scan of millions of rows takes longer than any call may, and holds no lock that anybody waits for.
QUERY_LIMITS = "SET LOCAL statement_timeout = '15min'; SET LOCAL work_mem = '64MB'"
COUNT_AND_SAMPLE = "SELECT row_to_json(found)::text, count(*) OVER () FROM ({sql}) AS found LIMIT {examples}"

BASKET_KEYS = Invariant(
    slug="basket_key_computed",
    rule=3,
    sentence="The primary key of a basket is the one computed from its partner and user id.",
    sql="",  # PostgreSQL has no SHA-1 without an extension, so these rows are streamed and computed here.
)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One proof that failed: how many rows break it, and some of them."""

    proof: Invariant
    total: int
    examples: list[dict[str, Any]] = field(default_factory=list)


def check(*, advance: Callable[[int], object] = lambda _: None) -> list[Finding]:
    """Prove every rule in one snapshot, and return what is broken.

    Takes no lock that anybody waits for. Source: `baskets/docs/rules.md`.

    :param advance: told 1 for each proof that has run.
    """
    with transaction.atomic(durable=True):
        with connection.cursor() as cursor:
            cursor.execute(SNAPSHOT)
            cursor.execute(QUERY_LIMITS)
        return check_invariants(advance=advance)


def check_invariants(*, advance: Callable[[int], object] = lambda _: None) -> list[Finding]:
    """Run every proof in whatever transaction there is."""
    found = []
    for proof in INVARIANTS:
        if finding := _check_invariant(proof):
            found.append(finding)
        advance(1)
    if finding := _check_basket_keys():
        found.append(finding)
    advance(1)
    return found


def invariant_count() -> int:
    """Tell how many proofs there are."""
    return len(INVARIANTS) + 1


def _check_invariant(proof: Invariant) -> Finding | None:
    with connection.cursor() as cursor:
        cursor.execute(COUNT_AND_SAMPLE.format(sql=proof.sql, examples=MAX_EXAMPLES), proof.parameters())
        rows = cursor.fetchall()
    if not rows:
        return None
    return Finding(proof=proof, total=rows[0][1], examples=[json.loads(row) for row, _ in rows])


def _check_basket_keys() -> Finding | None:
    wrong = [
        str(basket_id)
        for basket_id, partner_id, user_id in Basket.objects.values_list("pk", "partner_id", "user_id").iterator(BATCH)
        if basket_id != basket_key(partner_id=partner_id, user_id=user_id)
    ]
    if not wrong:
        return None
    return Finding(proof=BASKET_KEYS, total=len(wrong), examples=[{"basket": key} for key in wrong[:MAX_EXAMPLES]])
