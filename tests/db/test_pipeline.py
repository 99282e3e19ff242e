"""Queued statements: they run in order, in few round trips, and no statement runs alone."""

import contextlib
import sys
import tempfile
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from django.db import DatabaseError, connection, transaction
from django.test import Client

from baskets.db.pipeline import execute, pipeline
from baskets.db.statements import Statement, expect_rows
from baskets.db.transactions import run_in_transaction
from baskets.domain.access.api_keys import issue_api_key
from baskets.models import Partner
from baskets.models.basket_snapshot import Owner
from tests.domain.scenarios import User
from tests.factories import TESTER, PartnerFactory, ProductFactory

pytestmark = pytest.mark.django_db(transaction=True)

RENAME = "UPDATE baskets_partner SET name = %s WHERE id = %s"
FAIL = "SELECT 1 / %s::int"


@pytest.fixture
def row() -> Partner:
    """A row to change."""
    return PartnerFactory(name="before")


def name_of(row: Partner) -> str:
    return str(Partner.objects.get(pk=row.pk).name)


def test_queued_statements_are_sent_with_the_commit(row: Partner) -> None:
    run_in_transaction(lambda: execute(RENAME, ["after", row.pk]))
    assert name_of(row) == "after"


def test_a_django_query_sees_what_was_queued_before_it(row: Partner) -> None:
    def step() -> str:
        execute(RENAME, ["after", row.pk])
        return name_of(row)

    assert run_in_transaction(step) == "after"


def test_after_an_error_nothing_is_left(row: Partner) -> None:
    def step() -> None:
        execute(RENAME, ["after", row.pk])
        execute(FAIL, [0])
        execute(RENAME, ["later", row.pk])

    with pytest.raises(DatabaseError, match="division by zero"):
        run_in_transaction(step)
    assert name_of(row) == "before"


def test_what_the_program_gives_up_is_never_sent(row: Partner) -> None:
    def step() -> None:
        execute(RENAME, ["after", row.pk])
        raise LookupError

    with pytest.raises(LookupError):
        run_in_transaction(step)
    assert name_of(row) == "before"


def test_a_transaction_around_it_decides_about_the_commit(row: Partner) -> None:
    with transaction.atomic():
        with pipeline():
            execute(RENAME, ["after", row.pk])
        transaction.set_rollback(True)
    assert name_of(row) == "before"


def test_a_transaction_is_refused_while_a_pipeline_is_open(row: Partner) -> None:
    with pipeline():
        execute(RENAME, ["after", row.pk])
        with pytest.raises(RuntimeError, match=r"inside of a pipeline\(\) block"):
            run_in_transaction(lambda: execute(RENAME, ["never", row.pk]))
        assert connection.get_autocommit()
    assert name_of(row) == "after"


def test_a_transaction_of_django_is_refused_while_a_pipeline_is_open(row: Partner) -> None:
    """Its end would send nothing: what it reports as committed would be lost with the block, and what it rolls back would be written."""
    with contextlib.suppress(LookupError), pipeline():
        with pytest.raises(RuntimeError, match=r"inside of a pipeline\(\) block"), transaction.atomic():
            execute(RENAME, ["never", row.pk])
        assert connection.get_autocommit()
        raise LookupError
    with transaction.atomic():
        execute(RENAME, ["after", row.pk])
    assert name_of(row) == "after"


def test_a_savepoint_inside_of_a_pipeline_decides_about_its_statements(row: Partner) -> None:
    def step() -> None:
        with contextlib.suppress(LookupError), transaction.atomic():
            execute(RENAME, ["never", row.pk])
            raise LookupError
        with transaction.atomic():
            execute("UPDATE baskets_partner SET name = name || %s WHERE id = %s", [" and after", row.pk])

    run_in_transaction(step)
    assert name_of(row) == "before and after"


def test_a_savepoint_is_no_transaction_to_commit(row: Partner) -> None:
    with transaction.atomic():
        with transaction.atomic(), pipeline(commit=True):
            execute(RENAME, ["after", row.pk])
        transaction.set_rollback(True)
    assert name_of(row) == "before"


def test_a_statement_that_could_not_be_prepared_is_prepared_the_next_time() -> None:
    for _ in range(2):
        with pytest.raises(DatabaseError, match="no_such_column"):
            execute("SELECT no_such_column", [])
    assert execute(FAIL, [1]).fetchone() == (1,)


