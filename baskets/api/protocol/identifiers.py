"""What may stand in a path or a body as an id. Product ids have the rule of the catalogue; ids of users and orders are looser.

An id of a user has 1 to 255 characters, none of which controls a terminal, a log or a line.
"""

import re
from collections.abc import Mapping

from baskets.domain.stock.catalog import MAX_ID_LENGTH, product_id_problem
from baskets.models.products import NOT_IN_PRODUCT_ID, product_id_pattern

# What the ids in a path are called here, and what the reference calls them.
PUBLIC_NAMES = {"user_id": "userId", "product_id": "productId", "order_no": "orderNo", "device_id": "deviceId"}
MAX_LENGTH = MAX_ID_LENGTH
# Unicode category Cc, the two separators that end a line in some readers, and halves of surrogate pairs.
FORBIDDEN_CHARACTERS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
# The same for the schema, in the syntax of ECMA-262.
IDENTIFIER_PATTERN = r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]+$"
IDENTIFIER_RULE = f"Must be 1 to {MAX_LENGTH} characters without control characters."
# For the schema as well. Invisible characters beyond the basic plane are refused although this pattern allows them: no
# syntax for them is common to the readers of schemas.
PRODUCT_PATTERN = product_id_pattern(r"\u0000", NOT_IN_PRODUCT_ID)
PRODUCT_RULE = f"Must be 1 to {MAX_LENGTH} characters without slash, control or invisible characters, and without a blank at either end."


def is_identifier(value: object) -> bool:
    """Check whether a value can be the id of a user or an order."""
    return isinstance(value, str) and 0 < len(value) <= MAX_LENGTH and not FORBIDDEN_CHARACTERS.search(value)


def is_product_id(value: object) -> bool:
    """Check whether a value can be the id of a product."""
    return isinstance(value, str) and product_id_problem(value) is None


def path_errors(ids: Mapping[str, str]) -> dict[str, str]:
    """Check the ids of a path.

    :returns: the rule that an id breaks, by its published name.
    """
    wrong = {}
    for name, shown in PUBLIC_NAMES.items():
        is_valid, rule = (is_product_id, PRODUCT_RULE) if name == "product_id" else (is_identifier, IDENTIFIER_RULE)
        if name in ids and not is_valid(ids[name]):
            wrong[shown] = rule
    return wrong
