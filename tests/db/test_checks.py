"""What `manage.py check --database default` finds in a database that differs from what the release needs."""

import io
from typing import Any

import pytest
import structlog
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import connection
from django.db.utils import ProgrammingError

from basket_project.settings import DATABASE_SESSION
from baskets.checks import check_stored_secrets
from baskets.db import checks
from baskets.domain.access import signing_keys
from tests.factories import TESTER

pytestmark = pytest.mark.django_db
# The test cluster may run without them, for speed.
EXPECTED_IN_TESTS = {"baskets.W011"}
IDLE = "idle_in_transaction_session_timeout"


def found() -> dict[str, str]:
    """Return the messages by id."""
    return {str(one.id): str(one.msg) for one in checks.check_database(databases=["default"]) if one.id not in EXPECTED_IN_TESTS}


def run(sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)


@pytest.fixture(autouse=True)
def production_idle_limit(db: None) -> None:
    """Other tests may leave their transactions idle for longer."""
    run(f"SET LOCAL {IDLE} = '{DATABASE_SESSION[IDLE]}'")


def test_a_migrated_database_has_no_findings() -> None:
    assert found() == {}


def test_without_a_named_database_nothing_is_queried(django_assert_num_queries: pytest.FixtureRequest) -> None:
    with django_assert_num_queries(0):  # type: ignore[operator] # pytest-django's fixture is a function.
        assert checks.check_database(databases=None) == []


@pytest.mark.parametrize(
    ("change", "check_id", "text"),
    [
        ("SET LOCAL statement_timeout = 0", "baskets.W010", "statement_timeout is 0, not 10s"),
        ("SET LOCAL lock_timeout = '2999ms'", "baskets.W010", "lock_timeout is 2999ms, not 3s"),
        ("SET LOCAL default_transaction_isolation = 'serializable'", "baskets.E081", "not read committed"),
        ("SET LOCAL transaction_read_only = on", "baskets.W012", "accepts no writes"),
        ("ALTER TABLE baskets_product DROP CONSTRAINT {constraint}", "baskets.E082", "enforces a rule"),
        ("ALTER DOMAIN baskets_stock_row DROP CONSTRAINT available_is_not_negative", "baskets.E082", "enforces a rule"),
        ("ALTER TABLE baskets_stock DROP CONSTRAINT baskets_stock_row_is_valid", "baskets.E082", "enforces a rule"),
        ("DROP INDEX {index}", "baskets.W015", "is missing"),
        ("UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{index}'::regclass", "baskets.W016", "is invalid"),
    ],
)
def test_each_difference_has_an_id(change: str, check_id: str, text: str) -> None:
    from baskets.models import Event, Product  # noqa: PLC0415 (the parameters are built without the registry)

    names = {"constraint": Product._meta.constraints[0].name, "index": Event._meta.indexes[0].name}
    run(change.format(**names))
    assert text in found()[check_id]


@pytest.mark.parametrize(("version", "ids"), [("140022", 1), ("150000", 0), ("180000", 0)])
def test_server_series_without_fixes_are_named(version: str, ids: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_setting", lambda *_: version)
    with connection.cursor() as cursor:
        assert [one.id for one in checks.check_server_version(cursor)] == ["baskets.W013"] * ids


@pytest.mark.parametrize(("offset", "ids"), [(0, 0), (-60, 1), (60, 1)])
def test_a_wrong_clock_is_named(offset: int, ids: int, monkeypatch: pytest.MonkeyPatch) -> None:
    now = checks.time.time
    monkeypatch.setattr(checks.time, "time", lambda: now() + offset)
    with connection.cursor() as cursor:
        assert [one.id for one in checks.check_clock(cursor)] == ["baskets.W014"] * ids


def test_outdated_statistics_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "OUTDATED_STATISTICS", "SELECT 'baskets_event' WHERE %s > 0")
    assert found() == {"baskets.W017": "The statistics of baskets_event are outdated: plans may be slow."}


def test_secrets_that_no_configured_key_decrypts_are_named(settings: Any) -> None:
    signing_keys.rotate(actor=TESTER)
    assert [one.id for one in check_stored_secrets(databases=["default"])] == []
    settings.SECRET_KEY = "another-" + "0123456789" * 5
    assert [one.id for one in check_stored_secrets(databases=["default"])] == ["baskets.W018"]
    assert check_stored_secrets(databases=None) == []


def test_a_server_that_does_not_run_the_checks_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(cursor: object) -> list[object]:
        del cursor
        raise ProgrammingError("no rights")

    monkeypatch.setattr(checks, "CHECKS", (fail,))
    assert found() == {"baskets.E080": "The database cannot be checked: no rights"}


def test_the_command_fails_for_errors_alone() -> None:
    run("SET LOCAL statement_timeout = '9s'")
    written = io.StringIO()
    call_command("check", databases=["default"], stderr=written)
    assert "(baskets.W010) statement_timeout is 9s, not 10s" in written.getvalue()
    run("SET LOCAL default_transaction_isolation = 'serializable'")
    with pytest.raises(SystemCheckError, match=r"baskets\.E081"):
        call_command("check", databases=["default"], stderr=io.StringIO())


def test_a_start_logs_each_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks.connections, "close_all", lambda: None)  # The connection of the test.
    run("SET LOCAL statement_timeout = '9s'")
    with structlog.testing.capture_logs() as lines:
        checks.log_findings()
    assert {line["event"] for line in lines} == {"database_finding"}
    assert "baskets.W010" in {line["id"] for line in lines}