def test_a_session_that_was_cleared_is_left_for_a_new_one(row: Partner) -> None:
    run_in_transaction(lambda: execute(RENAME, ["once", row.pk]))
    with connection.cursor() as cursor:
        cursor.execute("DEALLOCATE ALL")
    run_in_transaction(lambda: execute(RENAME, ["again", row.pk]))
    assert name_of(row) == "again"


def test_a_row_that_must_be_there_is_demanded_without_waiting_for_it(row: Partner) -> None:
    """The transaction fails with the error that the caller passed, and only for its own division."""
    demanded = LookupError("no such row")

    def step(found: int) -> None:
        execute(RENAME, ["after", row.pk])
        execute(expect_rows("generate_series(1, %s::int)"), [found], on_no_rows=demanded)

    with pytest.raises(LookupError) as failure:
        run_in_transaction(lambda: step(0))
    assert failure.value is demanded
    assert name_of(row) == "before"
    run_in_transaction(lambda: step(1))
    assert name_of(row) == "after"
    with pytest.raises(DatabaseError, match="division by zero"):
        run_in_transaction(lambda: execute(FAIL, [0]))


def test_rows_are_handed_out_once(row: Partner) -> None:
    answer = execute("SELECT generate_series(1, %s::int)", [3])
    assert (answer.rowcount, answer.fetchone()) == (3, (1,))
    assert answer.fetchall() == [(2,), (3,)]
    assert answer.fetchone() is None


@pytest.mark.parametrize("text", ["", "NULL", "null", 'say "so"', "a,b", "{c}", "back\\slash", "two\nlines", " blanks ", "ä€😀", "%s"])
def test_a_text_in_a_list_arrives_as_it_is(text: str) -> None:
    assert execute("SELECT %s::text[]", [[text, None, "x"]]).fetchone() == ([text, None, "x"],)


def test_moments_keys_and_numbers_in_a_list_arrive_as_they_are() -> None:
    now, key = datetime.now(UTC), uuid4()
    answer = execute("SELECT %s::timestamptz[], %s::uuid[], %s::bigint[], %s::text[]", [[now], [key], [-1, None], []])
    assert answer.fetchone() == ([now], [key], [-1, None], [])


@pytest.mark.skipif(sys.platform != "linux", reason="libpq's trace is offered on Linux only")
def test_round_trips_of_the_calls_a_crowd_makes() -> None:
    """Counted on the wire, BEGIN and COMMIT included: each ends with the server saying that it is ready."""
    partner = PartnerFactory()
    _, key = issue_api_key(partner_name=partner.name, kind="server", label="", actor=TESTER)
    for name in ("shirt", "cap", "song"):
        ProductFactory(product_id=name, unsold=50)
    user = User(Owner(partner_id=partner.pk, user_id="anna"))

    def trips(method: str, path: str, body: object = None) -> int:
        with tempfile.TemporaryFile() as trace:
            connection.connection.pgconn.trace(trace.fileno())
            url = f"/baskets/users/anna{path}"
            answer = Client().generic(method, url, body or "{}", content_type="application/json", headers={"X-API-Key": key})
            connection.connection.pgconn.untrace()
            assert answer.status_code == 200
            trace.seek(0)
            return trace.read().count(b"ReadyForQuery")

    counted: dict[str, int] = {}
    for _ in range(2):
        for name in ("shirt", "cap", "song"):
            counted["add"] = trips("POST", f"/products/{name}", '{"count": 2}')
        counted["start"] = trips("POST", "/checkout/sessions")
        counted["abort"] = trips("POST", "/checkout/sessions/finish-active", '{"ordered": false}')
        counted["get"] = trips("GET", "")
        user.start()
        counted["order"] = trips("POST", "/checkout/sessions/finish-active", '{"ordered": true}')
    assert counted == {"add": 2, "start": 1, "abort": 3, "get": 1, "order": 1}


def test_a_statement_names_itself_on_the_server() -> None:
    """Two texts under one name are two prepared statements, so two releases can share a session."""
    one, two = Statement("rename_partner", RENAME), Statement("rename_partner", RENAME + " ")
    for statement in (one, two):
        execute(statement, ["after", 0]).fetchall()
    names = {name for (name,) in execute("SELECT name FROM pg_prepared_statements WHERE name LIKE 'baskets_rename_partner_%%'", [])}
    assert names == {one.prepared_name.decode(), two.prepared_name.decode()}
    assert len(names) == 2
