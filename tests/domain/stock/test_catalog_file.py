"""A catalog file of comma-separated values, and the errors with their lines."""

import io
import time

import pytest

from baskets.domain.stock import catalog_file
from baskets.domain.stock.catalog import UNSPECIFIED, ProductRow

HEADER = "product_id,name,brand,variant,main_product_id,price,currency,stock\n"
WHOLE = ProductRow(
    product_id="shirt", name="A shirt", brand="B", variant="M", main_product_id="shirts", price=1999, currency="EUR", stock=5
)


def read(text: str | bytes, name: str = "file.csv") -> catalog_file.CatalogFile:
    return catalog_file.read_catalog(io.BytesIO(text if isinstance(text, bytes) else text.encode()), name=name)


def problems(text: str | bytes, name: str = "file.csv") -> list[tuple[int, str]]:
    found = read(text, name)
    assert found.problem_count >= len(found.problems) > 0
    return found.problems


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
    assert read(header + "song,Song,,,,,\n").rows[0].stock is UNSPECIFIED


@pytest.mark.parametrize(("cell", "listed"), [("true", True), ("TRUE", True), ("1", True), ("false", False), ("0", False), ("", None)])
def test_listed_is_a_flag_or_says_nothing(cell: str, listed: bool | None) -> None:
    header = HEADER.replace("stock", "listed")
    assert read(header + f"song,Song,,,,,,{cell}\n").rows[0].listed is listed


@pytest.mark.parametrize(
    "text",
    [
        HEADER.replace(",", ";") + "shirt;A shirt;B;M;shirts;1999;EUR;5\n",
        HEADER.replace(",", "\t") + "shirt\tA shirt\tB\tM\tshirts\t1999\tEUR\t5\n",
        "sep=,\n" + HEADER + "shirt,A shirt,B,M,shirts,1999,EUR,5\n",
        "sep=;\r\n" + HEADER.replace(",", ";") + "shirt;A shirt;B;M;shirts;1999;EUR;5\r\n",
        "\ufeffsep=\t\n" + HEADER.replace(",", "\t") + "shirt\tA shirt\tB\tM\tshirts\t1999\tEUR\t5\n",
        "SEP=;,,,,,,,\n" + HEADER + "shirt,A shirt,B,M,shirts,1999,EUR,5\n",
        '"sep=;"\n' + HEADER.replace(",", ";") + "shirt;A shirt;B;M;shirts;1999;EUR;5\n",
        HEADER + ",,,,,,,\n" + "shirt,A shirt,B,M,shirts,1999,EUR,5\n, ,,,,,,\n,,\n",
        ",,,,,,,\n\n" + HEADER + "shirt,A shirt,B,M,shirts,1999,EUR,5\n",
        HEADER.replace("\n", ",\n") + "shirt,A shirt,B,M,shirts,1999,EUR,5,\n",
        HEADER.replace("\n", ", ,,\n") + "shirt,A shirt,B,M,shirts,1999,EUR,5, ,\n",
        ";" + HEADER.replace(",", ";") + ";shirt;A shirt;B;M;shirts;1999;EUR;5\n",
        HEADER + "shirt,A shirt,B,M,shirts,1999,EUR,5,,,\n",
        "Product ID,NAME, Brand ,variant,Main Product_ID,Price,Currency,Stock\nshirt,A shirt,B,M,shirts,1999,EUR,5\n",
        'PRODUCT_ID;"Name";Brand;Variant;"main\nproduct id";price;currency;STOCK\nshirt;A shirt;B;M;shirts; 1999 ;EUR;5 \n',
        "ProductId,Name,Brand,Variant,MainProductId,Price,Currency,Stock\nshirt,A shirt,B,M,shirts,1999,EUR,5\n",
        "Product\u00a0ID,Name,Brand,Variant,main__product__id,Price,Currency,Stock\nshirt,A shirt,B,M,shirts,1999,EUR,5\n",
        HEADER.replace(",stock", ",stock,available") + "shirt,A shirt,B,M,shirts,1999,EUR,5,shortfall of 3\n",
        (HEADER + "shirt,A shirt,B,M,shirts,1999,EUR,5\n").encode("utf-16"),
        b"\xfe\xff" + (HEADER + "shirt,A shirt,B,M,shirts,1999,EUR,5\n").replace(",", "\t").replace("\n", "\r\n").encode("utf-16-be"),
    ],
    ids=[
        "semicolons", "tabs", "sep comma", "sep semicolon", "sep tab", "sep as a row", "sep quoted", "empty rows", "empty rows first",
        "nameless last column", "nameless last columns", "nameless first column", "empty cells behind", "headings with blanks",
        "headings with line breaks", "headings in one word", "headings with other blanks", "an export's own column", "UTF-16",
        "UTF-16 with tabs",
    ],
)  # fmt: skip
def test_the_same_row_as_spreadsheets_write_it(text: str | bytes) -> None:
    found = read(text)
    assert (found.rows, found.problems) == ([WHOLE], [])


