"""Copies rows between the databases of two cells, whatever their columns are. It decides nothing about which.

Rows travel as a JSON array that PostgreSQL writes and reads, so that every value keeps its exact text.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from django.db import connections

# A number that the database draws is another one in each cell.
COLUMNS = """
SELECT attname FROM pg_attribute
WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '' AND attidentity = ''
ORDER BY attnum
"""


def read_rows(database: str, table: str, where: str, parameters: Mapping[str, Any]) -> str:
    """Read rows as a JSON array.

    :param table: the name of a table, trusted.
    :param where: a condition on its columns, trusted, that may also order the rows.
    """
    with connections[database].cursor() as cursor:
        cursor.execute(f"SELECT coalesce(jsonb_agg(r), '[]')::text FROM (SELECT * FROM {table} WHERE {where}) r", parameters)  # noqa: S608 (trusted)
        ((rows,),) = cursor.fetchall()
    return str(rows)


def insert_rows(database: str, table: str, rows: str, *, renamed: Mapping[str, str], order: str) -> None:
    """Insert rows. Where the database draws the key, they get new ones, in the order of the former ones.

    :param renamed: by the name of a column, the new values by the former ones, as JSON.
    :param order: the columns that order the rows, trusted.
    """
    names = _columns_of(database, table)
    values = ", ".join(f'(%({name})s::jsonb ->> r."{name}"::text)::bigint' if name in renamed else f'r."{name}"' for name in names)
    listed = ", ".join(f'"{name}"' for name in names)
    with connections[database].cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} ({listed}) "  # noqa: S608 (trusted)
            f"SELECT {values} FROM jsonb_populate_recordset(NULL::{table}, %(rows)s::jsonb) r ORDER BY {order}",
            {**renamed, "rows": rows},
        )


def _columns_of(database: str, table: str) -> Sequence[str]:
    with connections[database].cursor() as cursor:
        cursor.execute(COLUMNS, [table])
        return [name for (name,) in cursor.fetchall()]
