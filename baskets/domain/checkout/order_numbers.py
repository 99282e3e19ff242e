"""Generates order numbers that can be dictated, and parses typed ones. Does not look up checkouts."""

import re
import secrets
import unicodedata

# No I, L, O and U: a number that is read out over the telephone is written down as it was meant.
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
NUMBER_LENGTH, GROUP_LENGTH = 16, 4
# The letter of each byte. There are 32 letters: each stands for as many bytes as the others.
LETTERS = (ALPHABET * 8).encode()
LOOK_ALIKES = str.maketrans("OIL", "011")
# A separate word in front of the number, as staff paste it from a mail: "Order no. M8DR-...", "order: M8DR-...".
LABEL = re.compile(r"\A\W*order(?:[\W_]*(?:no|nr|number))?(?=[\W_])", re.IGNORECASE)

# Words for what stands between the groups, as a number is dictated. A group that spells one of them is one in a million.
SPOKEN_SEPARATOR = re.compile(r"(?<![^\W_])(?:dash|hyphen|minus|dot|space|blank)(?![^\W_])", re.IGNORECASE)


def generate_order_no() -> str:
    """Generate an order number: 80 random bits, in four groups that can be spoken."""
    return _in_groups(secrets.token_bytes(NUMBER_LENGTH).translate(LETTERS).decode())


def parse_order_no(typed: str) -> str:
    """Read an order number that was spoken or typed, and return its one form.

    Letters and digits count and nothing else does: not their case or width, and no blank, dash, dot or `#`. O is 0,
    I and L are 1. The beginning of a number becomes the beginning of its form. Other text becomes
    text that equals no order number.

    Example: `parse_order_no("# m8dr 7hb9 tvqyqwyp.")` is `"M8DR-7HB9-TVQY-QWYP"`.
    """
    letters = "".join(filter(str.isalnum, unicodedata.normalize("NFKC", typed)))
    return _in_groups(letters.upper().translate(LOOK_ALIKES))


def parse_order_search(term: str) -> str:
    """Read an order number, or its beginning, out of a search term: "order" may stand before it, and "dash" between its groups.

    :returns: empty where the term has neither letters nor digits.
    """
    typed = LABEL.sub("", term)
    return parse_order_no(SPOKEN_SEPARATOR.sub(" ", typed)) or parse_order_no(typed)


def _in_groups(letters: str) -> str:
    return "-".join(letters[i : i + GROUP_LENGTH] for i in range(0, len(letters), GROUP_LENGTH))
