"""How commands end when the world around them fails: the database, the terminal, the reader of a pipe."""

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import DatabaseError, InterfaceError, OperationalError, connection, transaction

from baskets.db.errors import OutcomeUnknown
from baskets.domain.access import partners
from baskets.management import arguments, base, progress
from baskets.models import Partner
from tests.commands.conftest import Run

Start = Callable[..., "subprocess.Popen[bytes]"]
COMMANDS = [
    ["expire_baskets"],
    ["check_baskets"],
    ["create_partner", "acme"],
    ["create_api_key", "acme"],
    ["revoke_api_key", "abcdefghijkl"],
    ["load_demo"],
]


def ended(command: "subprocess.Popen[bytes]") -> tuple[int, str, str]:
    out, err = command.communicate(timeout=60)
    return command.returncode, out.decode(), err.decode()


REFUSED = "CommandError: The database cannot be reached, or cannot write; nothing is half done.\n"


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that refuses: it is bound, and not listened on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def test_no_database_is_one_sentence(process: Start, closed_port: int) -> None:
    command = process("expire_baskets", env={"DATABASE_URL": f"postgres://u:very-secret@127.0.0.1:{closed_port}/b"})
    assert ended(command) == (1, "", REFUSED)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_no_command_goes_on_without_a_database(
    run: Run, closed_port: int, transactional_db: None, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    connection.close()
    with monkeypatch.context() as unreachable:
        unreachable.setitem(connection.settings_dict, "PORT", closed_port)
        done = run(*command)
    assert (done.code, done.out, done.err) == (1, "", REFUSED)


def test_a_database_without_tables_is_one_sentence(run: Run, transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def create_partner(**_: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT * FROM baskets_not_there")

    monkeypatch.setattr(partners, "create_partner", create_partner)
    done = run("create_partner", "acme")
    assert (done.code, done.out) == (1, "")
    assert done.err == "CommandError: The database does not have the tables of this version: run the command `migrate` first.\n"


def test_a_read_only_database_is_one_sentence(process: Start) -> None:
    name = connection.ops.quote_name(connection.settings_dict["NAME"])
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    try:
        code, out, err = ended(process("create_partner", "acme"))
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    assert (code, out) == (1, "")
    assert err == REFUSED


def test_a_missing_right_is_reported_by_name(run: Run, transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def create_partner(**_: Any) -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL ROLE pg_monitor; SELECT * FROM baskets_partner")

    monkeypatch.setattr(partners, "create_partner", create_partner)
    done = run("create_partner", "acme")
    assert (done.code, done.out) == (1, "")
    assert done.err == "CommandError: The database refused: permission denied for table baskets_partner (42501); nothing is half done.\n"


def test_a_lock_that_is_not_given_is_one_sentence(process: Start) -> None:
    with transaction.atomic():
        Partner.objects.create(name="acme")
        code, out, err = ended(process("create_partner", "acme"))
        transaction.set_rollback(True)
    assert (code, out) == (1, "")
    assert err == "CommandError: The database is busy and a wait ran out; nothing is half done; run the command again later.\n"


def test_a_reader_that_goes_away_is_no_traceback(process: Start) -> None:
    command = process("create_partner", "acme")
    assert command.stdout is not None
    command.stdout.close()
    command.stdout = None
    _, err = command.communicate(timeout=60)
    assert (command.returncode, err) == (1, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="/dev/full is a thing of Linux")  # noqa: PTH110 (a device)
def test_a_full_disk_behind_standard_output_is_one_sentence(process: Start) -> None:
    with open("/dev/full", "wb") as full:  # noqa: PTH123 (a device)
        command = process("create_partner", "acme", stdout=full)
        _, err = command.communicate(timeout=60)
    assert (command.returncode, err) == (1, b"The result could not be printed: No space left on device.\n")


def test_a_terminal_without_unicode_gets_escapes(process: Start) -> None:
    code, out, err = ended(process("create_partner", "Söhne", env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}))
    assert (code, out, err) == (0, "Created partner 'S\\xf6hne'.\n", "")


def test_a_killed_import_leaves_nothing(process: Start) -> None:
    command = process("import_products", "-", stdin=subprocess.PIPE)
    assert command.stdin is not None
    command.stdin.write(b"product_id,name,brand,variant,main_product_id,price,currency,stock\na,A,,,,,,1\n")
    command.stdin.flush()
    command.terminate()
    command.stdin.close()
    command.stdin = None
    command.communicate(timeout=60)
    assert command.returncode != 0
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM baskets_product")
        assert cursor.fetchone() == (0,)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OperationalError("something"), "The database refused: something (no SQLSTATE); nothing is half done."),
        (InterfaceError("gone"), "The database cannot be reached, or cannot write; nothing is half done."),
        (
            OutcomeUnknown("gone"),
            "The connection to the database was lost while it stored the last change. Look whether that is made before you repeat it.",
        ),
        (DatabaseError("one\ntwo"), "The database refused: one (no SQLSTATE); nothing is half done."),
    ],
)
def test_a_database_error_is_described_in_a_sentence(error: DatabaseError, sentence: str) -> None:
    assert base.describe_database_error(error) == sentence


def test_plain_lines_come_now_and_then(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 6.0, 6.0, 7.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with progress.progress(doing="Reading", total=3000, unit="bytes") as advance:
        advance(1000)
        advance(1000)
        advance(1000)
    assert capsys.readouterr().err == "Reading: 2,000 of 3,000 bytes\n"


def test_a_terminal_gets_a_bar_on_standard_error(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with progress.progress(doing="Reading", total=3000, unit="bytes") as advance:
        advance(3000)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "3,000 bytes" in printed.err


@pytest.mark.parametrize("text", ["", "+", "1 ", " 1", "1.0", "0x1", "1e3", "\uff11", "1_0", "--1", "0", "11", "9" * 19])
def test_what_is_no_whole_number_within_bounds(text: str) -> None:
    with pytest.raises(arguments.ArgumentTypeError):
        arguments.bounded_int(minimum=1, maximum=10)(text)


def test_a_whole_number() -> None:
    assert [arguments.bounded_int(minimum=-1, maximum=10)(text) for text in ("-1", "0", "+7", "007", "10")] == [-1, 0, 7, 7, 10]
