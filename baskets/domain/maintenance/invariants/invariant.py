"""The form of a proof, and the words that the proofs share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


def no_parameters() -> Sequence[Any]:
    """No parameters."""
    return ()


@dataclass(frozen=True, kw_only=True)
class Invariant:
    """One sentence that must be true.

    :param slug: names it for machines.
    :param rule: of `baskets/docs/rules.md`.
    :param sentence: what is true where the query finds nothing.
    :param sql: finds the rows that break it. Never selects a user id. A comparison with a missing value must not
        count as kept: `IS DISTINCT FROM` and `IS NOT TRUE` instead of `<>` and `NOT`.
    :param parameters: of the query, made when it runs.
    """

    slug: str
    rule: int
    sentence: str
    sql: str
    parameters: Callable[[], Sequence[Any]] = no_parameters
