"""Imports the catalog of a shop: many products and their stock in one transaction, all or nothing.

It reads no files: `catalog_file` parses them into rows.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from typing import Any, Final, NamedTuple

from django.db import connection, transaction
from django.utils.translation import gettext_noop

from baskets.db.limits import client_waits
from baskets.db.transactions import run_in_transaction
from baskets.domain import audit_log
from baskets.domain.actors import Actor
from baskets.domain.errors import Refusal
from baskets.domain.stock import supply
from baskets.domain.stock.supply import ReportsApplied
from baskets.domain.wording import sentence
from baskets.models import DeskEntry
from baskets.models.products import NOT_IN_PRODUCT_ID, NOT_IN_PRODUCT_ID_BEYOND, PRODUCT_ID_PATTERN, SANDBOX_PREFIX, is_sandbox_product

MAX_PIECES = 1_000_000_000
CONFIRM_BATCH = 1000
# The price of the largest possible checkout still fits a 64-bit integer.
MAX_PRICE = 1_000_000_000_000
REQUIRED_FIELDS = ("product_id", "name")
MAX_ID_LENGTH = 255
MAX_LENGTHS = {"name": 500, "brand": 255, "variant": 255}
PRODUCT_ID = re.compile(PRODUCT_ID_PATTERN)
# PostgreSQL stores neither NUL nor half of a surrogate pair, so its pattern does not name them.
FORBIDDEN_IN_ID = re.compile(rf"[\x00\ud800-\udfff{NOT_IN_PRODUCT_ID}{NOT_IN_PRODUCT_ID_BEYOND}]")
# A quoted cell may have line breaks; no other control character means anything in a name.
FORBIDDEN_IN_TEXT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
CURRENCY = re.compile(r"[A-Z]{3}", re.ASCII)


class Unspecified(Enum):
    """The value of a field that a row does not have, where `None` already has another meaning."""

    TOKEN = auto()


UNSPECIFIED: Final = Unspecified.TOKEN


class FieldProblem(NamedTuple):
    """What is wrong with a field: `problem` is the end of a sentence that begins with the name of the field."""

    field: str
    problem: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ProductRow:
    """The data of one product.

    :param price: minor units of `currency` for one piece; None for no price.
    :param listed: None does not change a known product; a new one is listed.
    :param stock: unsold pieces; None is unlimited, `UNSPECIFIED` does not change the stock.
    """

    product_id: str
    name: str
    brand: str = ""
    variant: str = ""
    main_product_id: str = ""
    price: int | None = None
    currency: str = ""
    listed: bool | None = None
    stock: int | Unspecified | None = UNSPECIFIED


@dataclass(frozen=True, kw_only=True)
class ImportResult:
    """The result of an import, in numbers of products.

    :param created: new products.
    :param changed: products with a change of any field except the stock.
    :param unchanged: products without such a change.
    :param stock: the result of the stock reports.
    """

    created: int
    changed: int
    unchanged: int
    stock: ReportsApplied


class DuplicateProduct(Refusal):
    """Two rows have the same product id."""

    reason = "product_twice"
    message = gettext_noop("A product comes twice.")


# One import at a time: two would wait for each other's products one by one, with those they have locked. The number is arbitrary.
LOCK_IMPORTS = "SELECT pg_advisory_xact_lock(7263105218)"
# Far more than a hundred thousand products need. The statements that buyers wait for are short and come last, see `supply`.
STATEMENT_SECONDS = 60
SET_TIMEOUTS = f"SET LOCAL statement_timeout = '{STATEMENT_SECONDS}s'; SET LOCAL lock_timeout = '30s'"
CREATE_STAGING_TABLE = """
CREATE TEMPORARY TABLE staged_product (
    product_id varchar COLLATE "C" PRIMARY KEY,
    name varchar, brand varchar, variant varchar, main_product_id varchar COLLATE "C", price bigint, currency varchar,
    listed boolean
) ON COMMIT DROP
"""
STAGED_COLUMNS = ("product_id", "name", "brand", "variant", "main_product_id", "price", "currency", "listed")
COPY_ROWS = f"COPY staged_product ({', '.join(STAGED_COLUMNS)}) FROM STDIN"
INSERT_NEW_PRODUCTS = """
INSERT INTO baskets_product (product_id, name, brand, variant, main_product_id, price, currency, listed)
SELECT product_id, name, brand, variant, main_product_id, price, currency, coalesce(listed, true)
FROM staged_product ORDER BY product_id
ON CONFLICT (product_id) DO NOTHING
"""
UPDATE_CHANGED_PRODUCTS = """
UPDATE baskets_product p
SET name = s.name, brand = s.brand, variant = s.variant, main_product_id = s.main_product_id,
    price = s.price, currency = s.currency, listed = coalesce(s.listed, p.listed), updated_at = statement_timestamp()
FROM staged_product s
WHERE p.product_id = s.product_id
  AND (p.name, p.brand, p.variant, p.main_product_id, p.price, p.currency, p.listed)
      IS DISTINCT FROM
      (s.name, s.brand, s.variant, s.main_product_id, s.price, s.currency, coalesce(s.listed, p.listed))
