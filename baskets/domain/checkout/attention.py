"""Flags for staff review: sessions that may have been paid although the order was refused or is short of stock.

Records a flag, and resolves it once its cause is gone. What staff do with open flags is in `support.attention_repairs`.
"""

import json
from collections.abc import Collection
from dataclasses import replace
from enum import StrEnum

from django.db import transaction
from django.utils.translation import gettext_noop

from baskets.db.pipeline import PendingResult, execute
from baskets.db.statements import Statement
from baskets.domain.actors import Actor
from baskets.domain.baskets.store import lock_basket
from baskets.domain.baskets.timeline import INSERT_INTO_EVENT
from baskets.domain.errors import AttentionFlag
from baskets.models import Attention, CheckoutSession
from baskets.models.basket_snapshot import BasketSnapshot, read_basket

Reason = Attention.Reason

# Reports of an order that were refused. SHORT is none of them: that order was accepted.
REFUSAL_REASONS = (Reason.ABORTED, Reason.EXPIRED, Reason.OUT_OF_STOCK, Reason.BASKET_CHANGED)
# Open refusal flags of one basket. A customer never comes near it; a script that starts, aborts and reports does.
MAX_OPEN = 20
MAX_CANDIDATES = 5
MERGER = Actor.system("attention")


class Cause(StrEnum):
    """Why a flag was resolved; its event records it."""

    ORDERED = "ordered"
    REVERSED = "reversed"
    MERGED = "merged"
    STAFF = "staff"


# Stored in the language of the sources.
COMMENTS = {
    Cause.ORDERED: gettext_noop("The checkout was ordered."),
    Cause.REVERSED: gettext_noop("The order was reversed."),
    Cause.MERGED: gettext_noop("This basket has %(number)s later open flags."),
}

# Once per session and reason: an existing flag is left alone, and no event is written. Nothing is written either if the
# session is not the basket's, or if it was ordered after the refusal: then the flag's cause is gone.
INSERT_FLAG = Statement(
    "insert_flag",
    f"""
WITH recent AS (
    SELECT jsonb_agg(jsonb_build_object(
        'orderNo', order_no, 'status', status, 'finishedAt', to_char(finished_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
    ) ORDER BY ended_revision DESC, finished_at DESC, id DESC) AS candidates
    FROM (
        SELECT * FROM baskets_checkoutsession WHERE basket_id = %(basket)s AND status <> 'ACTIVE' AND NOT %(named)s
        ORDER BY ended_revision DESC, finished_at DESC, id DESC LIMIT %(most)s
    ) session
), flag AS (
    INSERT INTO baskets_attention (basket_id, session_id, reason, created_at, settled_by, note, candidates)
    SELECT s.basket_id, s.id, %(reason)s, %(at)s::timestamptz, '', '', recent.candidates
    FROM baskets_checkoutsession s CROSS JOIN recent
    WHERE s.id = %(session)s AND s.basket_id = %(basket)s AND s.status = %(status)s
    ON CONFLICT (session_id, reason) DO NOTHING
    RETURNING basket_id, candidates
), numbered AS (
    UPDATE baskets_basket b SET events = b.events + 1 FROM flag WHERE b.id = flag.basket_id
    RETURNING b.id, b.events, b.revision, flag.candidates
)
{INSERT_INTO_EVENT}SELECT id, events, revision, 'attention_needed', %(session)s, %(at)s, %(actor_kind)s, %(actor)s, %(request_id)s,
       %(tracking)s::jsonb, %(data)s::jsonb || jsonb_strip_nulls(jsonb_build_object('candidates', candidates))
FROM numbered
""",  # noqa: S608 (a constant of ours)
)
# One event for each session, numbered after all others of the transaction. An open flag has no `settled_by`, by a constraint: a condition
# on `settled_at` would let a plan that was made while no flag was open read all open flags of all baskets.
RESOLVE_FLAGS = Statement(
    "resolve_flags",
    f"""
WITH chosen AS (
    SELECT id FROM baskets_attention
    WHERE basket_id = %(basket)s AND settled_by = '' AND reason = ANY(%(reasons)s)
      AND (%(session)s::bigint IS NULL OR session_id = %(session)s)
    ORDER BY created_at DESC, id DESC OFFSET %(keep)s
), settled AS (
    UPDATE baskets_attention a SET settled_at = %(at)s, settled_by = %(actor)s, note = %(note)s, merged = %(merged)s
    FROM chosen WHERE a.id = chosen.id AND a.basket_id = %(basket)s
    RETURNING a.session_id, a.reason
), line AS (
    SELECT session_id, s.order_no, jsonb_agg(reason ORDER BY reason) AS reasons, row_number() OVER (ORDER BY session_id) AS place
    FROM settled JOIN baskets_checkoutsession s ON s.id = settled.session_id AND s.basket_id = %(basket)s
    GROUP BY session_id, s.order_no
), numbered AS (
    UPDATE baskets_basket b SET events = b.events + lines.number FROM (SELECT count(*) AS number FROM line) lines
    WHERE b.id = %(basket)s AND lines.number > 0
    RETURNING b.id, b.events - lines.number AS events, b.revision
)
{INSERT_INTO_EVENT}SELECT id, events + place, revision, 'attention_settled', session_id, %(at)s,
       %(actor_kind)s, %(actor)s, %(request_id)s, '{{}}',
       jsonb_build_object('orderNo', order_no, 'reasons', reasons, 'cause', %(cause)s::text)
FROM numbered CROSS JOIN line
""",  # noqa: S608 (a constant of ours)
)


