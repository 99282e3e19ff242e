"""One SQL text that is prepared once per connection, and parameters in the notation of PostgreSQL.

Note [Expected rows]
A statement that only makes sure that rows were found does not need a round trip to find that out: `expect_rows(source)` ends
it with `SELECT 1 / count(*)` over these rows. Where there are none, the division by zero fails the transaction on the server, and
the exception given as `on_no_rows` is raised in its place.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NewType

Parameters = Sequence[Any] | Mapping[str, Any]
# An array as PostgreSQL writes it. A long one that only goes from one statement to the next stays text: to read and write 300 keys takes
# Python 1 ms.
ArrayLiteral = NewType("ArrayLiteral", str)

PLACEHOLDER = re.compile(r"%(?:s|\((\w+)\)s)")


class Statement:
    """One constant SQL text with `%s` or `%(name)s` placeholders, prepared once per connection.

    :param name: lower-case words joined by `_`; it begins the name in `pg_prepared_statements` and in error reports.
    :param sql: what varies is a parameter. Parameters are sent as text and the server infers their types; where that leaves a
        choice, the text has a cast.

    >>> RENAME = Statement("rename_product", "UPDATE baskets_product SET name = %s WHERE id = %s")
    """

    __slots__ = ("dollar_sql", "name", "names", "prepared_name", "sql")

    def __init__(self, name: str, sql: str) -> None:
        self.name = name
        self.sql = sql
        self.dollar_sql, self.names = to_dollar_params(sql)
        # The digest tells two releases apart that share a session behind a pooler.
        self.prepared_name = f"baskets_{name}_{hashlib.sha256(sql.encode()).hexdigest()[:12]}".encode()

    def __repr__(self) -> str:
        return f"Statement({self.prepared_name.decode()})"

    def in_order(self, parameters: Parameters) -> list[Any]:
        """Return the parameters in the order of the placeholders."""
        return list(parameters if self.names is None else map(parameters.__getitem__, self.names))  # type: ignore[arg-type] # A mapping.


def expect_rows(source: str, *, number: str | None = None) -> str:
    """Return the end of a statement that fails where the named CTE has no rows. See Note [Expected rows].

    :param number: a placeholder; the statement fails where the CTE has another number of rows than its value.
    """
    divisor = "count(*)" if number is None else f"(count(*) = {number})::int"
    return f"SELECT 1 / {divisor} FROM {source}"  # noqa: S608 (both are constants of ours)


def to_dollar_params(sql: str) -> tuple[bytes, tuple[str, ...] | None]:
    """Replace the placeholders `%s` or `%(name)s` of a text with `$1`, `$2` ...

    :returns: the text, and the names of the parameters in their order; None where they are positional.
    """
    found = PLACEHOLDER.findall(sql)
    names = tuple(dict.fromkeys(name for name in found if name))
    positions = iter(range(1, len(found) + 1))
    text = PLACEHOLDER.sub(lambda match: f"${names.index(match[1]) + 1 if match[1] else next(positions)}", sql)
    return text.encode(), names or None


def to_array_literal(values: list[Any]) -> ArrayLiteral:
    """Return a list as a PostgreSQL array literal. psycopg inspects the type of each element first, to no use here."""
    texts = ["NULL" if value is None else '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"' for value in values]
    return ArrayLiteral("{" + ",".join(texts) + "}")
