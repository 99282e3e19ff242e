"""Key sets that issuers publish at an address of their own: fetched, kept in this process, and fetched anew with restraint.

Keys that were good stay so while their address cannot be reached. Whoever sends tokens with made-up keys cannot make us
call more often than once in `PAUSE_SECONDS`.
"""

import json
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import structlog

from baskets import outside
from baskets.domain.keysets import PublicKey, UnusableKey, parse_jwks

log = structlog.get_logger(__name__)

# How old a key set may be before it is asked for again: so long a key lives on that its issuer has taken away.
FRESH_SECONDS = 300.0
# Between two calls to one address, however they ended.
PAUSE_SECONDS = 10.0
CALL_SECONDS = 3.0
LONGEST = 256 * 1024
# Far more addresses than a service has issuers; beyond it the oldest is forgotten.
MOST_ADDRESSES = 1000


@dataclass(kw_only=True)
class Kept:
    """What is known of one address."""

    keys: tuple[PublicKey, ...] = ()
    fetched_at: float = -math.inf
    called_at: float = -math.inf
    calling: threading.Lock = field(default_factory=threading.Lock)


_kept: dict[str, Kept] = {}


def keys_at(url: str, *, wanted: Callable[[PublicKey], bool]) -> tuple[PublicKey, ...]:
    """Return the keys that an issuer publishes at this address, as far as they are wanted.

    Calls the address, outside of any transaction, where the keys are not known or no longer fresh. Old keys that are
    wanted are not waited for: one caller asks for new ones, the others go on with what there is.
    """
    kept = _kept.setdefault(url, Kept())
    found = tuple(filter(wanted, kept.keys))
    now = time.monotonic()
    if (found and now - kept.fetched_at < FRESH_SECONDS) or now - kept.called_at < PAUSE_SECONDS:
        return found
    if not kept.calling.acquire(blocking=not found):
        return found
    try:
        # Whoever had to wait finds that somebody else has called meanwhile.
        if time.monotonic() - kept.called_at >= PAUSE_SECONDS:
            _call(url, kept)
    finally:
        kept.calling.release()
    while len(_kept) > MOST_ADDRESSES:
        _kept.pop(next(iter(tuple(_kept))), None)
    return tuple(filter(wanted, kept.keys))


def forget() -> None:
    """Forget all keys of this process."""
    _kept.clear()


def _call(url: str, kept: Kept) -> None:
    """Fetch the keys of an address; where that comes to nothing, the old ones stay."""
    try:
        keys, wrong = parse_jwks(json.loads(_fetched(url)))
    except (outside.ForbiddenAddress, outside.Unreachable, UnusableKey) as error:
        log.warning("issuer_keys_failed", host=urlsplit(url).hostname, problem=str(error))
    except (ValueError, RecursionError):
        log.warning("issuer_keys_failed", host=urlsplit(url).hostname, problem="The answer is no JSON.")
    else:
        kept.keys, kept.fetched_at = keys, time.monotonic()
        if wrong:
            log.info("issuer_keys_skipped", host=urlsplit(url).hostname, problems=wrong)
    finally:
        kept.called_at = time.monotonic()


def _fetched(url: str) -> bytes:
    reply = outside.call(url, method="GET", headers={"Accept": "application/json"}, seconds=CALL_SECONDS, longest=LONGEST)
    if reply.status != 200:
        raise UnusableKey(f"The answer has status {reply.status}.")
    return reply.body
