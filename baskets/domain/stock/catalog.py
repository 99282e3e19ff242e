"""Imports the catalog of a shop: many products and their stock in one transaction, all or nothing.

It reads no files: `baskets.domain.stock.catalog_file` turns their lines into the rows this module takes.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from typing import Any, Final

from django.db import connection, transaction
from django.utils.translation import gettext_noop

from baskets.db.limits import client_waits
from baskets.db.transactions import run_in_transaction
from baskets.domain import audit_log
from baskets.domain.actors import Actor
from baskets.domain.errors import Refusal
from baskets.domain.stock import supply
from baskets.domain.stock.supply import ReportsApplied
from baskets.models import DeskEntry
from baskets.models.products import NOT_IN_PRODUCT_ID, NOT_IN_PRODUCT_ID_BEYOND, PRODUCT_ID_PATTERN, SANDBOX_PREFIX, is_sandbox_product

MAX_PIECES = 1_000_000_000
CONFIRM_BATCH = 1000
# Times the most pieces a session can hold it is still far from the end of a 64-bit integer.
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
    """Stands for a value that a shop says nothing about, where `None` already means something."""

    TOKEN = auto()


UNSPECIFIED: Final = Unspecified.TOKEN


@dataclass(frozen=True, kw_only=True, slots=True)
class ProductRow:
    """What a shop says of one product.

    :param stock: unsold pieces; None is unlimited, `UNSPECIFIED` says nothing.
    :param listed: None does not change a known product; a new one is listed.
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
    """What an import did.

    :param created: products that are new.
    :param changed: products of which something else than the stock changed.
    :param unchanged: products that were as their rows say, stock apart.
    :param stock: what became of the reports of their stock.
    """

    created: int
    changed: int
    unchanged: int
    stock: ReportsApplied


class DuplicateProduct(Refusal):
    """Two rows speak of one product, and only one of them can be right."""

    reason = "product_twice"
    message = gettext_noop("A product comes twice.")


# One import at a time: two would wait for each other's products one by one, and hold them all the while. The number
# names the lock and means nothing.
LOCK_IMPORTS = "SELECT pg_advisory_xact_lock(7263105218)"
# Far more than a hundred thousand products need. What buyers wait for is short and comes last, see `stock`.
STATEMENT_SECONDS = 60
SET_TIMEOUTS = f"SET LOCAL statement_timeout = '{STATEMENT_SECONDS}s'; SET LOCAL lock_timeout = '30s'"
CREATE_STAGING_TABLE = """
CREATE TEMPORARY TABLE staged_product (
    product_id varchar COLLATE "C" PRIMARY KEY,
    name varchar, brand varchar, variant varchar, main_product_id varchar COLLATE "C", price bigint, currency varchar,
    listed boolean
) ON COMMIT DROP
"""
COPY_ROWS = "COPY staged_product (product_id, name, brand, variant, main_product_id, price, currency, listed) FROM STDIN"
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
    """Take over what a shop says of its products, in one transaction: all of it or nothing.

    Products that the rows do not name do not change. Stock changes through recorded adjustments, and only by reports
    that speak of no earlier moment than the latest that is known of their product. Runs its own transaction; locks
    stock rows by primary key, last.
    Source: `baskets/docs/operations.md`.

    :param as_of: the moment the stock numbers speak of; None is now.
    :param reason: why, for the record of every adjustment.
    :param dry_run: do it all and roll it back.
    :raises FutureMoment: `as_of` is still to come.
    :raises SalesPurged: sales after `as_of` are not known any more.
    :raises ProductTwice: two rows speak of one product.
    """
    if len({row.product_id for row in rows}) != len(rows):
        raise DuplicateProduct

    reports = {row.product_id: row.stock for row in rows if row.stock is not UNSPECIFIED}
    # Buyers wait for the stock rows that a transaction has locked: the reports that change no number need not be among them.
    if not dry_run:
        for batch in _batches(reports):
            for product_id in run_in_transaction(lambda: supply.confirm_unsold(reports=batch, as_of=as_of)):  # noqa: B023 (called at once)
                del reports[product_id]

    def take_over() -> ImportResult:
        done = _import_rows(rows, reports=reports, as_of=as_of, reason=reason, actor=actor)
        data = {"products": len(rows), "created": done.created, "changed": done.changed, "stock_changed": done.stock.changed}
        audit_log.record(kind=DeskEntry.Kind.IMPORTED, about="product", reason=reason, data=data, actor=actor)
        if dry_run:
            transaction.set_rollback(True)
        return done

    with client_waits(statement_seconds=STATEMENT_SECONDS):
        return run_in_transaction(take_over)


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
                copy.write_row(
                    (
                        row.product_id,
                        row.name,
                        row.brand,
                        row.variant,
                        row.main_product_id,
                        row.price,
                        row.currency,
                        row.listed,
                    )
                )
        cursor.execute("ANALYZE staged_product")
        cursor.execute(INSERT_NEW_PRODUCTS)
        created = cursor.rowcount
        cursor.execute(UPDATE_CHANGED_PRODUCTS)
        changed = cursor.rowcount
    applied = supply.set_unsold(reports=reports, as_of=as_of, reason=reason, actor=actor)
    return ImportResult(
        created=created,
        # A product that has just been made is as its row says, so the change finds nothing to do in it.
        changed=changed,
        unchanged=len(rows) - created - changed,
        stock=applied,
    )


