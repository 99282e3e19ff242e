"""Shows the progress of a command on standard error: a bar on a terminal, else a plain line every few seconds."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

SECONDS_BETWEEN_LINES = 5.0


@contextmanager
def progress(*, doing: str, total: int | None, unit: str) -> Iterator[Callable[[int], None]]:
    """Show the progress of the block. Yields a function that the block calls with each amount done.

    :param doing: the activity, such as `Expiring baskets`.
    :param total: the amount to do; None if unknown.
    :param unit: of the amount, in the plural.
    """
    if sys.stderr.isatty():
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:,} " + unit),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(doing, total=total)
            yield lambda amount: bar.advance(task, amount)
    else:
        yield from _plain_lines(doing=doing, total=total, unit=unit)


def _plain_lines(*, doing: str, total: int | None, unit: str) -> Iterator[Callable[[int], None]]:
    done, printed_at = 0, time.monotonic()

    def advance(amount: int) -> None:
        nonlocal done, printed_at
        done += amount
        if time.monotonic() - printed_at >= SECONDS_BETWEEN_LINES:
            printed_at = time.monotonic()
            of = f" of {total:,}" if total else ""
            sys.stderr.write(f"{doing}: {done:,}{of} {unit}\n")

    yield advance
