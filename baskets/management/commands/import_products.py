"""`import_products`: the command for `catalog.import_products`."""

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

from django.core.management.base import CommandError

from baskets.domain.actors import Actor
from baskets.domain.cells import divided_report
from baskets.domain.stock import catalog, catalog_file
from baskets.management.arguments import aware_datetime
from baskets.management.base import ServiceCommand
from baskets.management.progress import progress

MAX_LISTED = 20
ACTOR, REASON = Actor.system("import_products"), "import"
SOLD_WITHIN = timedelta(days=1)


class Command(ServiceCommand):
    """Import products and their stock."""

    help = (
        "Import products and their stock, all or nothing, from CSV with the columns product_id,name,brand,variant,"
        "main_product_id,price,currency,stock and perhaps listed, or from the same as JSON lines. Price in minor units; "
        "stock empty (null) for unlimited; no stock column (key) leaves stock alone. Other products stay unchanged."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("file", metavar="FILE", help="The file, or - for standard input.")
        parser.add_argument(
            "--as-of",
            type=aware_datetime,
            metavar="TIME",
            help=(
                "The time of the stock numbers, in ISO 8601 with offset (default: now). Pieces sold since are "
                "subtracted, pieces supplied since are added. A product with a later report keeps its stock."
            ),
        )
        parser.add_argument(
            "--cells",
            action="store_true",
            help=(
                "The stock numbers are of all cells that BASKETS_CELL_DATABASES names: divide them by what each has sold within a day. "
                "Runs in the cell that publishes the catalog. If it is killed, run it again with its --as-of."
            ),
        )
        parser.add_argument("--equally", action="store_true", help="With --cells: give each cell the same.")

    def handle(self, *, file: str, as_of: datetime | None, cells: bool, equally: bool, as_json: bool, dry_run: bool, **_: Any) -> None:
        """Read the whole file, then import it: no transaction waits for a disk."""
        if equally and not cells:
            raise CommandError("--equally divides among cells: give --cells, too.", returncode=2)
        try:
            with _open_file(file) as stream, progress(doing="Reading", total=_size(file), unit="bytes") as advance:
                found = catalog_file.read_catalog(stream, name=file, advance=advance)
        except OSError as error:
            raise CommandError(f"{file!r} cannot be read: {error.strerror}.") from error
        if found.problem_count:
            self._refuse(found, as_json=as_json)
        if cells:
            self._import_over_cells(found.rows, as_of=as_of or divided_report.common_moment(), equally=equally, dry_run=dry_run)
            return
        done = catalog.import_products(rows=found.rows, as_of=as_of, reason=REASON, actor=ACTOR, dry_run=dry_run)
        would = "Would have imported" if dry_run else "Imported"
        self.print_result(
            text=(
                f"{would} {len(found.rows)} products: {done.created} new, {done.changed} changed, "
                f"{done.unchanged} as they were; stock changed of {done.stock.changed}."
                + _list_products("became unlimited", done.stock.became_unlimited)
                + _list_products("older than what is known, so unchanged", done.stock.older)
            ),
            products=len(found.rows),
            created=done.created,
            changed=done.changed,
            unchanged=done.unchanged,
            stock_changed=done.stock.changed,
            became_unlimited=done.stock.became_unlimited,
            older_than_known=done.stock.older,
        )

    def _import_over_cells(self, rows: Sequence[catalog.ProductRow], *, as_of: datetime, equally: bool, dry_run: bool) -> None:
        """Import the products here, wait until all cells have them, then divide their stock."""
        self.stderr.write(f"The numbers are as of {as_of.isoformat()}. If this is interrupted, run it again with that --as-of.")
        reports = {row.product_id: row.stock for row in rows if row.stock is not catalog.UNSPECIFIED}
        products = [replace(row, stock=catalog.UNSPECIFIED) for row in rows]
        done = catalog.import_products(rows=products, as_of=as_of, reason=REASON, actor=ACTOR, dry_run=dry_run)
        if not dry_run:
            divided_report.wait_for_products([row.product_id for row in rows])
        with progress(doing="Dividing", total=len(reports), unit="products") as advance:
            divided = divided_report.report_to_all_cells(
                reports=reports,
                as_of=as_of,
                equally=equally,
                within=SOLD_WITHIN,
                reason=REASON,
                actor=ACTOR,
                dry_run=dry_run,
                advance=advance,
            )
        by_cell: dict[int, int] = {}
        for shares in divided.shares.values():
            for cell, pieces in shares.items():
                by_cell[cell] = by_cell.get(cell, 0) + pieces
        would = "Would have imported" if dry_run else "Imported"
        self.print_result(
            text=(
                f"{would} {len(rows)} products: {done.created} new, {done.changed} changed, {done.unchanged} as they were; "
                f"stock of {len(divided.shares)} divided: "
                + ", ".join(f"{pieces} pieces to cell {cell}" for cell, pieces in sorted(by_cell.items()))
                + "."
                + _list_products("unlimited", divided.unlimited)
                + _list_products("older than what is known, so unchanged", divided.older)
            ),
            products=len(rows),
            created=done.created,
            changed=done.changed,
            unchanged=done.unchanged,
            as_of=as_of.isoformat(),
            shares=divided.shares,
            unlimited=divided.unlimited,
            older_than_known=divided.older,
        )

    def _refuse(self, found: catalog_file.CatalogFile, *, as_json: bool) -> None:
        if as_json:
            problems = [{"line": line, "problem": problem} for line, problem in found.problems]
            self.print_result(text="", problem_count=found.problem_count, problems=problems)
        else:
            self.stderr.write("\n".join(f"line {line}: {problem}" for line, problem in found.problems))
        more = found.problem_count - len(found.problems)
        raise CommandError(
            f"Nothing was imported: {found.problem_count} problem{'s' * (found.problem_count > 1)}"
            + (f", of which {more} are not shown." if more else ".")
        )


def _list_products(what: str, product_ids: Sequence[str]) -> str:
    """Return a line with the number of products and the first of them; empty without products."""
    if not product_ids:
        return ""
    more = f" and {len(product_ids) - MAX_LISTED} more" if len(product_ids) > MAX_LISTED else ""
    return f"\nStock of {len(product_ids)} {what}: {', '.join(product_ids[:MAX_LISTED])}{more}."


def _open_file(file: str) -> AbstractContextManager[BinaryIO]:
    """Open the file or named pipe, or standard input for `-`."""
    return nullcontext(sys.stdin.buffer) if file == "-" else Path(file).open("rb")


def _size(file: str) -> int | None:
    """Return the size in bytes, or None if it is unknown."""
    return None if file == "-" else Path(file).stat().st_size or None
