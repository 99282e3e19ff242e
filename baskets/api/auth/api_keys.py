"""Authenticates API keys, and verifies cached keys within the first round trip of a call. Permissions are in `permissions`.

Note [Cached keys]
A separate lookup of the key would cost one round trip more. Each process therefore caches the keys that it has
authenticated. A cached key is used immediately, and `CachedKeyGuard` looks it up in the first pipeline of the call. It is
verified before the unit of work commits and before anything is returned, refusals included. Only the check of a bearer token
may fetch the keys of its issuer before that. Where COMMIT is sent with that pipeline, the statement compares the key itself, and
fails the transaction. If the row has changed, the unit of work is rolled
back, the caller is authenticated without the cache, and the operation runs again for the new caller.
"""

import functools
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from django.http import HttpRequest
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from baskets.api.exceptions import ApiError
from baskets.db.errors import read_with_reconnect
from baskets.db.pipeline import PendingResult, execute
from baskets.db.statements import Statement, expect_rows
from baskets.domain.access.api_keys import digest_key, parse_key_prefix
from baskets.domain.retries import RetryTransaction
from baskets.models import ApiKey

KEY_CHALLENGE = 'ApiKey realm="baskets", header="X-API-Key"'
# No key is issued with this prefix, so the lookup for a malformed key costs the same and finds no row.
UNKNOWN_PREFIX = "-"
NO_DIGEST = bytes(32)
MAX_CACHED_KEYS = 10_000


@dataclass(frozen=True, kw_only=True)
class Caller:
    """The partner's software that makes a call, as its API key describes it.

    :param sandbox_of: the id of the partner whose sandbox the key is for; None for a live key.
    :param from_cache: whether the description comes from the cache and must be verified. See Note [Cached keys].
    """

    partner_id: int
    partner: str
    prefix: str
    digest: bytes = field(repr=False)
    kind: str
    calls_per_minute: int | None
    orders_need_server_key: bool
    sandbox_of: int | None
    from_cache: bool = False

    @property
    def terms(self) -> tuple[bytes, int, str, str, int | None, bool, int | None]:
        """What the row of a cached key and its partner must say, in the order of `TERMS`."""
        return (
            self.digest,
            self.partner_id,
            self.partner,
            self.kind,
            self.calls_per_minute,
            self.orders_need_server_key,
            self.sandbox_of,
        )

    @property
    def is_client_key(self) -> bool:
        """Whether the key ships inside apps, so that it does not prove who the user is."""
        return self.kind == ApiKey.Kind.CLIENT

    @property
    def sandbox(self) -> bool:
        """Whether the key is a test key: it sees the products of the sandbox, and no others."""
        return self.sandbox_of is not None

    @property
    def may_order(self) -> bool:
        """Whether the key may report an order."""
        return not (self.is_client_key and self.orders_need_server_key)


# Authenticated keys of this process, by prefix, each with `from_cache` set.
_key_cache: dict[str, Caller] = {}


class ApiKeyAuthentication(BaseAuthentication):
    """DRF authentication by the `X-API-Key` header: `request.user` is the `Caller`."""

    def authenticate(self, request: Request) -> tuple[Caller, None]:
        """Return the caller; no second value, because the bearer token is checked later and becomes `request.auth`."""
        return authenticate_key(request), None

    def authenticate_header(self, request: Request) -> str:
        """Return the scheme that a 401 names."""
        del request
        return KEY_CHALLENGE


def authenticate_key(request: HttpRequest, *, use_cache: bool = True) -> Caller:
    """Return the caller of a request by its API key.

    Malformed, unknown, revoked and expired keys and wrong secrets cost the same and get the same response: always one
    query, and comparisons in constant time. A cached key costs no query here. If it has become invalid since, its verification
    refuses it, at the cost of a second query.

    :param use_cache: whether a cached key is returned without a query; it must then be verified.
    :raises ApiError: `api_key_missing`, `api_key_invalid`.
    """
    key = request.META.get("HTTP_X_API_KEY")
    if not key:
        raise ApiError("api_key_missing", headers={"WWW-Authenticate": KEY_CHALLENGE})
    prefix, digest = parse_key_prefix(key) or UNKNOWN_PREFIX, digest_key(key)
    if use_cache and (cached := _key_cache.get(prefix)) is not None and hmac.compare_digest(digest, cached.digest):
        return cached
    row = read_with_reconnect(lambda: enqueue_key_lookup(prefix).fetchone())
    stored, partner_id, partner, kind, calls, orders_need_server_key, sandbox_of = row or (NO_DIGEST, 0, "", "", None, False, None)
    if row is None:
        _key_cache.pop(prefix, None)
    if not hmac.compare_digest(digest, bytes(stored)) or row is None:
        raise ApiError("api_key_invalid", headers={"WWW-Authenticate": KEY_CHALLENGE})
    caller = Caller(
        partner_id=partner_id,
        partner=partner,
        prefix=prefix,
        digest=digest,
        kind=kind,
        calls_per_minute=calls,
        orders_need_server_key=orders_need_server_key,
        sandbox_of=sandbox_of,
    )
    if len(_key_cache) >= MAX_CACHED_KEYS:
        _key_cache.clear()
    _key_cache[prefix] = replace(caller, from_cache=True)
    return caller


