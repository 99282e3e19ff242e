"""The rules for ids in paths and bodies. Does not look anything up.

The catalog defines the rule for product ids. Ids of users and orders may have any 1 to 255 characters except control
characters, which could break a terminal or a log line.
"""

import re
from collections.abc import Mapping

from baskets.domain.stock.catalog import MAX_ID_LENGTH, product_id_problem
from baskets.models.products import NOT_IN_PRODUCT_ID, product_id_pattern

# The names of ids in the URL patterns, and their names in the reference.
PUBLIC_NAMES = {
    "user_id": "userId",
    "product_id": "productId",
    "order_no": "orderNo",
    "device_id": "deviceId",
    "webhook_id": "webhookId",
}
MAX_LENGTH = MAX_ID_LENGTH
# Unicode category Cc, the line and paragraph separators, and unpaired surrogates.
FORBIDDEN_CHARACTERS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
# The same rule for the schema, as a regular expression of ECMA-262.
IDENTIFIER_PATTERN = r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]+$"
IDENTIFIER_RULE = f"Must be 1 to {MAX_LENGTH} characters without control characters."
# Also for the schema. The service refuses invisible characters beyond the basic plane too, but no notation for them is
# common to all readers of schemas.
PRODUCT_PATTERN = product_id_pattern(r"\u0000", NOT_IN_PRODUCT_ID)
PRODUCT_RULE = f"Must be 1 to {MAX_LENGTH} characters without slash, control or invisible characters, and without a blank at either end."


def is_identifier(value: object) -> bool:
    """Return whether a value can be the id of a user or an order."""
    return isinstance(value, str) and 0 < len(value) <= MAX_LENGTH and not FORBIDDEN_CHARACTERS.search(value)


def is_product_id(value: object) -> bool:
    """Return whether a value can be the id of a product."""
    return isinstance(value, str) and product_id_problem(value) is None


def path_errors(ids: Mapping[str, str]) -> dict[str, str]:
    """Check the ids of a path.

    :param ids: the ids by their names in the URL pattern.
    :returns: the rule that each wrong id breaks, by its published name.
    """
    errors = {}
    for name, public_name in PUBLIC_NAMES.items():
        is_valid, rule = (is_product_id, PRODUCT_RULE) if name == "product_id" else (is_identifier, IDENTIFIER_RULE)
        if name in ids and not is_valid(ids[name]):
            errors[public_name] = rule
    return errors