# As LibreOffice, Excel, Google Sheets and Numbers write the same table in an English and in a German setting.
SPREADSHEETS = {
    "LibreOffice": (
        "Product ID,Name,Brand,Variant,Main product ID,Price,Currency,Stock,Listed\n"
        '"0815","Caf\u00e9 ""Zola"", \nsmall",,,,450,EUR,12,TRUE\nsong,Song,,,,,,,TRUE\n,,,,,,,,\n'
    ).encode(),
    "LibreOffice, German": (
        "Product ID;Name;Brand;Variant;Main product ID;Price;Currency;Stock;Listed\n"
        '0815;"Caf\u00e9 ""Zola"", \nsmall";;;;450;EUR;12;true\nsong;Song;;;;;;;true\n'
    ).encode(),
    "Excel, CSV UTF-8": (
        "\ufeffProduct ID,Name,Brand,Variant,Main product ID,Price,Currency,Stock,Listed\r\n"
        '0815,"Caf\u00e9 ""Zola"", \nsmall",,,,450,EUR,12,TRUE\r\nsong,Song,,,,,,,TRUE\r\n'
    ).encode(),
    "Excel, CSV UTF-8, German": (
        "\ufeffProduct ID;Name;Brand;Variant;Main product ID;Price;Currency;Stock;Listed\r\n"
        '0815;"Caf\u00e9 ""Zola"", \nsmall";;;;450;EUR;12;1\r\nsong;Song;;;;;;;1\r\n;;;;;;;;\r\n'
    ).encode(),
    "Excel, Unicode text": (
        "Product ID\tName\tBrand\tVariant\tMain product ID\tPrice\tCurrency\tStock\tListed\r\n"
        '0815\t"Caf\u00e9 ""Zola"", \nsmall"\t\t\t\t450\tEUR\t12\tTRUE\r\nsong\tSong\t\t\t\t\t\t\tTRUE\r\n'
    ).encode("utf-16"),
    "Google Sheets": (
        "Product ID,Name,Brand,Variant,Main product ID,Price,Currency,Stock,Listed\r\n"
        '0815,"Caf\u00e9 ""Zola"", \nsmall",,,,450,EUR,12,TRUE\r\nsong,Song,,,,,,,TRUE\r\n,,,,,,,,'
    ).encode(),
    "Numbers": (
        "Product ID,Name,Brand,Variant,Main product ID,Price,Currency,Stock,Listed,\r\n"
        '0815,"Caf\u00e9 ""Zola"", \nsmall",,,,450,EUR,12,TRUE,\r\nsong,Song,,,,,,,TRUE,\r\n'
    ).encode(),
}


