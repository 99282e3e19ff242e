"""Fetches the key sets that issuers publish at an address, and stores them for all workers.

Note [One fetch, no queue]
The fetched keys are stored with the issuer, and come with the statement that reads the issuer: no process has keys of its own.
A fetch runs in a thread of its own and holds a lease on the issuer's row, by the database's clock; so one worker fetches, and at
most once in `FETCH_PAUSE`. Only the call that started it waits for it, for `WAIT_SECONDS` at most, and only if the stored keys do not
settle its token, or are older than `MAX_AGE` while the address works. A fetch that fails, or finds no usable key, leaves the
stored keys as they are.
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

from baskets.db.transactions import in_transaction
from baskets.domain.access.jwks import InvalidKey, KeySet, PublicKey, parse_jwks
from baskets.domain.actors import Actor
from baskets.error_summary import summarize_error
from baskets.models import TokenIssuer
from baskets.net import http_client

log = structlog.get_logger(__name__)

# Older keys are used, and a new fetch is started beside the call.
FRESH_AGE = timedelta(minutes=5)
# Older keys are used only if a new fetch brings none: so long is a key trusted that its issuer has removed, while the address works.
MAX_AGE = timedelta(minutes=15)
# Between the end of a fetch and the next one, however it ended.
FETCH_PAUSE = timedelta(seconds=10)
# How long a fetch may take, resolving the name included, before another worker may start one: it was killed, or hangs.
LEASE_DURATION = timedelta(seconds=30)
WAIT_SECONDS = 1.0
FETCH_TIMEOUT_SECONDS = 3.0
MAX_BYTES = 256 * 1024
MAX_PROBLEM_LENGTH = 500

# One thread of a process stores at a time, so that many fetches do not open many connections to the database at once.
_store_lock = threading.Lock()


class KeysUnavailable(Exception):
    """A token may be good, but its issuer's keys are not stored and cannot be fetched now.

    :param seconds: until a repeated call may find them.
    """

    def __init__(self, *, seconds: int) -> None:
        super().__init__()
        self.seconds = seconds


class KeysNotFetched(Exception):
    """An address gave no usable keys; the sentence says why."""


def stored_keys(issuer: TokenIssuer) -> tuple[PublicKey, ...]:
    """Return the keys of an issuer that are stored: given with it, or fetched last."""
    document = issuer.fetched_keys if issuer.keys_url else issuer.keys
    try:
        return () if document is None else parse_jwks(document, algorithms=issuer.algorithms).keys
    except InvalidKey:
        return ()


def is_stale(issuer: TokenIssuer, *, at: datetime) -> bool:
    """Tell whether the stored keys may have to give way to new ones before they are used.

    False where a fetch cannot help now: one is running, the last one failed, or ended just now.
    """
    return _is_older(issuer, MAX_AGE, at=at) and not issuer.fetch_problem and _is_fetch_due(issuer, at=at)


def refresh_in_background(issuer: TokenIssuer, *, at: datetime) -> None:
    """Start a fetch if the stored keys are no longer fresh, and do not wait for it."""
    if _is_older(issuer, FRESH_AGE, at=at) and _is_fetch_due(issuer, at=at):
        start_fetch(issuer)


def fetch_newer_keys(issuer: TokenIssuer, *, at: datetime) -> tuple[PublicKey, ...] | None:
    """Fetch the keys of an issuer for a token that the stored ones do not settle. See Note [One fetch, no queue].

    :param at: the database's time, read with the issuer.
    :returns: None if the stored keys are all there are: the address was asked just now, or fails.
    :raises KeysUnavailable: the keys may come with a running fetch, or none are stored.
    """
    is_running, wait = True, timedelta(seconds=1)
    if _is_fetch_due(issuer, at=at):
        fetch_of_ours = start_fetch(issuer)
        try:
            if fetch_of_ours is not None:
                return fetch_of_ours.result(WAIT_SECONDS).keys
        except KeysNotFetched:
            is_running, wait = False, FETCH_PAUSE
        except TimeoutError:
            pass  # It goes on beside.
    elif issuer.fetch_lease is None:
        is_running, wait = False, (issuer.next_fetch_at or at) - at
    if issuer.fetched_keys is not None and (issuer.fetch_problem or not is_running):
        return None
    raise KeysUnavailable(seconds=math.ceil(wait.total_seconds()))


def _is_older(issuer: TokenIssuer, limit: timedelta, *, at: datetime) -> bool:
    """Tell whether the stored keys are older than this; those that were given with the issuer do not age."""
    return bool(issuer.keys_url) and (issuer.fetched_at is None or at - issuer.fetched_at > limit)


def _is_fetch_due(issuer: TokenIssuer, *, at: datetime) -> bool:
    """Tell whether a fetch may be started: none is running, and the pause after the last one is over."""
    return bool(issuer.keys_url) and (issuer.next_fetch_at is None or issuer.next_fetch_at <= at)


def start_fetch(issuer: TokenIssuer) -> "Future[KeySet] | None":
    """Fetch the keys of an issuer in the background. See Note [One fetch, no queue].

    :returns: the keys to come, or None if another worker was faster, or no thread can be started. An address that gives
        no keys ends it with `KeysNotFetched`.
    """
    lease = _acquire_lease(issuer)
    if lease is None:
        return None
    future: Future[KeySet] = Future()

    def run() -> None:
        try:
            found = _fetch_and_store(issuer, lease)
        except KeysNotFetched as error:
            # Without its traceback, which would keep the connection to the address alive.
            future.set_exception(KeysNotFetched(str(error)))
        except Exception as error:  # noqa: BLE001 (a database that failed, most likely; the lease ends by itself)
            log.warning("issuer_keys_not_stored", issuer=issuer.name, **summarize_error(error, error.__traceback__))
            future.set_exception(KeysNotFetched("The keys could not be stored."))
        else:
            future.set_result(found)
        finally:
            connection.close()

    try:
        threading.Thread(target=run, name=f"issuer-keys-{issuer.pk}", daemon=True).start()
    except RuntimeError:  # The system has no thread to give.
        log.warning("issuer_keys_failed", issuer=issuer.name, problem="No thread could be started.")
        return None
    return future


def fetch_now(*, issuer: TokenIssuer, actor: Actor) -> KeySet:
    """Fetch the keys of an issuer at once, whether or not another fetch is running, and store them.

    Waits for the address. Who asked for it stands in the log.

    :raises KeysNotFetched: the address gave none; the stored keys stay as they are.
    """
    log.info("issuer_keys_requested", issuer=issuer.name, by=actor.name)
    lease = _acquire_lease(issuer, forced=True)
    if lease is None:
        raise KeysNotFetched("The issuer was changed or removed.")
    return _fetch_and_store(issuer, lease)


def fetch(issuer: TokenIssuer) -> KeySet:
    """Fetch the keys of an issuer, and store nothing.

    :raises KeysNotFetched: the address gave none.
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
    except (http_client.ForbiddenUrl, http_client.RequestFailed, InvalidKey) as error:
        raise KeysNotFetched(str(error)) from error
    except (ValueError, RecursionError) as error:
        raise KeysNotFetched("The answer is no JSON.") from error


def _acquire_lease(issuer: TokenIssuer, *, forced: bool = False) -> UUID | None:
    """Take the lease of an issuer; None if another fetch has it, or the pause is not over."""
    lease = uuid4()
    due = Q() if forced else Q(next_fetch_at__isnull=True) | Q(next_fetch_at__lte=Now())
    rows = TokenIssuer.objects.filter(due, pk=issuer.pk, keys_url=issuer.keys_url)
    return lease if in_transaction(lambda: rows.update(fetch_lease=lease, next_fetch_at=Now() + LEASE_DURATION)) else None


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
    """Store the result of a fetch, if its lease is still held, and begin the pause."""
    rows = TokenIssuer.objects.filter(pk=issuer.pk, fetch_lease=lease)
    with _store_lock:
        in_transaction(lambda: rows.update(fetch_lease=None, next_fetch_at=Now() + FETCH_PAUSE, **result))
