"""A catalog file of JSON lines, and the errors with their lines."""

import json

import pytest

from baskets.domain.stock.catalog import UNSPECIFIED, ProductRow
from tests.domain.stock.test_catalog_file import HEADER, WHOLE, problems, read

LINE = {
    "product_id": "shirt",
    "name": "A shirt",
    "brand": "B",
    "variant": "M",
    "main_product_id": "shirts",
    "price": 1999,
    "currency": "EUR",
    "stock": 5,
}


@pytest.mark.parametrize("name", ["file.jsonl", "file.NDJSON", "file.txt", "-"])
def test_json_lines_by_name_or_first_character(name: str) -> None:
    found = read("\ufeff\n" + json.dumps(LINE) + "\n\n", name)
    assert (found.rows, found.problems) == ([WHOLE], [])


def test_a_missing_stock_key_says_nothing_and_null_is_unlimited() -> None:
    found = read('{"product_id": "a", "name": "A"}\n{"product_id": "b", "name": "B", "stock": null, "listed": false}', "-")
    assert found.rows == [
        ProductRow(product_id="a", name="A", stock=UNSPECIFIED),
        ProductRow(product_id="b", name="B", stock=None, listed=False),
    ]


@pytest.mark.parametrize("cell", ["5", " 5 ", "5.0"])
def test_pieces_may_be_written_as_programs_that_keep_decimals_do(cell: str) -> None:
    assert read(HEADER + f"a,A,,,,5,EUR,{cell}\n").rows == [ProductRow(product_id="a", name="A", price=5, currency="EUR", stock=5)]


@pytest.mark.parametrize("cells", ["5,EUR,5.", "5,EUR,5.00", "5,EUR,1.000", "5,EUR,5.5", "5,EUR,.0", "5.0,EUR,5"])
def test_no_other_number_with_a_dot_is_whole(cells: str) -> None:
    (problem,) = read(HEADER + f"a,A,,,,{cells}\n").problems
    assert problem[1].endswith("is not a whole number")


@pytest.mark.parametrize(("number", "value"), [("5", 5), ("5.0", 5), ("5e0", 5), ("0.5e1", 5), ("50e-1", 5), ("-0.0", 0), ("1e9", 10**9)])
def test_a_whole_number_may_be_written_as_json_allows(number: str, value: int) -> None:
    found = read(f'{{"product_id": "a", "name": "A", "stock": {number}, "price": {number}, "currency": "EUR"}}', "-")
    assert found.rows == [ProductRow(product_id="a", name="A", stock=value, price=value, currency="EUR")]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"product_id": "b"}', "name is missing"),
        ('{"product_id": "b", "name": "B", "color": 1}', "unknown key 'color'"),
        ('{"product_id": 7, "name": "B"}', "product_id is not a string"),
        ('{"product_id": "b", "name": "B", "stock": "5"}', "stock is not a whole number"),
        ('{"product_id": "b", "name": "B", "stock": true}', "stock is not a whole number"),
        ('{"product_id": "b", "name": "B", "stock": 2.5}', "stock is not a whole number"),
        ('{"product_id": "b", "name": "B", "stock": 1e-1}', "stock is not a whole number"),
        ('{"product_id": "b", "name": "B", "stock": 1e30}', "stock is not a whole number from 0 to 1000000000"),
        ('{"product_id": "b", "name": "B", "stock": -1.0}', "stock is not a whole number from 0 to 1000000000"),
        ('{"product_id": "b", "name": "B", "stock": NaN}', "stock is not a whole number"),
        ('{"product_id": "b", "name": "B", "stock": []}', "stock is not a whole number"),
        ('{"product_id": "b", "name": "B", "stock": 1e400}', "stock is not a whole number"),
        ('{"product_id": "b", "name": "B", "stock": -1}', "stock is not a whole number from 0 to 1000000000"),
        ('{"product_id": "b", "name": "B", "listed": 1}', "listed is neither true nor false"),
        ('{"product_id": "b\\u0000", "name": "B"}', "product_id has a control character (U+0000)"),
        ('{"product_id": "b\\ud800", "name": "B"}', "product_id has half of a surrogate pair (U+D800)"),
        ('{"product_id": "b", "name": "\\ud800"}', "name has a control character or a broken one"),
        ('{"product_id": "b", "name": "B", "name": "C"}', "this is not a JSON object (a key comes twice)"),
        ("[1]", "this is not a JSON object"),
        ("nonsense", "this is not a JSON object (Expecting value)"),
        ("[" * 100_000, "this is not a JSON object (maximum recursion depth exceeded while decoding a JSON array from a unicode string)"),
    ],
    ids=lambda value: value[:40],
)
def test_what_is_wrong_with_a_json_line(line: str, problem: str) -> None:
    found = problems('{"product_id": "a", "name": "A"}\n' + line + "\n", "file.jsonl")
    assert found == [(2, problem)]


def test_a_number_of_five_thousand_digits_is_refused() -> None:
    ((line, problem),) = problems('{"product_id": "a", "name": "A", "stock": ' + "9" * 5000 + "}", "file.jsonl")
    assert line == 1
    assert problem.startswith("this is not a JSON object (Exceeds the limit")
