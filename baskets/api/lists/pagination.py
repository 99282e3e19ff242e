"""Checks the query of a list call, and encrypts the `nextToken` that continues it. Reads no rows: `queries` does.

The order of a list never changes, so a token names the last position that was shown.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.core import signing
from django.db.models import QuerySet
from django.http import QueryDict

from baskets import conf
from baskets.api.exceptions import invalid
from baskets.api.lists.filters import ListFilterSet
from baskets.encryption import UnreadableSecret, decrypt_token, encrypt_token

DEFAULT_LIMIT = 50
MAX_LIMIT = 200
LIMIT_RULE = f"Must be a whole number from 1 to {MAX_LIMIT}."
NOT_ISSUED = "Must be the nextToken of an earlier answer."
OTHER_LIST = "Must be the nextToken of an answer to the same call, with the same filters."
ENCRYPTION_PURPOSE = "baskets.next_token"
# A token is padded to a multiple of this many characters before it is encrypted: its length would tell how many events exist.
PADDING_CHARACTERS = 128
# The parameter that every call takes; see `tracking`.
PROVIDER_ID = "provider_id"


@dataclass(frozen=True, kw_only=True)
class ListCursor:
    """The list that a `nextToken` belongs to: a token works only for the same partner, call and filters.

    Tokens do not expire, so a consumer may store one for as long as it likes. See ADR 36.
    """

    partner_id: int
    call: str
    filters: Mapping[str, str]

    def encrypt(self, position: Any) -> str:
        """Return the token for a position in this list.

        :param position: a JSON value.
        """
        text = json.dumps([self._digest(), position], ensure_ascii=False)
        return encrypt_token(text.ljust(-(-len(text) // PADDING_CHARACTERS) * PADDING_CHARACTERS), purpose=ENCRYPTION_PURPOSE)

    def decrypt(self, token: str) -> Any:
        """Return the position that a token was made for, as `encrypt` received it.

        :raises ApiError: `validation_failed`: the token is not one of ours, or belongs to another list.
        """
        try:
            digest, position = _decode(token)
        except (UnreadableSecret, signing.BadSignature, UnicodeError):
            raise invalid({"nextToken": NOT_ISSUED}) from None
        if digest != self._digest():
            raise invalid({"nextToken": OTHER_LIST})
        return position

    def _digest(self) -> str:
        # A token of another cell names a place in another list.
        cell = [conf.cell()] if conf.cell() else []
        text = json.dumps([self.partner_id, self.call, sorted(self.filters.items()), *cell])
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _decode(token: str) -> Any:
    """Return digest and position. A colon marks the former format, signed but not encrypted, which consumers of the feed still hold."""
    if ":" in token:
        return signing.loads(token, salt=ENCRYPTION_PURPOSE)
    return json.loads(decrypt_token(token, purpose=ENCRYPTION_PURPOSE))


@dataclass(frozen=True, kw_only=True)
class ListRequest:
    """The checked query of one list call.

    :param rows: the rows that the filters leave.
    :param limit: the most rows that the page may have.
    :param cursor: makes the token of the next page.
    :param after: the position that the page continues after; None: the page is the first.
    :param wait_seconds: how long the call waits for the first row.
    """

    rows: QuerySet[Any]
    limit: int
    wait_seconds: int = 0
    cursor: ListCursor
    after: Any = None


@dataclass(frozen=True, kw_only=True)
class Page:
    """One page of a list, ready for JSON.

    :param items: its rows, as the response shows them.
    :param last: the position of the last row; None: the list ends here.
    """

    items: list[Any]
    last: Any = None


def parse_list_request(
    query: QueryDict, *, call: str, filter_set: type[ListFilterSet], rows: QuerySet[Any], partner_id: int, max_wait: int | None = None
) -> ListRequest:
    """Check the query of a list call. One refusal names every parameter that is wrong.

    :param call: the name of the list, to which tokens are bound.
    :param rows: every row of the partner.
    :param max_wait: the most seconds that a call may wait; None: this list takes no `wait`.
    :raises ApiError: `validation_failed`.
    """
    known = [*filter_set.base_filters, "limit", "nextToken", *([] if max_wait is None else ["wait"])]
    given = {name: values for name in known if (values := query.getlist(name))}
    errors = {name: "Must be given once, and not empty." for name, values in given.items() if len(values) > 1 or not values[0]}
    # A misspelt filter that was ignored would widen the list.
    errors |= dict.fromkeys(sorted(query.keys() - {*known, PROVIDER_ID}), "Is not a parameter of this call.")
    filters = {name: values[0] for name, values in given.items()}
    limit, token, wait = filters.pop("limit", str(DEFAULT_LIMIT)), filters.pop("nextToken", None), filters.pop("wait", "0")
    filtered = filter_set(filters, rows, partner_id=partner_id)
    errors = filtered.field_errors | errors
    if not _is_whole_number(limit, 1, MAX_LIMIT):
        errors.setdefault("limit", LIMIT_RULE)
    if not _is_whole_number(wait, 0, max_wait or 0):
        errors.setdefault("wait", f"Must be a whole number of seconds from 0 to {max_wait}.")
    if errors:
        raise invalid(errors)
    cursor = ListCursor(partner_id=partner_id, call=call, filters=filters)
    after = None if token is None else cursor.decrypt(token)
    return ListRequest(rows=filtered.qs, limit=int(limit), wait_seconds=int(wait), cursor=cursor, after=after)


def _is_whole_number(text: str, minimum: int, maximum: int) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 3 and minimum <= int(text) <= maximum