def enqueue_key_lookup(prefix: str) -> PendingResult:
    """Look a valid key up. Inside a pipeline the statement is only enqueued."""
    statement, parameters = _compiled_lookup()
    return execute(statement, [prefix if value == _PREFIX else value for value in parameters])


class CachedKeyStale(RetryTransaction):
    """The cached key was revoked, has expired, or has other terms now.

    :param refresh: authenticates the caller without the cache.
    """

    def __init__(self, refresh: Callable[[], None]) -> None:
        super().__init__("the cached API key is stale")
        self._refresh = refresh

    def prepare(self) -> None:
        """Authenticate the caller without the cache, and check again what the caller may do.

        :raises ApiError: the key is not valid any more, or its new terms do not permit the call.
        """
        self._refresh()


class CachedKeyGuard:
    """Verifies the cached key of one call. Implements `runner.Guard`. See Note [Cached keys].

    :param caller: the caller; one that is not from the cache needs no verification.
    :param refresh: see `CachedKeyStale`.
    """

    def __init__(self, caller: Caller, *, refresh: Callable[[], None]) -> None:
        self._caller = caller
        self._refresh = refresh
        self._lookup: PendingResult | None = None
        self._comparison: PendingResult | None = None
        self._is_settled = not caller.from_cache

    @property
    def is_received(self) -> bool:
        """Whether the server has sent the row of the key."""
        return self._lookup is not None and self._lookup.is_received

    def enqueue(self) -> None:
        """Enqueue the lookup of the key, unless it was verified already."""
        if not self._is_settled:
            self._lookup = enqueue_key_lookup(self._caller.prefix)

    def demand(self) -> None:
        """Enqueue a comparison that fails with `CachedKeyStale`, unless the key was verified already."""
        if not self._is_settled:
            statement, parameters = _compiled_comparison()
            values = [self._caller.prefix if value == _PREFIX else value for value in parameters]
            self._comparison = execute(statement, [*values, *self._caller.terms], on_no_rows=CachedKeyStale(self._refresh))

    def verify(self) -> None:
        """Compare the cached key with its row; look it up now if no pipeline has done so.

        :raises CachedKeyStale: the row is gone, or differs.
        """
        self._is_settled |= self._comparison is not None and self._comparison.is_received
        if self._is_settled:
            return
        if not self.is_received:
            self._lookup = read_with_reconnect(self._look_up_now)
        self._is_settled = True  # Verified, or authenticated without the cache in `CachedKeyStale.prepare`.
        if self._lookup is None or self._lookup.fetchone() != self._caller.terms:
            raise CachedKeyStale(self._refresh)

    def _look_up_now(self) -> PendingResult:
        lookup = enqueue_key_lookup(self._caller.prefix)
        iter(lookup)  # Flushes the pipeline, if there is one.
        return lookup


_PREFIX = "the prefix goes here"
TERMS = (
    *("digest", "partner_id", "partner__name", "kind", "calls_per_minute"),
    *("partner__orders_need_server_key", "partner__sandbox_of_id"),
)


@functools.cache
def _compiled_lookup() -> tuple[Statement, tuple[Any, ...]]:
    """Compile the lookup once: every call runs it, and compiling costs more than running it."""
    sql, parameters = ApiKey.objects.valid().filter(prefix=_PREFIX).values_list(*TERMS).query.sql_with_params()
    return Statement("look_up_api_key", sql), parameters


@functools.cache
def _compiled_comparison() -> tuple[Statement, tuple[Any, ...]]:
    """Compile the comparison of a cached key with its row: the lookup, and a failure unless it finds the terms."""
    lookup, parameters = _compiled_lookup()
    columns = [f"term_{number}" for number in range(len(TERMS))]
    same = " AND ".join(f"{column} IS NOT DISTINCT FROM %s" for column in columns)
    found = f"(SELECT FROM ({lookup.sql}) AS stored ({', '.join(columns)}) WHERE {same}) AS found"
    return Statement("compare_api_key", expect_rows(found)), parameters
