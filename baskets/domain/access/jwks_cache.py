"""Fetches the key sets that token issuers publish (JWKS), and caches them in the database for all workers.

Note [One fetch, no queue]
Fetched keys are stored with their issuer and read by the statement that reads the issuer: no process has a cache. A fetch runs
in a background thread and holds a lease on the issuer's row, by the database's clock: one worker fetches, at most once per
`FETCH_PAUSE`. Only the call that started the fetch waits for it, at most `WAIT_SECONDS`, and only if no stored key verifies its
token, or if the stored keys are older than `MAX_AGE` while the URL works. After a failed fetch, or one without a usable key, the
stored keys stay valid. Unknown key ids trigger at most one fetch per `FETCH_PAUSE`.
Source: `baskets/docs/adr/0038-shared-issuer-keys-and-bound-ciphertexts.md`.
"""

import json
import math
import threading
from concurrent.futures import Future
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import structlog
from django.db import connection
from django.db.models import Q
from django.db.models.functions import Now

from baskets.db.transactions import run_in_transaction
from baskets.domain import audit_log
from baskets.domain.access.jwks import InvalidKey, KeySet, PublicKey, parse_jwks
from baskets.domain.actors import Actor
from baskets.error_summary import summarize_error
from baskets.models import DeskEntry, TokenIssuer
from baskets.net import http_client, outgoing_urls

log = structlog.get_logger(__name__)

# Keys older than this are used, and a background fetch starts.
FRESH_AGE = timedelta(minutes=5)
# Keys older than this are used only if a new fetch fails. So a key that its issuer has removed stays trusted this long at most.
MAX_AGE = timedelta(minutes=15)
# From the end of a fetch, successful or not, to the next.
FETCH_PAUSE = timedelta(seconds=10)
# After this time another worker may fetch: the first was killed, or hangs.
LEASE_DURATION = timedelta(seconds=30)
WAIT_SECONDS = 1.0
FETCH_TIMEOUT_SECONDS = 3.0
MAX_BYTES = 256 * 1024
MAX_PROBLEM_LENGTH = 500

# One thread of a process stores at a time, so that many fetches do not open many database connections at once.
_store_lock = threading.Lock()


class KeysUnavailable(Exception):
    """A token may be valid, but its issuer's keys are not stored and cannot be fetched now.

    :param seconds: until a repeated call may find the keys.
    """

    def __init__(self, *, seconds: int) -> None:
        super().__init__()
        self.seconds = seconds


class KeysNotFetched(Exception):
    """A URL returned no usable keys. The message says why."""


def stored_keys(issuer: TokenIssuer) -> tuple[PublicKey, ...]:
    """Return the stored keys of an issuer: the last ones fetched, or those that were given with it."""
    document = issuer.fetched_keys if issuer.keys_url else issuer.keys
    try:
        return () if document is None else parse_jwks(document, algorithms=issuer.algorithms).keys
    except InvalidKey:
        return ()


def is_stale(issuer: TokenIssuer, *, at: datetime) -> bool:
    """Return whether a call must fetch new keys before it uses the stored ones.

    False if a fetch cannot help now: one is running, the last one failed, or the pause after it lasts.

    :param at: the database's time, read with the issuer.
    """
    return _is_older(issuer, MAX_AGE, at=at) and not issuer.fetch_problem and _is_fetch_due(issuer, at=at)


def refresh_in_background(issuer: TokenIssuer, *, at: datetime) -> None:
    """Start a fetch if the stored keys are older than `FRESH_AGE`. Does not wait for it."""
    if _is_older(issuer, FRESH_AGE, at=at) and _is_fetch_due(issuer, at=at):
        start_fetch(issuer)


def fetch_newer_keys(issuer: TokenIssuer, *, at: datetime) -> tuple[PublicKey, ...] | None:
    """Fetch the keys of an issuer for a token that no stored key verifies. See Note [One fetch, no queue].

    :param at: the database's time, read with the issuer.
    :returns: the keys; None if the caller must use the stored ones, because the last fetch ended just now or failed.
    :raises KeysUnavailable: a running fetch may bring the key, or no keys are stored.
    """
    is_running, wait = True, timedelta(seconds=1)
    if _is_fetch_due(issuer, at=at):
        own_fetch = start_fetch(issuer)
        try:
            if own_fetch is not None:
                return own_fetch.result(WAIT_SECONDS).keys
        except KeysNotFetched:
            is_running, wait = False, FETCH_PAUSE
        except TimeoutError:
            pass  # The fetch continues in the background.
    elif issuer.fetch_lease is None:
        is_running, wait = False, (issuer.next_fetch_at or at) - at
    if issuer.fetched_keys is not None and (issuer.fetch_problem or not is_running):
        return None
    raise KeysUnavailable(seconds=math.ceil(wait.total_seconds()))


def _is_older(issuer: TokenIssuer, limit: timedelta, *, at: datetime) -> bool:
    """Return whether the stored keys are older than the limit. Keys that were given with the issuer do not age."""
    return bool(issuer.keys_url) and (issuer.fetched_at is None or at - issuer.fetched_at > limit)