@pytest.mark.parametrize("name", SPREADSHEETS)
def test_what_spreadsheets_write_is_read(name: str) -> None:
    found = read(SPREADSHEETS[name])
    assert (found.rows, found.problems) == (
        [
            ProductRow(product_id="0815", name='Caf\u00e9 "Zola", \nsmall', price=450, currency="EUR", stock=12, listed=True),
            ProductRow(product_id="song", name="Song", stock=None, listed=True),
        ],
        [],
    )


def test_cells_that_a_spreadsheet_left_out_are_empty_except_stock() -> None:
    header = "product_id,stock,name,brand,variant,main_product_id,price,currency\n"
    assert read(header + "a,3,A\nb,4,B\n").rows == [
        ProductRow(product_id="a", name="A", stock=3),
        ProductRow(product_id="b", name="B", stock=4),
    ]


def test_a_file_that_was_cut_off_is_refused() -> None:
    header = "product_id,stock,name,brand,variant,main_product_id,price,currency\n"
    assert problems(header + "a,3,A,,,,5,EUR\nb,4,B") == [(3, "3 cells, where the header has 8")]


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("product_id|name|brand\na|A|B\n", 1, "the header 'product_id|name|brand' has one column"),
        ("sep=|\nproduct_id|name|brand\na|A|B\n", 2, "the header 'product_id|name|brand' has one column"),
        ("\n\nproduct_id name\n", 3, "the header 'product_id name' has one column"),
    ],
)
def test_where_no_separator_is_found_the_known_ones_are_named(text: str, line: int, problem: str) -> None:
    assert problems(text) == [(line, f"{problem}; comma, semicolon and tab are understood as separators")]


@pytest.mark.parametrize(
    ("header", "row", "problem"),
    [
        (HEADER.replace("\n", ",\n"), "a,A,,,,,,1,x", "'x' is in a column without a name"),
        ("," + HEADER, "x,a,A,,,,,,1", "'x' is in a column without a name"),
        (HEADER.replace("\n", ",\n"), "a,A,,,,,,1,,x", "10 cells, where the header has 9"),
        (HEADER.replace(",", ";"), "a;A;;;;;;1;x", "9 cells, where the header has 8"),
    ],
)
def test_what_is_under_no_heading_is_not_passed_over(header: str, row: str, problem: str) -> None:
    assert problems(header + row + "\n") == [(2, problem)]


def test_lines_are_counted_whatever_comes_before_the_header() -> None:
    text = "\nsep=;\n;;;\n" + HEADER.replace(",", ";").replace("name", '"\nname"') + "a;A;;;;;;1\n;;\nb;B;;;;x;;1\n"
    assert problems(text) == [(8, "price 'x' is not a whole number")]


def test_a_header_whose_quote_stays_open_is_no_csv() -> None:
    ((line, problem),) = problems('\n"product_id,name\na,b\n')
    assert (line, problem.startswith("this is not CSV (")) == (2, True)


@pytest.mark.parametrize(
    "text",
    ["sep=" + "\t" * 200_000 + "x", '"' + "\n" * 200_000, HEADER + "a," + "\t" * 130_000 + "=,,,,,,1\n"],
    ids=["separator line", "header", "cell"],
)
def test_hostile_files_take_no_more_time_than_long_ones(text: str) -> None:
    started = time.perf_counter()
    assert read(text).rows == []
    assert time.perf_counter() - started < 5


