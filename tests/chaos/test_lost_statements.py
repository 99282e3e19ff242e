"""Prepared statements that are stale (0A000) or lost (26000): the connection is replaced, and callers do not notice."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import psycopg
import pytest
from django.db import connection
from django.test import Client as Browser

from baskets.domain.baskets import store
from tests import seams
from tests.chaos.db_inspection import DONE, backend_pid, event_kinds, outcome
from tests.domain.scenarios import User

pytestmark = pytest.mark.django_db(transaction=True)

Client = psycopg.Connection[Any]
Spoil = Callable[[Client], AbstractContextManager[None]]
ROUND: tuple[tuple[str, str, Any], ...] = (
    ("GET", "/baskets/users/anna", None),
    ("POST", "/baskets/users/anna/products/song", {"count": 2}),
    ("POST", "/baskets/users/anna/checkout/sessions", None),
    ("POST", "/baskets/users/anna/checkout/sessions/finish-active", {"ordered": True}),
)


def altering(table: str, column: str, kept: str, wider: str) -> Spoil:
    """Return a fault that widens a column of a prepared query, as a migration does."""

    @contextmanager
    def altered(client: Client) -> Iterator[None]:
        for kind in (wider, kept):
            client.execute(f"ALTER TABLE {table} ALTER {column} TYPE {kind}")
            client.commit()
            if kind == wider:
                yield

    return altered


def clearing(sql: str) -> Spoil:
    """Return a fault that clears the service's session, as a pooler does."""

    @contextmanager
    def cleared(client: Client) -> Iterator[None]:
        with connection.cursor() as cursor:
            cursor.execute(sql)
        yield

    return cleared


SPOILED = {
    # Reading a basket uses the first table, reading a key uses the second.
    "sessions altered": altering("baskets_checkoutsession", "order_no", 'varchar(32) COLLATE "C"', 'varchar(33) COLLATE "C"'),
    "partners altered": altering("baskets_partner", "name", "varchar(100)", "varchar(101)"),
    "deallocated": clearing("DEALLOCATE ALL"),
    "discarded": clearing("DISCARD ALL"),
}
CLEARED = (SPOILED["deallocated"], SPOILED["discarded"])


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)
def test_lost_statements_between_two_calls_stay_invisible(
    spoil: Spoil, shopper: User, second_connection: Client, call: Callable[..., Any]
) -> None:
    """Each call of the round meets the fault once, on a connection that has prepared all statements."""
    for spoiled in ROUND:
        for step in ROUND:
            assert outcome(call(*step)) == DONE
        for step in ROUND:
            before = backend_pid()
            with spoil(second_connection) if step is spoiled else nullcontext():
                assert outcome(call(*step)) == DONE
            # A direct start and a direct order return no column of a session, nor the name of the partner.
            replaced = backend_pid() != before or (step in ROUND[-2:] and spoil not in CLEARED)
            assert step is not spoiled or replaced, "the connection was not replaced"
    assert event_kinds() == ["item_placed", *(["item_placed", "checkout_started", "checkout_ordered"] * 2 * len(ROUND))]


def test_transaction_whose_first_statement_is_lost_is_retried(shopper: User, second_connection: Client) -> None:
    for sql in ("DEALLOCATE ALL", "DISCARD ALL"):
        for _ in range(2):
            shopper.start()
            shopper.finish(ordered=False)
        before = backend_pid()
        with clearing(sql)(second_connection):
            shopper.start()
        assert backend_pid() != before
        shopper.finish(ordered=True)
        shopper.place("song")
    assert event_kinds().count("checkout_ordered") == 2


def test_statements_lost_in_the_middle_cost_one_try(
    shopper: User, second_connection: Client, finish: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    shopper.start()
    finish()
    shopper.start()
    tries: list[int] = []
    write_lists = store.write_lists

    def cleared_once(**arguments: Any) -> Any:
        tries.append(backend_pid())
        with clearing("DEALLOCATE ALL")(second_connection) if len(tries) == 1 else nullcontext():
            return write_lists(**arguments)

    seams.LISTS_OF_AN_END.replace(monkeypatch, cleared_once)
    assert outcome(finish()) == DONE
    assert len(set(tries)) == 2
    assert event_kinds() == ["item_placed", *(["checkout_started", "checkout_aborted"] * 2)]


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)
def test_lost_statements_between_two_admin_pages_stay_invisible(
    spoil: Spoil, shopper: User, second_connection: Client, superuser: Browser
) -> None:
    """Django prepares no statements, but the page of a basket reads it with the same statements as the API."""
    shopper.start()
    pages = [f"/admin/baskets/basket/{shopper.owner.basket_id}/change/", "/admin/baskets/basket/"]
    for page in pages * 2:
        assert superuser.get(page).status_code == 200
        with spoil(second_connection):
            assert superuser.get(page).status_code == 200
