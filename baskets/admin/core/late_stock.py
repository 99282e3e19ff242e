"""What a late order would find in stock: all of its pieces, some, or none. Computes and writes sentences, reads nothing."""

from collections.abc import Iterable
from dataclasses import dataclass

from django.utils.translation import gettext, ngettext


@dataclass(frozen=True, kw_only=True)
class LateStock:
    """The stock of one ended checkout, in pieces of limited products.

    :param wanted: pieces that a late order must reserve again.
    :param available: how many of them are available, those of lapsed checkouts included.
    """

    wanted: int
    available: int

    @property
    def missing(self) -> int:
        """The pieces that a late order would record as short."""
        return self.wanted - self.available

    def __str__(self) -> str:
        if not self.wanted:
            return gettext("It needs no stock.")
        if not self.missing:
            text = ngettext("Its 1 piece is available.", "All %(wanted)s pieces are available.", self.wanted)
        elif not self.available:
            text = ngettext("Its 1 piece is not available.", "None of the %(wanted)s pieces is available.", self.wanted)
        else:
            text = ngettext(
                "%(available)s of %(wanted)s pieces is available.", "%(available)s of %(wanted)s pieces are available.", self.available
            )
        return text % {"available": self.available, "wanted": self.wanted}


def late_stock(lines: Iterable[tuple[int, int | None]]) -> LateStock:
    """Compare what a checkout bought with the stock of today.

    :param lines: of each item whose reservation had not failed: its pieces, and the pieces that can be reserved now, None for
        an unlimited product.
    """
    limited = [(wanted, obtainable) for wanted, obtainable in lines if obtainable is not None]
    return LateStock(wanted=sum(wanted for wanted, _ in limited), available=sum(min(pair) for pair in limited))


def pieces(number: int) -> str:
    """Write a number of pieces: `1 piece`, `2 pieces`."""
    return ngettext("%(number)s piece", "%(number)s pieces", number) % {"number": number}