def test_the_guard_of_an_export_is_taken_off() -> None:
    found = read(HEADER + "'=1+1,x;'=1+1,''-5,'a,'@b,,,1\n")
    assert found.rows == [ProductRow(product_id="=1+1", name="x;=1+1", brand="'-5", variant="'a", main_product_id="@b", stock=1)]


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
        ("a\x00b,N,,,,,,1", "product_id has a control character (U+0000)"),
        ('"a\nb",N,,,,,,1', "product_id has a control character (U+000A)"),
        ("a/b,N,,,,,,1", "product_id has a slash (U+002F)"),
        ("a\u2028b,N,,,,,,1", "product_id has a line separator (U+2028)"),
        ("a ,N,,,,,,1", "product_id begins or ends with a blank (U+0020)"),
        ("a\u00a0,N,,,,,,1", "product_id begins or ends with a blank (U+00A0)"),
        ("  ,N,,,,,,1", "product_id begins or ends with a blank (U+0020)"),
        ("a\u200b,N,,,,,,1", "product_id has an invisible character (U+200B)"),
        ("a,N,,,b/c,,,1", "main_product_id has a slash (U+002F)"),
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
        ("a,N,,,,,, ", "stock ' ' is not a whole number"),
        ("a,N,,,,,", "7 cells, where the header has 8, and no stock; a cell for it, even an empty one, must be there"),
        ("a,N", "2 cells, where the header has 8, and no stock; a cell for it, even an empty one, must be there"),
        ("a,N,,,,,,1,2", "9 cells, where the header has 8"),
    ],
)
def test_an_invalid_row_is_reported_with_its_line(line: str, problem: str) -> None:
    assert problems(HEADER + "fine,Fine,,,,,,1\n" + line + "\n") == [(3, problem)]


def test_the_limits_themselves_are_fine() -> None:
    found = read(HEADER + f"{'x' * 255},{'n' * 500},{'b' * 255},,,1000000000000,EUR,1000000000\n")
    assert (len(found.rows), found.problems) == (1, [])


def test_all_errors_are_reported_at_once() -> None:
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
        ("product_id;name", "missing column brand, variant, main_product_id, currency, price"),
        ("product_id,colour", "unknown column 'colour'; missing column name, brand, variant, main_product_id, currency, price"),
        (HEADER.strip() + ",Stock", "repeated column stock"),
    ],
)
def test_columns_are_named(header: str, problem: str) -> None:
    expected = f"{problem}; the columns are product_id,name,brand,variant,main_product_id,currency,price and perhaps stock,listed"
    assert problems(header + "\na,b\n") == [(1, expected)]


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        (b"", 1, "the file is empty"),
        (b"\n \n", 1, "the file is empty"),
        (b"\xef\xbb\xbf", 1, "the file is empty"),
        (HEADER.encode(), 1, "there is no product in the file"),
        (HEADER.encode() + b"a,caf\xe9,,,,,,1\n", 2, 'byte 6 of the line is not UTF-8; save it as "CSV UTF-8"'),
        (HEADER.encode() + b"a,\xed\xa0\x80,,,,,,1\n", 2, 'byte 3 of the line is not UTF-8; save it as "CSV UTF-8"'),
        (b",,,\r\n;;\t\n", 1, "the file is empty"),
        (HEADER.encode("utf-16"), 1, "there is no product in the file"),
        (HEADER.encode("utf-16") + b"\x00", 1, 'the file begins as UTF-16, and is not; save it as "CSV UTF-8"'),
        (HEADER.replace("\n", "\r").encode() * 2, 1, 'lines end in carriage returns alone; save it as "CSV UTF-8"'),
        (b"PK\x03\x04\x14\x00\x06\x00\xe3", 1, 'byte 9 of the line is not UTF-8; save it as "CSV UTF-8"'),
        (HEADER.encode() + b"x" * 1_048_577, 2, "the line is longer than 1048576 bytes"),
    ],
)
def test_what_cannot_be_read_at_all(text: bytes, line: int, problem: str) -> None:
    assert problems(text) == [(line, problem)]


@pytest.mark.parametrize("rest", ['a,"open', 'a,"b"c,,,,,,1\n', "a,b\rc,,,,,,1\n", 'a,"' + "x\n" * 100_000])
def test_broken_quoting_is_reported_at_the_start_of_its_record(rest: str) -> None:
    ((line, problem),) = problems(HEADER + "fine,Fine,,,,,,1\n" + rest)
    assert line == 3
    assert problem.startswith("this is not CSV (")
