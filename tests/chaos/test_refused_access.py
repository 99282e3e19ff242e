"""A database that keeps the service out, or that cannot reach its own files: 503 while it lasts, and nobody has to help afterwards."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from django.db import connection

from basket_project.launcher.cluster import new_password
from baskets.models import Basket
from tests.chaos.db_inspection import DONE, UNAVAILABLE, event_kinds, outcome
from tests.domain.scenarios import User

pytestmark = pytest.mark.django_db(transaction=True)

Client = psycopg.Connection[Any]
Kill = Callable[[], None]


# --- Who may come in: class 28 ----------------------------------------------------


@pytest.fixture
def role(shopper: User, second_connection: Client, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A role of the service's own for this test, with the rights of the usual one."""
    name, password = f"service_of_{connection.settings_dict['NAME']}", new_password()
    second_connection.autocommit = True
    second_connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{password}' IN ROLE {connection.settings_dict['USER']}")
    connection.close()
    with monkeypatch.context() as renamed:
        renamed.setitem(connection.settings_dict, "USER", name)
        renamed.setitem(connection.settings_dict, "PASSWORD", password)
        yield name
        connection.close()
    second_connection.execute(f"DROP ROLE {name}")


@pytest.mark.parametrize(
    ("changed", "put_right"),
    [
        ("ALTER ROLE {role} PASSWORD 'another'", "ALTER ROLE {role} PASSWORD '{password}'"),
        ("ALTER ROLE {role} PASSWORD NULL", "ALTER ROLE {role} PASSWORD '{password}'"),
        ("ALTER ROLE {role} VALID UNTIL '2001-01-01'", "ALTER ROLE {role} VALID UNTIL 'infinity'"),
        ("ALTER ROLE {role} NOLOGIN", "ALTER ROLE {role} LOGIN"),
        ("ALTER ROLE {role} RENAME TO {role}_away", "ALTER ROLE {role}_away RENAME TO {role}; ALTER ROLE {role} PASSWORD '{password}'"),
        ("ALTER ROLE {role} CONNECTION LIMIT 0", "ALTER ROLE {role} CONNECTION LIMIT -1"),
    ],
)
def test_a_service_that_is_kept_out_says_so_until_it_is_let_in(
    changed: str,
    put_right: str,
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
    assert outcome(call("GET", "/baskets/users/anna")) == DONE  # Who is in stays in.
    kill()
    for _ in range(2):
        assert outcome(finish()) == UNAVAILABLE
        assert outcome(call("GET", "/baskets/users/anna")) == UNAVAILABLE
        assert outcome(call("GET", "/readyz")) == UNAVAILABLE
        assert call("GET", "/livez").status_code == 200
    second_connection.execute(put_right.format(**words))
    assert (shopper.lists(), event_kinds()) == before
    assert outcome(finish()) == DONE


def test_a_service_whose_rights_are_taken_away_says_so_until_it_has_them_again(
    role: str, shopper: User, second_connection: Client, finish: Callable[[], Any], call: Callable[..., Any]
) -> None:
    """As while one role takes the place of another, and its rights come a moment later."""
    shopper.start()
    before = shopper.lists(), event_kinds()
    second_connection.execute(f"REVOKE {second_connection.info.user} FROM {role}")
    assert outcome(finish()) == UNAVAILABLE
    assert outcome(call("GET", "/readyz")) == UNAVAILABLE
    second_connection.execute(f"GRANT {second_connection.info.user} TO {role}")
    assert (shopper.lists(), event_kinds()) == before
    assert outcome(finish()) == DONE
    assert outcome(call("GET", "/readyz")) == DONE


# --- What the server cannot read: class 58, and rights -------------------------------


@contextmanager
def file_of(table: str, client: Client, *, spoiled: str, restored: str) -> Iterator[None]:
    """Do something to the file of a table, as the server's own account, in its own folder."""
    client.autocommit = True
    client.execute("CHECKPOINT")  # Nothing is left to be written to that file meanwhile.
    row = client.execute("SELECT pg_relation_filepath(%s)", [table]).fetchone()
    assert row is not None
    connection.close()  # A session that has the file open would not notice.
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
def test_a_table_whose_file_cannot_be_opened_is_told_as_unavailable(
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
