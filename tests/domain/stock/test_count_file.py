"""The formats of a list of counted stock, and the errors with their lines."""

import io

import pytest

from baskets.domain.stock import count_file


def read_counts(text: str | bytes, limit: int = 5) -> count_file.CountFile:
    return count_file.read_counts(io.BytesIO(text if isinstance(text, bytes) else text.encode()), limit=limit)


@pytest.mark.parametrize(
    "text",
    [
        "shirt,5\ncap,0\n",
        "shirt\t5\r\ncap\t0\r\n",
        "\ufeffshirt;5\ncap;0.0",
        "\n\nproduct_id,counted\nshirt,5\ncap,0",
        'Product ID;Name;Quantity\nshirt;A shirt;5\ncap;"A; cap";0\n'.replace("Name", "name"),
        "sep=;\nproduct_id;stock\nshirt;5\ncap;0\n",
        "product_id,name,brand,variant,main_product_id,price,currency,listed,available,unsold\nshirt,A,,,,,,true,9,5\ncap,B,,,,,,true,unlimited,0\n",
        "product_id,counted\nshirt,5\ncap,0\nmug,\n",
    ],
)
def test_counts_are_read_however_a_spreadsheet_copies_them(text: str) -> None:
    found = read_counts(text)
    assert (found.counts, found.problems, found.uncounted) == ({"shirt": 5, "cap": 0}, [], int("mug" in text))
    assert read_counts("product_id,counted\nshirt,5\ncap,0".encode("utf-16")).counts == {"shirt": 5, "cap": 0}


def test_an_id_that_begins_as_a_formula_is_read_without_its_guard() -> None:
    assert read_counts("'-5,7\n'=a,8\n").counts == {"-5": 7, "=a": 8}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", [(1, "the file is empty")]),
        ("product_id,counted\n", [(1, "there is no count in it")]),
        ("product_id,counted\nshirt,\n", [(1, "there is no count in it")]),
        ("shirt,5\nshirt,6\n", [(2, "product_id 'shirt' is on line 1 already")]),
        ("shirt,5\ncap,five\n", [(2, "stock 'five' is not a whole number from 0 to 1000000000")]),
        ("shirt,5\ncap,-1\n", [(2, "stock '-1' is not a whole number from 0 to 1000000000")]),
        ("shirt,5\ncap,1000000001\n", [(2, "stock '1000000001' is not a whole number from 0 to 1000000000")]),
        ("shirt,5\na/b,1\n,1\n", [(2, "product_id has a slash (U+002F)"), (3, "product_id is empty")]),
        ("shirt,5\ncap\n", [(2, "1 cells, where the header has 2, and no stock; a cell for it, even an empty one, must be there")]),
        ("a,1\nb,1\nc,1\nd,1\ne,1\nf,1\n", [(6, "more than 5 products; split the count")]),
        (
            "product_id,shelf\nshirt,5\n",
            [(1, "unknown column 'shelf'; missing column stock; the columns are product_id,stock and perhaps more")],
        ),
    ],
)
def test_a_count_that_cannot_be_used_is_refused_with_its_line(text: str, expected: list[tuple[int, str]]) -> None:
    assert read_counts(text).problems == expected
