"""The database refuses the service, or cannot read its files: 503 in the meantime, and recovery without manual steps."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from django.db import connection

from baskets.models import Basket
from tests.chaos.db_inspection import DONE, UNAVAILABLE, event_kinds, outcome
from tests.domain.scenarios import User
from tests.roles import separate_role

pytestmark = pytest.mark.django_db(transaction=True)

Client = psycopg.Connection[Any]
Kill = Callable[[], None]


# --- Authentication: class 28 -------------------------------------------------------


@pytest.fixture
def role(shopper: User, second_connection: Client, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A separate role for this test, with the rights of the usual one."""
    with separate_role(second_connection, monkeypatch) as name:
        yield name


@pytest.mark.parametrize(
    ("changed", "restored_by"),
    [
        ("ALTER ROLE {role} PASSWORD 'another'", "ALTER ROLE {role} PASSWORD '{password}'"),
        ("ALTER ROLE {role} PASSWORD NULL", "ALTER ROLE {role} PASSWORD '{password}'"),
        ("ALTER ROLE {role} VALID UNTIL '2001-01-01'", "ALTER ROLE {role} VALID UNTIL 'infinity'"),
        ("ALTER ROLE {role} NOLOGIN", "ALTER ROLE {role} LOGIN"),
        ("ALTER ROLE {role} RENAME TO {role}_away", "ALTER ROLE {role}_away RENAME TO {role}; ALTER ROLE {role} PASSWORD '{password}'"),
        ("ALTER ROLE {role} CONNECTION LIMIT 0", "ALTER ROLE {role} CONNECTION LIMIT -1"),
    ],
)
def test_refused_login_is_answered_unavailable_until_it_works(
    changed: str,
    restored_by: str,
    role: str,
    shopper: User,
    second_connection: Client,
    kill: Kill,
    finish: Callable[[], Any],
    call: Callable[..., Any],
) -> None:
    shopper.start()
    assert outcome(call("GET", "/baskets/users/anna")) == DONE
    before = shopper.lists(), event_kinds()
    words = {"role": role, "password": connection.settings_dict["PASSWORD"]}
    second_connection.execute(changed.format(**words))
    assert outcome(call("GET", "/baskets/users/anna")) == DONE  # Open connections stay open.
    kill()
    for _ in range(2):
        assert outcome(finish()) == UNAVAILABLE
        assert outcome(call("GET", "/baskets/users/anna")) == UNAVAILABLE
        assert outcome(call("GET", "/readyz")) == UNAVAILABLE
        assert call("GET", "/livez").status_code == 200
    second_connection.execute(restored_by.format(**words))
    assert (shopper.lists(), event_kinds()) == before
    assert outcome(finish()) == DONE


def test_revoked_rights_are_answered_unavailable_until_granted(
    role: str, shopper: User, second_connection: Client, finish: Callable[[], Any], call: Callable[..., Any]
) -> None:
    """This happens when a role is replaced and its rights are granted a moment later."""
    shopper.start()
    before = shopper.lists(), event_kinds()
    second_connection.execute(f"REVOKE {second_connection.info.user} FROM {role}")
    assert outcome(finish()) == UNAVAILABLE
    assert outcome(call("GET", "/readyz")) == UNAVAILABLE
    second_connection.execute(f"GRANT {second_connection.info.user} TO {role}")
    assert (shopper.lists(), event_kinds()) == before
    assert outcome(finish()) == DONE
    assert outcome(call("GET", "/readyz")) == DONE


# --- Unreadable files: class 58, and rights ------------------------------------------


@contextmanager
def file_of(table: str, client: Client, *, spoiled: str, restored: str) -> Iterator[None]:
    """Run shell commands on the file of a table, as the server's account in its data folder: before and after the block."""
    client.autocommit = True
    client.execute("CHECKPOINT")  # No later write to that file is pending.
    row = client.execute("SELECT pg_relation_filepath(%s)", [table]).fetchone()
    assert row is not None
    connection.close()  # A session that has the file open would not fail.
    client.execute(f"COPY (SELECT) TO PROGRAM 'cat >/dev/null; {spoiled.format(file=row[0])}'")
    try:
        yield
    finally:
        client.execute(f"COPY (SELECT) TO PROGRAM 'cat >/dev/null; {restored.format(file=row[0])}'")


@pytest.mark.parametrize(
    ("spoiled", "restored"),
    [("mv {file} {file}.away", "mv {file}.away {file}"), ("chmod 000 {file}", "chmod 600 {file}")],
    ids=["away", "unreadable"],
)
@pytest.mark.parametrize("table", ["baskets_basket", "baskets_event", "baskets_apikey"])
def test_unreadable_table_file_is_answered_unavailable(
    table: str, spoiled: str, restored: str, shopper: User, second_connection: Client, finish: Callable[[], Any]
) -> None:
    shopper.start()
    before = shopper.lists(), event_kinds()
    with file_of(table, second_connection, spoiled=spoiled, restored=restored):
        for _ in range(2):
            assert outcome(finish()) == UNAVAILABLE
    assert (shopper.lists(), event_kinds()) == before
    assert outcome(finish()) == DONE
    assert Basket.objects.count() == 1
