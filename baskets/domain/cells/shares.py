"""Divides pieces of a product among cells, by the rate of sale in each. Pure arithmetic: it reads and writes nothing."""

from collections.abc import Sequence
from itertools import repeat

# The least share of a cell that sells little, as a part of an equal one: a cell without pieces sells none, and must not stay so.
LEAST_PART = 4


def weigh(sold: Sequence[int]) -> list[int]:
    """Weigh cells by what each has sold, a cell that sold little by a quarter of an equal part.

    >>> weigh([30, 10, 0])
    [360, 120, 40]
    """
    total = sum(sold)
    return [max(LEAST_PART * len(sold) * pieces, total, 1) for pieces in sold]


def divide(pieces: int, weights: Sequence[int], *, least: Sequence[int] | None = None) -> list[int]:
    """Divide pieces by weight, whole and without a rest.

    :param pieces: not below zero.
    :param weights: above zero.
    :param least: what each cell gets at least, together at most `pieces`; None: nothing.
    :returns: the pieces of each cell.

    >>> divide(10, [1, 1, 2]), divide(10, [1, 1, 2], least=[8, 0, 0])
    ([3, 2, 5], [8, 1, 1])
    """
    minimum = list(least) if least else list(repeat(0, len(weights)))
    fixed: set[int] = set()
    while True:
        free = [cell for cell in range(len(weights)) if cell not in fixed]
        rest = pieces - sum(minimum[cell] for cell in fixed)
        share = dict(zip(free, _divide(rest, [weights[cell] for cell in free]), strict=True))
        below = {cell for cell in free if share[cell] < minimum[cell]}
        if not below:
            return [minimum[cell] if cell in fixed else share[cell] for cell in range(len(weights))]
        fixed |= below


def _divide(pieces: int, weights: Sequence[int]) -> list[int]:
    """Divide by the largest remainder; of equal ones the first cell gets the piece."""
    total = sum(weights)
    shares = [pieces * weight // total for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda cell: -(pieces * weights[cell] % total))
    for cell in by_remainder[: pieces - sum(shares)]:
        shares[cell] += 1
    return shares