def flag_for(session: CheckoutSession, reason: Attention.Reason, actor: Actor, *, named: bool = True) -> AttentionFlag:
    """Build the flag of a session, with the status it has now.

    :param named: whether the report named the session by its order number.
    """
    return AttentionFlag(
        basket_id=session.basket_id,
        session_id=session.pk,
        order_no=session.order_no,
        status=session.status,
        reason=reason,
        named=named,
        actor=actor,
    )


@transaction.atomic(savepoint=False)
def record_flag_after_rollback(flag: AttentionFlag) -> None:
    """Flag a session whose order was refused, after the refusal was rolled back. Basket and stock do not change.

    Between the two transactions the session may have been purged or ordered; then nothing is flagged. If its user was erased in
    between, the flag belongs to the basket under its new name, without request id and tracking. A basket keeps at most
    `MAX_OPEN` open flags of refusals: older ones are resolved as merged.
    Locks the basket. Source: ADR 9, ADR 39.
    """
    if not lock_basket(flag.basket_id):
        session = CheckoutSession.objects.filter(pk=flag.session_id).first()
        if session is None or not lock_basket(session.basket_id):
            return
        flag = replace(flag, basket_id=session.basket_id, actor=flag.actor._replace(request_id="", tracking={}))
    if snapshot := read_basket(flag.basket_id):
        record_flag(snapshot=snapshot, flag=flag)
        resolve(snapshot=snapshot, cause=Cause.MERGED, keep=MAX_OPEN, actor=MERGER)


def record_flag(*, snapshot: BasketSnapshot, flag: AttentionFlag) -> None:
    """Flag a session, once per session and reason, with an event that says why.

    Needs the basket's lock, and comes after every other event of its transaction.
    """
    data: dict[str, object] = {"orderNo": flag.order_no, "reason": flag.reason}
    if flag.reason != Reason.SHORT:
        data["orderNoReported"] = flag.named
    execute(
        INSERT_FLAG,
        {
            "basket": flag.basket_id,
            "session": flag.session_id,
            "status": flag.status,
            "reason": flag.reason,
            "named": flag.named,
            "most": MAX_CANDIDATES,
            "at": snapshot.at,
            "actor_kind": flag.actor.kind,
            "actor": flag.actor.name,
            "request_id": flag.actor.request_id,
            "tracking": json.dumps(dict(flag.actor.tracking)),
            "data": json.dumps(data),
        },
    )


def resolve(
    *,
    snapshot: BasketSnapshot,
    cause: Cause,
    actor: Actor,
    session_id: int | None = None,
    reasons: Collection[str] = REFUSAL_REASONS,
    comment: str = "",
    keep: int = 0,
) -> PendingResult:
    """Resolve open flags of a basket, with one event for each session.

    Needs the basket's lock, and comes after every event that was numbered before.

    :param session_id: only the flags of this session.
    :param reasons: only flags of these reasons; by default those of refused reports.
    :param comment: how they were resolved; by default the text of the cause.
    :param keep: how many of the latest stay open.
    :returns: a result whose `rowcount` is the number of sessions that had such flags; reading it waits for the statement.
    """
    return execute(
        RESOLVE_FLAGS,
        {
            "basket": snapshot.basket_id,
            "session": session_id,
            "reasons": [str(reason) for reason in reasons],
            "keep": keep,
            "at": snapshot.at,
            "note": comment or COMMENTS[cause] % {"number": MAX_OPEN},
            "merged": cause is Cause.MERGED,
            "cause": cause.value,
            "actor_kind": actor.kind,
            "actor": actor.name,
            "request_id": actor.request_id,
        },
    )
