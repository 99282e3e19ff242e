"""What staff must look at: sessions somebody may have paid for although their order was refused or is short."""

import json
from dataclasses import replace

from django.db import transaction

from baskets.domain.changes import lock
from baskets.domain.errors import AttentionNeeded
from baskets.models import CheckoutSession, Event
from baskets.models.contents import Contents, read_contents
from baskets.pipeline import execute

# Once per session and reason: where the flag is there already, nothing is counted and no event is written. Nor is it where
# the session is not the basket's.
FLAG = """
WITH flag AS (
    INSERT INTO baskets_attention (basket_id, session_id, reason, created_at, settled_by, note)
    SELECT basket_id, id, %(reason)s, %(at)s::timestamptz, '', '' FROM baskets_checkoutsession
    WHERE id = %(session)s AND basket_id = %(basket)s
    ON CONFLICT (session_id, reason) DO NOTHING
    RETURNING basket_id
), numbered AS (
    UPDATE baskets_basket b SET events = b.events + 1 FROM flag WHERE b.id = flag.basket_id
    RETURNING b.id, b.events, b.revision
)
INSERT INTO baskets_event
    (basket_id, number, revision, kind, session_id, at, actor_kind, actor, request_id, tracking, data)
SELECT id, events, revision, %(kind)s, %(session)s, %(at)s, %(actor_kind)s, %(actor)s, %(request_id)s,
       %(tracking)s::jsonb, %(data)s::jsonb
FROM numbered
"""


@transaction.atomic(savepoint=False)
def flag_after_refusal(needed: AttentionNeeded) -> None:
    """Flag a session whose order was refused, after the refusal was rolled back. Basket and stock stay as they are.

    Between the two transactions the session may have been purged; then there is nothing to flag. Or its user was erased:
    then it is flagged under the basket's new name, without what an erasure takes away.
    Locks the basket. Source: ADR 9.
    """
    if not lock(needed.basket_id):
        session = CheckoutSession.objects.filter(pk=needed.session_id).first()
        if session is None or not lock(session.basket_id):
            return
        needed = replace(needed, basket_id=session.basket_id, actor=replace(needed.actor, request_id="", tracking={}))
    if contents := read_contents(needed.basket_id):
        flag(contents=contents, needed=needed)


def flag(*, contents: Contents, needed: AttentionNeeded) -> None:
    """Flag a session, once per session and reason, with an event that says why.

    Needs the basket's lock, and comes after every other event of its transaction.
    """
    execute(
        FLAG,
        {
            "basket": needed.basket_id,
            "session": needed.session_id,
            "reason": needed.reason,
            "at": contents.at,
            "kind": Event.Kind.ATTENTION_NEEDED,
            "actor_kind": needed.actor.kind,
            "actor": needed.actor.name,
            "request_id": needed.actor.request_id,
            "tracking": json.dumps(dict(needed.actor.tracking)),
            "data": json.dumps({"orderNo": needed.order_no, "reason": needed.reason}),
        },
    )
