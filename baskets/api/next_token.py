"""The `nextToken` of a list: where to go on, signed, and good for the partner, the call and the filters it was made for."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.core import signing

from baskets.api.errors import invalid

SALT = "baskets.next_token"
WRONG = "Must be the nextToken of an earlier answer."
OF_ANOTHER_LIST = "Must be the nextToken of an answer to the same call, with the same filters."


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a token is bound to: whose list is read, which, and filtered how."""

    partner_id: int
    call: str
    filters: Mapping[str, str]

    def token(self, place: Any) -> str:
        """Sign a place in this list. It keeps for ever, as long as the secret does."""
        return signing.dumps([self._bound(), place], salt=SALT)

    def place(self, token: str) -> Any:
        """Read the place back.

        :raises ApiError: validation_failed.
        """
        try:
            bound, place = signing.loads(token, salt=SALT)
        except (signing.BadSignature, UnicodeError):
            raise invalid({"nextToken": WRONG}) from None
        if bound != self._bound():
            raise invalid({"nextToken": OF_ANOTHER_LIST})
        return place

    def _bound(self) -> str:
        said = json.dumps([self.partner_id, self.call, sorted(self.filters.items())])
        return hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest()[:32]
