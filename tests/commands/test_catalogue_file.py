"""What a catalogue file may look like, and what is said about one that may not, with the line."""

import io
import json

import pytest

from baskets.domain.catalogue import LEFT_ALONE, ProductRow
from baskets.management import catalogue_file

HEADER = "product_id,name,brand,variant,main_product_id,price,currency,stock\n"
WHOLE = ProductRow(
    product_id="shirt", name="A shirt", brand="B", variant="M", main_product_id="shirts", price=1999, currency="EUR", stock=5
)


def read(text: str | bytes, name: str = "file.csv") -> catalogue_file.CatalogueFile:
    return catalogue_file.read(io.BytesIO(text if isinstance(text, bytes) else text.encode()), name=name)


def problems(text: str | bytes, name: str = "file.csv") -> list[tuple[int, str]]:
    found = read(text, name)
    assert found.problem_count >= len(found.problems) > 0
    return found.problems


# --- CSV ------------------------------------------------------------------------


def test_a_whole_row() -> None:
    found = read(HEADER + "shirt,A shirt,B,M,shirts,1999,EUR,5\n")
    assert (found.rows, found.problems) == ([WHOLE], [])


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + HEADER + "shirt,A shirt,B,M,shirts,1999,EUR,5",
        (HEADER + "shirt,A shirt,B,M,shirts,1999,EUR,5\n").replace("\n", "\r\n"),
        "\n" + HEADER + "\n\nshirt,A shirt,B,M,shirts,1999,EUR,5\n\n",
        "stock, currency ,price,main_product_id,variant,brand,name,product_id\n5,EUR,1999,shirts,M,B,A shirt,shirt\n",
        HEADER + '"shirt","A shirt","B","M","shirts","1999","EUR","5"\n',
    ],
    ids=["byte order mark", "carriage returns", "blank lines", "any order", "all quoted"],
)
def test_the_same_row_in_other_clothes(text: str) -> None:
    assert read(text).rows == [WHOLE]


def test_empty_cells_are_no_price_and_unlimited_stock() -> None:
    assert read(HEADER + "song,Song,,,,,,\n").rows == [ProductRow(product_id="song", name="Song", stock=None)]


def test_no_stock_column_leaves_stock_alone() -> None:
    header = HEADER.replace(",stock", "")
    assert read(header + "song,Song,,,,,\n").rows[0].stock is LEFT_ALONE


@pytest.mark.parametrize(("cell", "listed"), [("true", True), ("TRUE", True), ("1", True), ("false", False), ("0", False), ("", None)])
def test_listed_is_a_flag_or_says_nothing(cell: str, listed: bool | None) -> None:
    header = HEADER.replace("stock", "listed")
    assert read(header + f"song,Song,,,,,,{cell}\n").rows[0].listed is listed


def test_quoted_line_breaks_belong_to_the_value_and_keep_the_lines_right() -> None:
    text = HEADER + 'a,"two\nlines",,,,,,1\n\nb,B,,,,x,,1\n'
    found = read(text)
    assert found.rows[0].name == "two\nlines"
    assert found.problems == [(5, "price 'x' is not a whole number")]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (",N,,,,,,1", "product_id is empty"),
        ("a,,,,,,,1", "name is empty"),
        (f"{'x' * 256},N,,,,,,1", "product_id has 256 characters, 255 at most"),
        (f"a,{'x' * 501},,,,,,1", "name has 501 characters, 500 at most"),
        (f"a,N,,,{'x' * 256},,,1", "main_product_id has 256 characters, 255 at most"),
        ("a\x00b,N,,,,,,1", "product_id has a control character or a broken one"),
        ('"a\nb",N,,,,,,1', "product_id has a control character or a broken one"),
        ("a,N\x00,,,,,,1", "name has a control character or a broken one"),
        ("a,N\x1b[31m,,,,,,1", "name has a control character or a broken one"),
        ("a,N,,,,-1,EUR,1", "price '-1' is not a whole number"),
        ("a,N,,,,19.99,EUR,1", "price '19.99' is not a whole number"),
        ("a,N,,,,\uff11\uff12,EUR,1", "price '\uff11\uff12' is not a whole number"),
        ("a,N,,,,1000000000001,EUR,1", "price is not a whole number from 0 to 1000000000000"),
        ("a,N,,,,5,,1", "price has no currency"),
        ("a,N,,,,5,eur,1", "currency is not three capital letters"),
        ("a,N,,,,5,EURO,1", "currency is not three capital letters"),
        ("a,N,,,,,E\xc9R,1", "currency is not three capital letters"),
        ("a,N,,,,,,-1", "stock '-1' is not a whole number"),
        ("a,N,,,,,,1e3", "stock '1e3' is not a whole number"),
        ("a,N,,,,,,none", "stock 'none' is not a whole number"),
        ("a,N,,,,,,1000000001", "stock is not a whole number from 0 to 1000000000"),
        (f"a,N,,,,,,{'9' * 5000}", f"stock '{'9' * 40}' is not a whole number"),
        ("a,N,,,,,", "7 cells, where the header has 8"),
        ("a,N,,,,,,1,2", "9 cells, where the header has 8"),
    ],
)
def test_what_is_wrong_with_a_row_is_told_with_its_line(line: str, problem: str) -> None:
    assert problems(HEADER + "fine,Fine,,,,,,1\n" + line + "\n") == [(3, problem)]