def _is_fetch_due(issuer: TokenIssuer, *, at: datetime) -> bool:
    """Return whether a fetch may start: none is running, and the pause after the last one is over."""
    return bool(issuer.keys_url) and (issuer.next_fetch_at is None or issuer.next_fetch_at <= at)


def start_fetch(issuer: TokenIssuer) -> "Future[KeySet] | None":
    """Fetch the keys of an issuer in a background thread. See Note [One fetch, no queue].

    :returns: the future key set, or the future `KeysNotFetched`; None if another worker holds the lease, or if no thread can
        be started.
    """
    lease = _acquire_lease(issuer)
    if lease is None:
        return None
    future: Future[KeySet] = Future()

    def run() -> None:
        try:
            found = _fetch_and_store(issuer, lease)
        except KeysNotFetched as error:
            # A new exception without the traceback, which would keep the connection to the host alive.
            future.set_exception(KeysNotFetched(str(error)))
        except Exception as error:  # noqa: BLE001 (most likely the database failed; the lease expires)
            log.warning("issuer_keys_not_stored", issuer=issuer.name, **summarize_error(error, error.__traceback__))
            future.set_exception(KeysNotFetched("The keys could not be stored."))
        else:
            future.set_result(found)
        finally:
            connection.close()

    try:
        threading.Thread(target=run, name=f"issuer-keys-{issuer.pk}", daemon=True).start()
    except RuntimeError:  # The system is out of threads.
        log.warning("issuer_keys_failed", issuer=issuer.name, problem="No thread could be started.")
        return None
    return future


def fetch_now(*, issuer: TokenIssuer, actor: Actor) -> KeySet:
    """Fetch the keys of an issuer at once, even beside another fetch, and store them. The logs name the actor.

    :raises KeysNotFetched: the URL returned no usable keys; the stored keys stay. Or the issuer was changed or removed.
    """
    log.info("issuer_keys_requested", issuer=issuer.name, by=actor.name)
    lease = _acquire_lease(issuer, forced=True)
    if lease is None:
        raise KeysNotFetched("The issuer was changed or removed.")
    run_in_transaction(
        lambda: audit_log.record(
            kind=DeskEntry.Kind.MAINTAINED,
            about="tokenissuer",
            subject=issuer.name,
            partner_id=issuer.partner_id,
            data={"step": "keys fetched"},
            actor=actor,
        )
    )
    return _fetch_and_store(issuer, lease)


def fetch(issuer: TokenIssuer) -> KeySet:
    """Fetch the keys of an issuer without storing them.

    :raises KeysNotFetched: the URL returned no usable keys.
    """
    try:
        reply = http_client.send_request(
            issuer.keys_url,
            method="GET",
            headers={"Accept": "application/json"},
            timeout_seconds=FETCH_TIMEOUT_SECONDS,
            max_body_bytes=MAX_BYTES,
        )
        if reply.status != 200:
            raise KeysNotFetched(f"The answer has status {reply.status}.")
        return parse_jwks(json.loads(reply.body), algorithms=issuer.algorithms)
    except (outgoing_urls.ForbiddenUrl, http_client.RequestFailed, InvalidKey) as error:
        raise KeysNotFetched(str(error)) from error
    except (ValueError, RecursionError) as error:
        raise KeysNotFetched("The answer is not JSON.") from error


def _acquire_lease(issuer: TokenIssuer, *, forced: bool = False) -> UUID | None:
    """Acquire the lease of an issuer.

    :param forced: acquire it even from another fetch, and during the pause.
    :returns: the lease; None if another fetch holds it, the pause lasts, or the issuer was changed.
    """
    lease = uuid4()
    due = Q() if forced else Q(next_fetch_at__isnull=True) | Q(next_fetch_at__lte=Now())
    rows = TokenIssuer.objects.filter(due, pk=issuer.pk, keys_url=issuer.keys_url)
    return lease if run_in_transaction(lambda: rows.update(fetch_lease=lease, next_fetch_at=Now() + LEASE_DURATION)) else None


def _fetch_and_store(issuer: TokenIssuer, lease: UUID) -> KeySet:
    try:
        found = fetch(issuer)
    except KeysNotFetched as error:
        log.warning("issuer_keys_failed", issuer=issuer.name, host=urlsplit(issuer.keys_url).hostname, problem=str(error))
        _store(issuer, lease, fetch_problem=str(error)[:MAX_PROBLEM_LENGTH])
        raise
    if found.skipped:
        log.info("issuer_keys_skipped", issuer=issuer.name, host=urlsplit(issuer.keys_url).hostname, problems=found.skipped)
    _store(issuer, lease, fetched_keys=found.to_document(), fetched_at=Now(), fetch_problem="")
    return found


def _store(issuer: TokenIssuer, lease: UUID, **result: Any) -> None:
    """Store the result of a fetch if its lease is still held, and start the pause."""
    rows = TokenIssuer.objects.filter(pk=issuer.pk, fetch_lease=lease)
    with _store_lock:
        run_in_transaction(lambda: rows.update(fetch_lease=None, next_fetch_at=Now() + FETCH_PAUSE, **result))
