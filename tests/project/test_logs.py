"""The log: one JSON object a line, errors without their messages, and nothing in it that names a user or opens a door."""

import errno
import io
import json
import logging
import logging.config
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import structlog
from django.db import IntegrityError, connection
from django.test import Client

from basket_project.logs import StandardError, encode_line, logging_config, logging_options, open_stderr, redact_exceptions
from baskets.log_context import log_context
from baskets.models import Partner
from baskets.models.basket_snapshot import Owner
from tests.conftest import Log
from tests.secrecy import secrets_in

PROJECT = Path(__file__).parents[2]
KEY = f"bk_{'kq7' * 4}_{'0' * 64}"


@pytest.fixture
def handler() -> Iterator["logging.StreamHandler[io.StringIO]"]:
    """A handler that writes all lines as the service's own does on standard error."""
    options = logging_options(debug=False)["formatters"]["line"]
    formatter = options["()"](foreign_pre_chain=options["foreign_pre_chain"], processors=options["processors"])
    handler = logging.StreamHandler(io.StringIO())
    handler.setFormatter(formatter)
    logging.getLogger().addHandler(handler)
    yield handler
    logging.getLogger().removeHandler(handler)


@pytest.fixture
def logged_lines(handler: "logging.StreamHandler[io.StringIO]") -> Callable[[], list[Any]]:
    """All lines that the libraries have logged."""
    return lambda: [json.loads(line) for line in handler.stream.getvalue().splitlines()]


def fail() -> None:
    try:
        {}[KEY]
    except KeyError as cause:
        message = "user zoe"
        raise ValueError(message) from cause


