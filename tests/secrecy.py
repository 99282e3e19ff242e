"""What no output may hold: keys and tokens, by their shape, and the ids of all users that the tests have made up."""

import functools
import re
from typing import Any

from baskets.api.exceptions import TABLE
from baskets.models.basket_snapshot import Owner

SHAPES = (
    re.compile(r"bk_[a-z0-9]{12}_[0-9a-f]{16,}"),
    re.compile(r"eyJ[\w-]{6,}\.[\w-]+\.[\w-]*"),
)
WORDS = re.compile(r"[^\s'\"`{}\[\](),=<>|;]+")
# Shorter ones are words of the log itself, or letters.
SHORTEST = 3
# What a user is called in some test, and what a line of the log may say for another reason.
HOMONYMS = {"user", "other", "owner", "None", *TABLE}

_users: set[str] = set()


def remember_users() -> None:
    """Notice every user id that this process makes an owner of, from now on."""
    original = Owner.__init__

    @functools.wraps(original)
    def noticing(self: Owner, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        if isinstance(self.user_id, str) and len(self.user_id) >= SHORTEST:
            _users.add(self.user_id)

    Owner.__init__ = noticing  # type: ignore[method-assign]


def secrets_in(text: str) -> set[str]:
    """Find what a text should not hold."""
    found = {match[0] for shape in SHAPES for match in shape.finditer(text)}
    return found | (_users - HOMONYMS).intersection(WORDS.findall(text))
