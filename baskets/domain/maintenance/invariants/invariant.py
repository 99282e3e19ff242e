"""The type of an invariant."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Invariant:
    """One sentence that must be true of the stored data.

    :param slug: the stable identifier, for machines.
    :param rule: of `baskets/docs/rules.md`.
    :param sentence: the rule in words.
    :param sql: selects the rows that violate it. Never selects a user id. A comparison with NULL must count as a violation:
        write `IS DISTINCT FROM` and `IS NOT TRUE` instead of `<>` and `NOT`.
    :param parameters: returns the parameters of the query when it runs.
    """

    slug: str
    rule: int
    sentence: str
    sql: str
    parameters: Callable[[], Sequence[Any]] = tuple