@pytest.mark.parametrize("logger", ["baskets.api", "django.security.csrf", "any.library"])
def test_an_error_is_logged_without_its_message(
    logged_lines: Callable[[], list[Any]], log: Log, handler: logging.Handler, logger: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # By the service's own handler and no other: that of the test runner prints errors whole.
    monkeypatch.setattr(logging.getLogger(logger), "propagate", False)
    monkeypatch.setattr(logging.getLogger(logger), "handlers", [handler])
    try:
        fail()
    except ValueError:
        logging.getLogger(logger).exception("it went wrong")
        structlog.get_logger(logger).exception("it went wrong")
    lines = [*logged_lines(), *log.lines("it went wrong")]
    assert len(lines) == 2
    for line in lines:
        assert (line["event"], line["level"], line["logger"]) == ("it went wrong", "error", logger)
        assert line["error"] == ["builtins.ValueError", "builtins.KeyError"]
        assert line["trace"][-1].endswith(" fail")
        assert secrets_in(json.dumps(line)) == set()
        assert "zoe" not in json.dumps(line)


@pytest.mark.parametrize("given", [None, False, True, (None, None, None), ValueError("zoe")])
def test_an_error_may_come_in_any_way(given: Any) -> None:
    line = redact_exceptions(None, "error", {"event": "x", "exc_info": given})
    assert line["event"] == "x"
    assert line.get("error") == (["builtins.ValueError"] if isinstance(given, ValueError) else None)


def test_every_line_has_a_time_and_the_fields_of_its_context(logged_lines: Callable[[], list[Any]], log: Log) -> None:
    began = datetime.now(UTC)
    with log_context(request_id="1", dry_run=False):
        with log_context(dry_run=True):
            structlog.get_logger("any").warning("hello", request_id="2")
            logging.getLogger("any").warning("hello")
        structlog.get_logger("any").warning("hello")
    structlog.get_logger("any").warning("hello")
    lines = [*log.lines("hello"), *logged_lines()]
    assert [(line.get("request_id"), line.get("dry_run")) for line in lines] == [("2", True), ("1", False), (None, None), ("1", True)]
    for line in lines:
        assert began <= datetime.fromisoformat(line["timestamp"]) <= datetime.now(UTC)
        assert re.fullmatch(r"[0-9-]{10}T[0-9:]{8}\.[0-9]{6}Z", line["timestamp"])
        assert (line["level"], line["logger"]) == ("warning", "any")


class Broken(io.BytesIO):
    """A disk that is full."""

    def write(self, line: Any) -> int:
        raise OSError(errno.ENOSPC, line)


def test_a_line_that_cannot_be_written_fails_no_call() -> None:
    closed, there = io.BytesIO(), io.BytesIO()
    closed.close()
    for file in (Broken(), closed, there):
        for level in ("debug", "info", "warning", "error", "critical", "exception"):
            getattr(StandardError(file), level)(b"line")
    assert there.getvalue() == b"line\n" * 6


@pytest.mark.parametrize("given", [None, io.StringIO()])
def test_a_service_without_a_standard_error_logs_nowhere(given: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", given)
    with open_stderr() as file:
        StandardError(file).info(b"line")


def test_lines_of_both_kinds_are_not_mixed_up() -> None:
    """Long ones, from many threads, to a pipe that nothing buffers, as in a container."""
    program = """
import logging, threading, structlog
from basket_project.logs import logging_config
logging_config(debug=False)
def write(number):
    for _ in range(40):
        structlog.get_logger("ours").info("x" * 70_000, number=number)
        logging.getLogger("theirs").info("y" * 70_000)
threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
    ended = subprocess.run([sys.executable, "-u", "-c", program], cwd=PROJECT, stderr=subprocess.PIPE, check=True, timeout=60)
    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    assert Counter(line["logger"] for line in lines) == {"ours": 320, "theirs": 320}


def test_what_cannot_be_encoded_is_written_all_the_same() -> None:
    assert encode_line(None, "", "half \udcff of a pair") == rb"half \udcff of a pair"


def test_readable_lines_are_for_developers(monkeypatch: pytest.MonkeyPatch) -> None:
    there = io.BytesIO()
    before = structlog.get_config()
    monkeypatch.setattr("sys.stderr", io.TextIOWrapper(there))
    try:
        logging_config(debug=True)
        structlog.get_logger("any").info("hello", name="Zoë")
    finally:
        structlog.configure(**before)
        logging.config.dictConfig(logging_options(debug=False))
    assert "Zoë" in there.getvalue().decode()


def test_what_a_database_quotes_is_not_repeated(logged_lines: Callable[[], list[Any]], partner: Partner) -> None:
    Partner.objects.create(name="zoe-tv")
    with pytest.raises(IntegrityError, match="zoe-tv") as failure:
        Partner.objects.create(name="zoe-tv")
    logging.getLogger("any").error("refused", exc_info=failure.value)
    assert "zoe-tv" not in json.dumps(logged_lines())


def test_statements_are_not_logged_with_their_values(logged_lines: Callable[[], list[Any]], db: None) -> None:
    with connection.cursor() as cursor:
        connection.force_debug_cursor = True
        try:
            cursor.execute("SELECT %s", ["zoe"])
        finally:
            connection.force_debug_cursor = False
    assert logged_lines() == []


def test_lines_of_calls_quote_no_address(logged_lines: Callable[[], list[Any]], log: Log, db: None) -> None:
    client = Client(raise_request_exception=False)
    for path, host in (("/baskets/users/zoe-zoe", "127.0.0.1"), ("/admin/zoe-zoe/", "127.0.0.1"), ("/livez", "evil.example")):
        client.get(path, headers={"Host": host, "X-API-Key": KEY})
        client.post(path, headers={"Host": host, "X-API-Key": KEY})
    text = json.dumps(logged_lines()) + log.text
    assert "zoe-zoe" not in text
    assert secrets_in(text) == set()


def test_errors_are_not_mailed() -> None:
    handlers = [handler for name in ("", "django", "django.request") for handler in logging.getLogger(name).handlers]
    assert not any("mail" in type(handler).__name__.lower() for handler in handlers)


# --- The guard that watches all tests ------------------------------------------------------------


def test_the_guard_knows_keys_tokens_and_users() -> None:
    Owner(partner_id=1, user_id="zoe@home.example")
    token = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZGEifQ.x"
    for text, secret in (
        (f"key {KEY}", KEY),
        (f'{{"auth": "Bearer {token}"}}', token),
        ("{'user_id': 'zoe@home.example'}", "zoe@home.example"),
        ('"zoe@home.example"', "zoe@home.example"),
        ("user=zoe@home.example, x", "zoe@home.example"),
    ):
        assert secrets_in(text) == {secret}
    for harmless in (KEY.split("_")[1], "kiosk", "30a12833e3c1db5f", "baskets/users/<user_id>", "busy"):
        assert secrets_in(harmless) == set()
