"""`import_products` at the shell: what it takes, what it says, how it ends."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from baskets.models import Product, StockAdjustment
from tests.commands.conftest import Run
from tests.domain.scenarios import available

pytestmark = pytest.mark.django_db(transaction=True)

HEADER = "product_id,name,brand,variant,main_product_id,price,currency,stock\n"
GOOD = HEADER + "shirt,Shirt,,,,1999,EUR,5\nsong,Song,,,,99,EUR,\n"


@pytest.fixture
def file(tmp_path: Path) -> Callable[..., str]:
    def write(text: str | bytes, name: str = "file.csv") -> str:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return write


def test_a_file_is_imported(run: Run, file: Callable[..., str]) -> None:
    done = run("import_products", file(GOOD))
    assert (done.code, done.out, done.err) == (0, "Imported 2 products: 2 new, 0 changed, 0 as they were; stock changed of 1.\n", "")
    assert available("shirt") == (5, 0)
    assert StockAdjustment.objects.values_list("reason", "actor").get() == ("import", "import_products")


def test_standard_input_and_json(run: Run) -> None:
    done = run("import_products", "-", "--json", stdin=b'{"product_id": "a", "name": "A", "stock": 3}\n')
    assert done.code == 0
    assert done.data == {
        "products": 1, "created": 1, "changed": 0, "unchanged": 0, "stock_changed": 1,
        "became_unlimited": [], "older_than_known": [], "dry_run": False,
    }  # fmt: skip


@pytest.mark.parametrize("option", ["--dry-run", "--json"])
def test_products_that_become_unlimited_or_keep_a_later_report_are_named(run: Run, file: Callable[..., str], option: str) -> None:
    assert run("import_products", file(HEADER + "shirt,Shirt,,,,,,5\n" + "".join(f"p{n:02},P,,,,,,1\n" for n in range(22)))).code == 0
    assert run("import_products", file(HEADER + "cap,Cap,,,,,,2\n"), "--as-of", "2026-01-01T00:00:00Z").code == 0
    unlimited = file(HEADER + "shirt,Shirt,,,,,,\nsong,Song,,,,,,\ncap,Cap,,,,,,7\n")
    done = run("import_products", unlimited, option)
    if option == "--json":
        assert (done.data["stock_changed"], done.data["became_unlimited"], done.data["older_than_known"]) == (1, ["shirt"], [])
    else:
        assert done.out.endswith("; stock changed of 1.\nStock of 1 became unlimited: shirt.\n")
    old = file(HEADER + "".join(f"p{n:02},P,,,,,,9\n" for n in range(22)) + "cap,Cap,,,,,,9\n")
    done = run("import_products", old, "--as-of", "2026-01-01T00:00:00Z", option)
    names = [f"p{n:02}" for n in range(22)]
    if option == "--json":
        assert done.data["older_than_known"] == ["cap", *names]
    else:
        outdated = f"Stock of 22 older than what is known, so unchanged: {', '.join(names[:20])} and 2 more."
        assert done.out == f"Would have imported 23 products: 0 new, 0 changed, 23 as they were; stock changed of 1.\n{outdated}\n"


def test_a_rehearsal_changes_nothing(run: Run, file: Callable[..., str], stored_rows: Callable[[], dict[str, list[Any]]]) -> None:
    before = stored_rows()
    done = run("import_products", file(GOOD), "--dry-run")
    assert (done.code, done.out) == (
        0,
        "Would have imported 2 products: 2 new, 0 changed, 0 as they were; stock changed of 1.\n",
    )
    assert stored_rows() == before


def test_one_bad_line_stops_all_of_it(run: Run, file: Callable[..., str]) -> None:
    done = run("import_products", file(GOOD + "cap,,,,,,,1\ncap,Cap,,,,,,x\n"))
    assert (done.code, done.out) == (1, "")
    assert done.err == (
        "line 4: name is empty\n"
        "line 5: stock 'x' is not a whole number\n"
        "line 5: product_id 'cap' is on line 4 already\n"
        "CommandError: Nothing was imported: 3 problems.\n"
    )
    assert not Product.objects.exists()


def test_problems_as_json(run: Run, file: Callable[..., str]) -> None:
    done = run("import_products", file(HEADER + "".join(f"p{n},,,,,,,1\n" for n in range(101))), "--json")
    assert (done.code, done.data["problem_count"], len(done.data["problems"])) == (1, 101, 100)
    assert done.data["problems"][0] == {"line": 2, "problem": "name is empty"}
    assert done.err == "CommandError: Nothing was imported: 101 problems, of which 1 are not shown.\n"


@pytest.mark.parametrize(
    ("time", "code", "message"),
    [
        ("2999-01-01T00:00:00Z", 1, "The moment of the stock numbers is in the future, by the database's clock."),
        ("2026-01-01T00:00:00", 2, "'2026-01-01T00:00:00' lacks its offset from UTC"),
        ("yesterday", 2, "'yesterday' is not a time in ISO 8601"),
        ("0001-01-01T00:00:00+14:00", 2, "'0001-01-01T00:00:00+14:00' is out of range"),
        ("", 2, "'' is not a time in ISO 8601"),
    ],
)
def test_the_moment_of_the_numbers_is_one_and_past(run: Run, file: Callable[..., str], time: str, code: int, message: str) -> None:
    done = run("import_products", file(GOOD), "--as-of", time)
    assert (done.code, message in done.err) == (code, True)
    assert not Product.objects.exists()


def test_an_offset_is_understood(run: Run, file: Callable[..., str]) -> None:
    assert run("import_products", file(GOOD), "--as-of", "2026-01-31T12:00:00+02:00").code == 0
    assert StockAdjustment.objects.get().as_of.isoformat() == "2026-01-31T10:00:00+00:00"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.csv", "cannot be read: No such file or directory."),
        (".", "cannot be read: Is a directory."),
        ("x" * 5000, "cannot be read: File name too long."),
    ],
    ids=["missing", "directory", "long"],
)
def test_a_file_that_cannot_be_opened(run: Run, name: str, message: str) -> None:
    done = run("import_products", name)
    assert (done.code, done.out) == (1, "")
    assert message in done.err
    assert done.err.count("\n") == 1


def test_no_file_is_wrong_usage(run: Run) -> None:
    assert run("import_products").code == 2
