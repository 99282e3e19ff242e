"""Who is calling: the API key of every call. What a caller may do beyond that is not decided here.

Note [Presumed, then confirmed]
Looking a key up before anything else costs a round trip of its own. So a process remembers the keys it has let in, and takes
whoever brings the same secret again for the same caller. That is a presumption: the key is looked up nevertheless, together with
the first question that the call has for the database, and compared before anything is committed or answered, refusals
included. A call whose key turns out to be revoked or changed begins again, as if nobody had ever seen its key.
"""

import functools
import hmac
from dataclasses import dataclass, field, replace
from typing import Any

from django.http import HttpRequest
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from baskets.api.exceptions import ApiError
from baskets.db.errors import read_with_reconnect
from baskets.db.pipeline import PendingResult, Statement, execute
from baskets.domain.access.api_keys import digest_key, parse_key_prefix
from baskets.models import ApiKey

KEY_CHALLENGE = 'ApiKey realm="baskets", header="X-API-Key"'
# No key is issued with this prefix, so the look-up for a malformed key costs the same and finds nothing.
NOBODY = "-"
NO_DIGEST = bytes(32)
MOST_REMEMBERED = 10_000


class KeyChanged(Exception):
    """A key is no longer what this process remembers of it."""


@dataclass(frozen=True, kw_only=True)
class Caller:
    """The partner's software that makes a call, known by its key. See Note [Presumed, then confirmed].

    :param presumed: whether this is what was found when the key was last looked up, and is to be confirmed.
    """

    partner_id: int
    partner: str
    prefix: str
    digest: bytes = field(repr=False)
    kind: str
    calls_per_minute: int | None
    orders_need_server_key: bool
    presumed: bool = False

    @property
    def in_an_app(self) -> bool:
        """Tell whether the key ships inside apps, so that it proves nothing about the user."""
        return self.kind == ApiKey.Kind.CLIENT

    @property
    def may_order(self) -> bool:
        """Tell whether the key may report an order."""
        return not (self.in_an_app and self.orders_need_server_key)


# The keys that this process has let in, by their prefixes, each as presumed.
_remembered: dict[str, Caller] = {}


class ApiKeyAuthentication(BaseAuthentication):
    """DRF's door to the key of a call: `request.user` is the `Caller`."""

    def authenticate(self, request: Request) -> tuple[Caller, None]:
        """Find the caller by the key."""
        may_presume: bool = request.parser_context["view"].may_presume
        return caller_of(request._request, may_presume=may_presume), None  # noqa: SLF001 (DRF offers the plain request under this name only)

    def authenticate_header(self, request: Request) -> str:
        """Name the scheme that a 401 asks for."""
        del request
        return KEY_CHALLENGE


def caller_of(request: HttpRequest, *, may_presume: bool) -> Caller:
    """Find out whose key a call carries.

    Malformed, unknown, revoked and expired keys and wrong secrets cost the same and get the same answer: always one
    query, and comparisons in constant time. Only a key that was good when this process last saw it may cost more.

    :param may_presume: whether a key that is remembered may be taken for what it was.
    :raises ApiError: api_key_missing, api_key_invalid.
    """
    key = request.META.get("HTTP_X_API_KEY")
    if not key:
        raise ApiError("api_key_missing", headers={"WWW-Authenticate": KEY_CHALLENGE})
    prefix, digest = parse_key_prefix(key) or NOBODY, digest_key(key)
    if may_presume and (known := _remembered.get(prefix)) is not None and hmac.compare_digest(digest, known.digest):
        return known
    row = read_with_reconnect(lambda: look_up(prefix).fetchone())
    stored, partner_id, partner, kind, calls, orders_need_server_key = row or (NO_DIGEST, 0, "", "", None, False)
    if row is None:
        _remembered.pop(prefix, None)
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
    )
    if len(_remembered) >= MOST_REMEMBERED:
        _remembered.clear()
    _remembered[prefix] = replace(caller, presumed=True)
    return caller


def look_up(prefix: str) -> PendingResult:
    """Ask for a valid key. The question may travel with others."""
    statement, parameters = _statement()
    return execute(statement, [prefix if value == _PREFIX else value for value in parameters])


def confirm(caller: Caller, found: PendingResult) -> None:
    """Compare what was presumed of a key with what was found now.

    :raises KeyChanged: it was revoked, has ended, or its terms are others.
    """
    terms = (
        caller.digest,
        caller.partner_id,
        caller.partner,
        caller.kind,
        caller.calls_per_minute,
        caller.orders_need_server_key,
    )
    if found.fetchone() != terms:
        raise KeyChanged


_PREFIX = "the prefix goes here"


@functools.cache
def _statement() -> tuple[Statement, tuple[Any, ...]]:
    """Compile the look-up once: every call asks it, and building it costs more than running it."""
    found = ApiKey.objects.valid().filter(prefix=_PREFIX)
    terms = ("digest", "partner_id", "partner__name", "kind", "calls_per_minute", "partner__orders_need_server_key")
    sql, parameters = found.values_list(*terms).query.sql_with_params()
    return Statement("look_up_api_key", sql), parameters
