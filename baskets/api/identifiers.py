"""What may stand in a path as an id: 1 to 255 characters, none of which controls a terminal, a log or a line."""

import re

# What the ids in a path are called here, and what the reference calls them.
PUBLISHED = {"user_id": "userId", "product_id": "productId", "order_no": "orderNo"}
LONGEST = 255
# Unicode category Cc, the two separators that end a line in some readers, and halves of surrogate pairs.
FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
# The same for the schema, in the syntax of ECMA-262.
PATTERN = r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]+$"
RULE = f"Must be 1 to {LONGEST} characters without control characters."


def is_identifier(value: object) -> bool:
    """Tell whether a value can be the id of a user, product or order."""
    return isinstance(value, str) and 0 < len(value) <= LONGEST and not FORBIDDEN.search(value)
