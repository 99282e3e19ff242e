"""Stores the response to a call under its idempotency key, in the transaction of its effect."""

from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from baskets import conf
from baskets.db.pipeline import execute
from baskets.db.statements import Statement
from baskets.domain.errors import IdempotencyKeyReused
from baskets.models import IdempotencyRecord

# The first insert of a key makes later ones wait until its transaction ends, so the row is also the key's lock. A record
# past its window is overwritten.
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
class IdempotencyKey:
    """A key that a caller chose for one request on one basket.

    :param fingerprint: SHA-256 of everything that makes a repeat the same request.
    """

    basket_id: UUID
    key: str
    fingerprint: bytes


class StoredResponse(NamedTuple):
    """The response to a call, of this call or of an earlier one with the same key.

    :param replayed: whether an earlier call stored it.
    """

    status: int
    body: str
    replayed: bool = False


def claim(*, basket_id: UUID, key: str, fingerprint: bytes) -> StoredResponse | None:
    """Claim a key for this call, or return the response to an earlier call with it.

    Must be the first statement of its transaction that locks: the key is locked before the basket. Waits while another call
    with the same key is running; if that call is refused, its claim is rolled back.

    :param fingerprint: as in `IdempotencyKey`.
    :returns: None where this call must run, and `remember` must store its response.
    :raises IdempotencyKeyReused: the key stands for another request.
    """
    if execute(CLAIM, [basket_id, key, fingerprint, conf.idempotency_window()]).fetchone():
        return None
    record = IdempotencyRecord.objects.get(basket_id=basket_id, key=key)
    if bytes(record.fingerprint) != fingerprint or record.status is None or record.body is None:
        raise IdempotencyKeyReused
    return StoredResponse(status=record.status, body=record.body, replayed=True)


def is_remembered(*, basket_id: UUID, key: str) -> bool:
    """Return whether a response is stored for this key, to the same request or to another. Locks nothing."""
    return execute(IS_REMEMBERED, [basket_id, key, conf.idempotency_window()]).fetchone() is not None


def remember(*, basket_id: UUID, key: str, status: int, body: str) -> None:
    """Store the response of the call that claimed the key, in the transaction of its effect."""
    execute(REMEMBER, [status, body, basket_id, key])
