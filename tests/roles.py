"""Lets a test connect as a separate role of the database, which the test may limit or lock out."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from django.db import connection

from basket_project.launcher.cluster import new_password


@contextmanager
def separate_role(client: psycopg.Connection[Any], patch: pytest.MonkeyPatch, *, options: str = "") -> Iterator[str]:
    """Connect as a new role with the rights of the usual one, in all threads, and yield its name.

    :param client: another connection of the usual role, outside of a transaction.
    :param options: as in `CREATE ROLE`.
    """
    name, password = f"service_of_{connection.settings_dict['NAME']}", new_password()
    client.autocommit = True
    client.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{password}' {options} IN ROLE {connection.settings_dict['USER']}")
    connection.close()
    with patch.context() as renamed:
        renamed.setitem(connection.settings_dict, "USER", name)
        renamed.setitem(connection.settings_dict, "PASSWORD", password)
        yield name
        connection.close()
    client.execute(f"DROP ROLE {name}")
