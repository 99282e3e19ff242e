"""What PostgreSQL's protocol expects of a client: parameters in its own notation, and one result read for each message sent."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

Parameters = Sequence[Any] | Mapping[str, Any]

PLACEHOLDER = re.compile(r"%(?:s|\((\w+)\)s)")


def to_dollar_params(sql: str) -> tuple[bytes, tuple[str, ...] | None]:
    """Replace the placeholders `%s` or `%(name)s` of a text with `$1`, `$2` ...

    :returns: the text, and the names of the parameters in their order; None where they are positional.
    """
    found = PLACEHOLDER.findall(sql)
    names = tuple(dict.fromkeys(name for name in found if name))
    positions = iter(range(1, len(found) + 1))
    text = PLACEHOLDER.sub(lambda match: f"${names.index(match[1]) + 1 if match[1] else next(positions)}", sql)
    return text.encode(), names or None


def to_array_literal(values: list[Any]) -> str:
    """Return a list as a PostgreSQL array literal. psycopg inspects the type of each element first, to no use here."""
    return "{" + ",".join(["NULL" if value is None else _escape(str(value)) for value in values]) + "}"


def _escape(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