# --- What a row may say ---------------------------------------------------------


def product_id_problem(product_id: str) -> str | None:
    """Check a product id. This is the one rule for all that name a product; see Note [Product ids].

    :returns: what is wrong with the id, as the end of a sentence; None where it is valid.
    """
    if not product_id:
        return "is empty"
    if len(product_id) > MAX_ID_LENGTH:
        return f"has {len(product_id)} characters, {MAX_ID_LENGTH} at most"
    if found := FORBIDDEN_IN_ID.search(product_id):
        return f"has {_character_kind(found.group())} (U+{ord(found.group()):04X})"
    if not PRODUCT_ID.fullmatch(product_id):
        blank = product_id[0] if product_id[0].isspace() else product_id[-1]
        return f"begins or ends with a blank (U+{ord(blank):04X})"
    return None


def _character_kind(character: str) -> str:
    if character == "/":
        return "a slash"
    kinds = {"Cc": "a control character", "Cs": "half of a surrogate pair", "Zl": "a line separator", "Zp": "a paragraph separator"}
    return kinds.get(unicodedata.category(character), "an invisible character")


def row_problems(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """List what is wrong with the values of a row, all of it: of which field, and what.

    :param values: the fields of `ProductRow` by name, of the right types.
    """
    for name in ("product_id", "main_product_id"):
        if (values[name] or name in REQUIRED_FIELDS) and (problem := product_id_problem(values[name])):
            yield name, problem
    if is_sandbox_product(values["product_id"]):
        yield "product_id", f"begins with {SANDBOX_PREFIX}, which belongs to the products of the sandbox"
    for name, longest in MAX_LENGTHS.items():
        text = values[name]
        if name in REQUIRED_FIELDS and not text:
            yield name, "is empty"
        elif len(text) > longest:
            yield name, f"has {len(text)} characters, {longest} at most"
        if FORBIDDEN_IN_TEXT.search(text):
            yield name, "has a control character or a broken one"
    yield from _number_problems(values)


def _number_problems(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    price, currency, pieces = values["price"], values["currency"], values["stock"]
    if price is not None and not 0 <= price <= MAX_PRICE:
        yield "price", f"is not a whole number from 0 to {MAX_PRICE}"
    if currency and not CURRENCY.fullmatch(currency):
        yield "currency", "is not three capital letters"
    elif price is not None and not currency:
        yield "price", "has no currency"
    if pieces is not None and pieces is not UNSPECIFIED and not 0 <= pieces <= MAX_PIECES:
        yield "stock", f"is not a whole number from 0 to {MAX_PIECES}"
