"""Answers remembered for an Idempotency-Key, in the transaction of the effect they stand for."""

from dataclasses import dataclass
from uuid import UUID

from baskets import conf
from baskets.db.pipeline import Statement, execute
from baskets.domain.errors import IdempotencyKeyReused
from baskets.models import IdempotencyRecord

# The first insert of a key makes later ones wait until its transaction ends, so the row is also the key's lock. A record
# past its time is taken over as if it were new.
CLAIM = Statement(
    "claim",
    """
INSERT INTO baskets_idempotencyrecord AS record (basket_id, key, fingerprint, status, body, created_at)
VALUES (%s, %s, %s, NULL, NULL, statement_timestamp())
ON CONFLICT (basket_id, key) DO UPDATE
SET fingerprint = excluded.fingerprint, status = NULL, body = NULL, created_at = excluded.created_at
WHERE record.created_at <= excluded.created_at - %s::interval
RETURNING id
""",
)
REMEMBER = Statement(
    "remember",
    """
UPDATE baskets_idempotencyrecord SET status = %s, body = %s WHERE basket_id = %s AND key = %s
""",
)
IS_REMEMBERED = Statement(
    "is_remembered",
    """
SELECT FROM baskets_idempotencyrecord WHERE basket_id = %s AND key = %s AND created_at > statement_timestamp() - %s::interval
""",
)


@dataclass(frozen=True, kw_only=True)
class StoredAnswer:
    """What the first call with this key was answered."""

    status: int
    body: str


def claim(*, basket_id: UUID, key: str, fingerprint: bytes) -> StoredAnswer | None:
    """Claim a key for this call, or return what an earlier call with it was answered.

    Comes first in its transaction: the key is locked before the basket. Waits while another call with the same key is
    under way; if that one is refused, its claim goes with its roll-back.

    :param fingerprint: SHA-256 of what makes it the same request.
    :returns: None where this call is to be done, and `remember` to be called with its answer.
    :raises IdempotencyKeyReused: the key stands for another request.
    """
    if execute(CLAIM, [basket_id, key, fingerprint, conf.idempotency_window()]).fetchone():
        return None
    record = IdempotencyRecord.objects.get(basket_id=basket_id, key=key)
    if bytes(record.fingerprint) != fingerprint or record.status is None or record.body is None:
        raise IdempotencyKeyReused
    return StoredAnswer(status=record.status, body=record.body)


def is_remembered(*, basket_id: UUID, key: str) -> bool:
    """Tell, without any lock, whether an answer to this key is remembered, to the same request or to another."""
    return execute(IS_REMEMBERED, [basket_id, key, conf.idempotency_window()]).fetchone() is not None


def remember(*, basket_id: UUID, key: str, status: int, body: str) -> None:
    """Store the answer of the call that claimed the key, to commit together with its effect."""
    execute(REMEMBER, [status, body, basket_id, key])
