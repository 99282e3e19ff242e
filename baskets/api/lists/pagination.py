"""The `nextToken` of a list: where to go on, encrypted, and good for the partner, the call and the filters it was made for."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.core import signing

from baskets.api.exceptions import invalid
from baskets.encryption import UnreadableSecret, decrypt_token, encrypt_token

ENCRYPTION_PURPOSE = "baskets.next_token"
NOT_ISSUED = "Must be the nextToken of an earlier answer."
OTHER_LIST = "Must be the nextToken of an answer to the same call, with the same filters."
# Tokens are as long as a multiple of this many characters before their encryption: the length of a position tells how many
# events there are.
PADDING_CHARACTERS = 128


@dataclass(frozen=True, kw_only=True)
class ListCursor:
    """What a token is bound to: whose list is read, which, and filtered how."""

    partner_id: int
    call: str
    filters: Mapping[str, str]

    def token(self, place: Any) -> str:
        """Encrypt a place in this list. The token is good for as long as its key is known. See ADR 36."""
        text = json.dumps([self._bound(), place], ensure_ascii=False)
        return encrypt_token(text.ljust(-(-len(text) // PADDING_CHARACTERS) * PADDING_CHARACTERS), purpose=ENCRYPTION_PURPOSE)

    def place(self, token: str) -> Any:
        """Read the place back.

        :raises ApiError: validation_failed.
        """
        try:
            bound, place = _decode(token)
        except (UnreadableSecret, signing.BadSignature, UnicodeError):
            raise invalid({"nextToken": NOT_ISSUED}) from None
        if bound != self._bound():
            raise invalid({"nextToken": OTHER_LIST})
        return place

    def _bound(self) -> str:
        said = json.dumps([self.partner_id, self.call, sorted(self.filters.items())])
        return hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _decode(token: str) -> Any:
    """Read what is in a token. One with a colon is of the former kind, signed and not encrypted: consumers of the feed hold some."""
    if ":" in token:
        return signing.loads(token, salt=ENCRYPTION_PURPOSE)
    return json.loads(decrypt_token(token, purpose=ENCRYPTION_PURPOSE))
