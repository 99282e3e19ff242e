"""The base class of all commands: common options, error messages and exit codes. The domain does the work."""

import json
import os
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, InterfaceError, transaction

from baskets.db.errors import Fault, OutcomeUnknown, fault_of
from baskets.domain.errors import Refusal
from baskets.error_summary import sqlstate_of
from baskets.log_context import log_context

ERROR_MESSAGES = {
    Fault.RETRY: "The database could not do this beside other work; nothing is half done; run the command again.",
    Fault.BUSY: "The database is busy and a wait ran out; nothing is half done; run the command again later.",
    Fault.UNAVAILABLE: "The database cannot be reached, or cannot write; nothing is half done.",
}
NOT_MIGRATED_SQLSTATES = {"42P01", "42703"}  # undefined_table, undefined_column
DENIED_SQLSTATES = {"42501"}  # insufficient_privilege: the message of the server says which privilege is missing.


def counted(number: int, noun: str) -> str:
    """Write a number of things.

    >>> counted(1, "basket"), counted(0, "basket")
    ('1 basket', '0 baskets')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


class ServiceCommand(BaseCommand):
    """A command without tracebacks. Exit codes: 0 done, 1 failed or found something, 2 wrong usage.

    Results go to standard output, everything else to standard error.
    """

    supports_dry_run = True
    _as_json = False
    _dry_run = False
    # System checks load URLs, admin and templates, which doubles the start-up time.
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options that every command has."""
        parser.add_argument("--json", action="store_true", dest="as_json", help="Print one JSON object, for machines.")
        if self.supports_dry_run:
            parser.add_argument("--dry-run", action="store_true", help="Do everything and roll it back: say what would change.")

    def run_from_argv(self, argv: list[str]) -> None:
        """Run from the shell. Handles a closed pipe, a terminal without Unicode, and Ctrl-C."""
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr] # The shell's streams are text files.
        try:
            super().run_from_argv(argv)
            sys.stdout.flush()
        except BrokenPipeError:
            _discard_stdout()
            sys.exit(1)
        except OSError as error:
            _discard_stdout()
            sys.stderr.write(f"The result could not be printed: {error.strerror}.\n")
            sys.exit(1)
        except KeyboardInterrupt:
            sys.stderr.write("Interrupted; nothing is half done.\n")
            sys.exit(1)

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Run the command. Turns a refusal or a database error into one sentence.

        :raises CommandError: the domain refused, or the database failed.
        """
        self._as_json, self._dry_run = bool(options.get("as_json")), bool(options.get("dry_run"))
        try:
            return super().execute(*args, **options)
        except Refusal as refusal:
            raise CommandError(str(refusal)) from refusal
        except (DatabaseError, InterfaceError) as error:
            raise CommandError(describe_database_error(error)) from error

    def print_result(self, *, text: str, **data: Any) -> None:
        """Print the result: `text`; with `--json` instead `data` as one object, and `dry_run` of a command that has this option."""
        if self.supports_dry_run:
            data["dry_run"] = self._dry_run
        self.stdout.write(json.dumps(data) if self._as_json else text)


def _discard_stdout() -> None:
    """Redirect standard output to the null device, so that the flush at exit does not fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def dry_run_transaction(*, dry_run: bool) -> Iterator[None]:
    """Run the block in one transaction. With `dry_run`, roll it back at the end and mark its log lines."""
    marked = log_context(dry_run=True) if dry_run else nullcontext()
    with marked, transaction.atomic(durable=True):
        yield
        if dry_run:
            transaction.set_rollback(True)


def describe_database_error(error: DatabaseError | InterfaceError) -> str:
    """Return one sentence on a database error, for an operator."""
    state = sqlstate_of(error)
    if state in NOT_MIGRATED_SQLSTATES:
        return "The database does not have the tables of this version: run the command `migrate` first."
    if isinstance(error, OutcomeUnknown):
        return "The connection to the database was lost while it stored the last change. Look whether that is made before you repeat it."
    known = None if state in DENIED_SQLSTATES else ERROR_MESSAGES.get(fault_of(error))
    detail = str(error).strip().partition("\n")[0]
    return known or f"The database refused: {detail} ({state or 'no SQLSTATE'}); nothing is half done."