def test_the_limits_themselves_are_fine() -> None:
    found = read(HEADER + f"{'x' * 255},{'n' * 500},{'b' * 255},,,1000000000000,EUR,1000000000\n")
    assert (len(found.rows), found.problems) == (1, [])


def test_everything_wrong_is_told_at_once() -> None:
    assert problems(HEADER + ",,,,,x,,-1\nb,B,,,,5,,1\n") == [
        (2, "price 'x' is not a whole number"),
        (2, "stock '-1' is not a whole number"),
        (2, "product_id is empty"),
        (2, "name is empty"),
        (3, "price has no currency"),
    ]


def test_a_product_that_comes_twice_names_both_lines() -> None:
    assert problems(HEADER + "a,A,,,,,,1\nb,B,,,,,,1\na,A,,,,,,1\n") == [(4, "product_id 'a' is on line 2 already")]


def test_problems_are_counted_all_and_shown_up_to_a_hundred() -> None:
    found = read(HEADER + "".join(f"p{n},,,,,,,1\n" for n in range(250)))
    assert (found.problem_count, len(found.problems), found.rows) == (250, 100, [])


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        ("product_id,name,brand,variant,main_product_id,price,stock", "missing column currency"),
        ("product_id,name", "missing column brand, variant, main_product_id, currency, price"),
        (HEADER.strip() + ",colour,size", "unknown column 'colour', 'size'"),
        (HEADER.strip() + ",stock", "repeated column stock"),
        (
            HEADER.strip().replace(",", ";"),
            f"unknown column {HEADER.strip().replace(',', ';')[:60]!r}; missing column " + ", ".join(catalogue_file.REQUIRED),
        ),
    ],
)
def test_columns_are_named(header: str, problem: str) -> None:
    told = f"{problem}; the columns are product_id,name,brand,variant,main_product_id,currency,price and perhaps stock,listed"
    assert problems(header + "\na,b\n") == [(1, told)]


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        (b"", 1, "the file is empty"),
        (b"\n \n", 1, "the file is empty"),
        (b"\xef\xbb\xbf", 1, "the file is empty"),
        (HEADER.encode(), 1, "there is no product in the file"),
        (HEADER.encode() + b"a,caf\xe9,,,,,,1\n", 2, "byte 6 of the line is not UTF-8"),
        (HEADER.encode() + b"a,\xed\xa0\x80,,,,,,1\n", 2, "byte 3 of the line is not UTF-8"),
        (HEADER.encode("utf-16"), 1, "byte 1 of the line is not UTF-8"),
        (HEADER.encode() + b"x" * 1_048_577, 2, "the line is longer than 1048576 bytes"),
    ],
)
def test_what_cannot_be_read_at_all(text: bytes, line: int, problem: str) -> None:
    assert problems(text) == [(line, problem)]


@pytest.mark.parametrize("rest", ['a,"open', 'a,"b"c,,,,,,1\n', "a,b\rc,,,,,,1\n", 'a,"' + "x\n" * 100_000])
def test_broken_quoting_is_told_where_the_record_begins(rest: str) -> None:
    ((line, problem),) = problems(HEADER + "fine,Fine,,,,,,1\n" + rest)
    assert line == 3
    assert problem.startswith("this is no CSV (")


# --- JSON lines -----------------------------------------------------------------

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
        ProductRow(product_id="a", name="A", stock=LEFT_ALONE),
        ProductRow(product_id="b", name="B", stock=None, listed=False),
    ]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"product_id": "b"}', "name is missing"),
        ('{"product_id": "b", "name": "B", "color": 1}', "unknown key 'color'"),
        ('{"product_id": 7, "name": "B"}', "product_id is not a string"),
        ('{"product_id": "b", "name": "B", "stock": "5"}', "stock is not a whole number"),
        ('{"product_id": "b", "name": "B", "stock": true}', "stock is not a whole number"),
        ('{"product_id": "b", "name": "B", "stock": 1.0}', "stock is not a whole number"),
        ('{"product_id": "b", "name": "B", "stock": 1e400}', "stock is not a whole number"),
        ('{"product_id": "b", "name": "B", "stock": -1}', "stock is not a whole number from 0 to 1000000000"),
        ('{"product_id": "b", "name": "B", "listed": 1}', "listed is neither true nor false"),
        ('{"product_id": "b\\u0000", "name": "B"}', "product_id has a control character or a broken one"),
        ('{"product_id": "b", "name": "\\ud800"}', "name has a control character or a broken one"),
        ('{"product_id": "b", "name": "B", "name": "C"}', "this is no JSON object (a key comes twice)"),
        ("[1]", "this is no JSON object"),
        ("nonsense", "this is no JSON object (Expecting value)"),
        ("[" * 100_000, "this is no JSON object (maximum recursion depth exceeded while decoding a JSON array from a unicode string)"),
    ],
    ids=lambda value: value[:40],
)
def test_what_is_wrong_with_a_json_line(line: str, problem: str) -> None:
    found = problems('{"product_id": "a", "name": "A"}\n' + line + "\n", "file.jsonl")
    assert found == [(2, problem)]


def test_a_number_of_five_thousand_digits_is_refused() -> None:
    ((line, problem),) = problems('{"product_id": "a", "name": "A", "stock": ' + "9" * 5000 + "}", "file.jsonl")
    assert line == 1
    assert problem.startswith("this is no JSON object (Exceeds the limit")