"""


def import_products(
    *, rows: Sequence[ProductRow], as_of: datetime | None, reason: str, actor: Actor, dry_run: bool = False
) -> ImportResult:
    """Import products and their stock, in one transaction: all of them or none.

    Other products do not change. Stock changes through recorded adjustments; a report that is older than the latest report of its
    product changes nothing. Runs its own transaction; locks stock rows by primary key, last.
    Source: `baskets/docs/operations.md`.

    :param as_of: the moment of the stock numbers; None is now.
    :param reason: stored with every adjustment.
    :param dry_run: import and roll back.
    :raises FutureMoment: `as_of` is in the future.
    :raises SalesPurged: records of sales after `as_of` were purged.
    :raises DuplicateProduct: two rows have the same product id.
    """
    if len({row.product_id for row in rows}) != len(rows):
        raise DuplicateProduct

    reports = {row.product_id: row.stock for row in rows if row.stock is not UNSPECIFIED}
    # Buyers wait for stock rows that the import locks. Reports that change no number are applied before, in short transactions.
    if not dry_run:
        for batch in _batches(reports):
            for product_id in run_in_transaction(lambda: supply.confirm_unsold(reports=batch, as_of=as_of)):  # noqa: B023 (called at once)
                del reports[product_id]

    def import_all() -> ImportResult:
        done = _import_rows(rows, reports=reports, as_of=as_of, reason=reason, actor=actor)
        data = {"products": len(rows), "created": done.created, "changed": done.changed, "stock_changed": done.stock.changed}
        audit_log.record(kind=DeskEntry.Kind.IMPORTED, about="product", reason=reason, data=data, actor=actor)
        if dry_run:
            transaction.set_rollback(True)
        return done

    with client_waits(statement_seconds=STATEMENT_SECONDS):
        return run_in_transaction(import_all)


def _batches(reports: Mapping[str, int | None]) -> Iterator[dict[str, int | None]]:
    items = sorted(reports.items())
    for start in range(0, len(items), CONFIRM_BATCH):
        yield dict(items[start : start + CONFIRM_BATCH])


def _import_rows(
    rows: Sequence[ProductRow], *, reports: Mapping[str, int | None], as_of: datetime | None, reason: str, actor: Actor
) -> ImportResult:
    with connection.cursor() as cursor:
        cursor.execute(SET_TIMEOUTS)
        cursor.execute(LOCK_IMPORTS)
        cursor.execute(CREATE_STAGING_TABLE)
        with cursor.copy(COPY_ROWS) as copy:
            for row in rows:
                copy.write_row([getattr(row, name) for name in STAGED_COLUMNS])
        cursor.execute("ANALYZE staged_product")
        cursor.execute(INSERT_NEW_PRODUCTS)
        created = cursor.rowcount
        cursor.execute(UPDATE_CHANGED_PRODUCTS)
        changed = cursor.rowcount
    applied = supply.set_unsold(reports=reports, as_of=as_of, reason=reason, actor=actor)
    return ImportResult(
        created=created,
        changed=changed,  # The update does not match new products: they equal their rows.
        unchanged=len(rows) - created - changed,
        stock=applied,
    )


# --- Valid rows -----------------------------------------------------------------


def product_id_problem(product_id: str) -> str | None:
    """Check a product id. This is the one rule for all that name a product; see Note [Product ids].

    :returns: what is wrong with the id, as the end of a sentence; None where it is valid.
    """
    if not product_id:
        return sentence("is empty")
    if len(product_id) > MAX_ID_LENGTH:
        return sentence("has %(number)s characters, %(most)s at most", number=len(product_id), most=MAX_ID_LENGTH)
    if found := FORBIDDEN_IN_ID.search(product_id):
        return sentence("has %(character)s (%(code)s)", character=_character_kind(found.group()), code=_code(found.group()))
    if not PRODUCT_ID.fullmatch(product_id):
        blank = product_id[0] if product_id[0].isspace() else product_id[-1]
        return sentence("begins or ends with a blank (%(code)s)", code=_code(blank))
    return None


def _code(character: str) -> str:
    return f"U+{ord(character):04X}"


def _character_kind(character: str) -> str:
    if character == "/":
        return sentence("a slash")
    kinds = {
        "Cc": gettext_noop("a control character"),
        "Cs": gettext_noop("half of a surrogate pair"),
        "Zl": gettext_noop("a line separator"),
        "Zp": gettext_noop("a paragraph separator"),
    }
    kind = kinds.get(unicodedata.category(character))
    return sentence(kind) if kind else sentence("an invisible character")


def row_problems(values: Mapping[str, Any]) -> Iterator[FieldProblem]:
    """Check the values of a row.

    :param values: the fields of `ProductRow` by name, of the right types.
    """
    for name in ("product_id", "main_product_id"):
        if (values[name] or name in REQUIRED_FIELDS) and (problem := product_id_problem(values[name])):
            yield FieldProblem(name, problem)
    if is_sandbox_product(values["product_id"]):
        yield FieldProblem("product_id", f"begins with {SANDBOX_PREFIX}, which belongs to the products of the sandbox")
    for name, longest in MAX_LENGTHS.items():
        text = values[name]
        if name in REQUIRED_FIELDS and not text:
            yield FieldProblem(name, "is empty")
        elif len(text) > longest:
            yield FieldProblem(name, f"has {len(text)} characters, {longest} at most")
        if FORBIDDEN_IN_TEXT.search(text):
            yield FieldProblem(name, "has a control character or a broken one")
    yield from _number_problems(values)


def _number_problems(values: Mapping[str, Any]) -> Iterator[FieldProblem]:
    price, currency, pieces = values["price"], values["currency"], values["stock"]
    if price is not None and not 0 <= price <= MAX_PRICE:
        yield FieldProblem("price", f"is not a whole number from 0 to {MAX_PRICE}")
    if currency and not CURRENCY.fullmatch(currency):
        yield FieldProblem("currency", "is not three capital letters")
    elif price is not None and not currency:
        yield FieldProblem("price", "has no currency")
    if pieces is not None and pieces is not UNSPECIFIED and not 0 <= pieces <= MAX_PIECES:
        yield FieldProblem("stock", f"is not a whole number from 0 to {MAX_PIECES}")
