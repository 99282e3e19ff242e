"""`check_baskets` at the shell: silent over sound data, loud and exit code 1 over broken data, and never a writer."""

from collections.abc import Iterator

import pytest
from django.db import connection

from baskets.domain.maintenance import invariant_checker
from baskets.models import Stock
from tests.commands.conftest import Run
from tests.factories import ProductFactory

pytestmark = pytest.mark.django_db(transaction=True)


def test_sound_data(run: Run) -> None:
    ProductFactory(product_id="shirt", unsold=3)
    done = run("check_baskets")
    assert (done.code, done.out, done.err) == (0, f"All {invariant_checker.invariant_count()} rules hold.\n", "")
    assert run("check_baskets", "--json").data == {"checked": invariant_checker.invariant_count(), "findings": []}


def test_broken_data_is_listed_and_left_as_it_is(run: Run) -> None:
    ProductFactory(product_id="shirt", unsold=3)
    Stock.objects.update(available=4, reported=4)
    done = run("check_baskets")
    assert done.code == 1
    assert done.out == (
        "supply_equation (rule 1), 1 times not true:\n"
        "  The supply of each product is what is available, held and sold, less the shortfall.\n"
        '  - {"product_id": "shirt", "supply": 3, "available": 4, "held": 0, "sold": 0, "shortfall": 0}\n'
    )
    assert done.err == f"CommandError: 1 of {invariant_checker.invariant_count()} rules are broken.\n"
    (finding,) = run("check_baskets", "--json").data["findings"]
    assert (finding["slug"], finding["rule"], finding["total"]) == ("supply_equation", 1, 1)
    assert Stock.objects.get().available == 4


def test_more_than_can_be_shown(run: Run) -> None:
    for n in range(invariant_checker.MAX_EXAMPLES + 5):
        ProductFactory(product_id=f"shirt-{n}", unsold=3)
    Stock.objects.update(available=4, reported=4)
    out = run("check_baskets").out
    assert out.count("  - {") == invariant_checker.MAX_EXAMPLES
    assert out.endswith("  - and 5 more\n")


def test_the_check_reads_one_snapshot_and_cannot_write() -> None:
    seen = []

    def look(_: int) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only')")
            seen.append(cursor.fetchone())

    assert invariant_checker.check(advance=look) == []
    assert set(seen) == {("repeatable read", "on")}
    assert len(seen) == invariant_checker.invariant_count()


@pytest.fixture
def read_only() -> Iterator[None]:
    """A database that takes no writes, as a standby."""
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = on")
    yield
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = off")


@pytest.mark.parametrize(("available", "code"), [(3, 0), (4, 1)])
def test_a_database_that_takes_no_writes_is_checked_all_the_same(
    run: Run, available: int, code: int, request: pytest.FixtureRequest
) -> None:
    ProductFactory(product_id="shirt", unsold=3)
    Stock.objects.update(available=available, reported=available)
    request.getfixturevalue("read_only")
    done = run("check_baskets", "--json")
    assert (done.code, len(done.data["findings"])) == (code, code)
    assert done.err.startswith("The result is not on the work list of staff: the database could not be written to.\n")
