"""Configures logging: one JSON object per line on standard error. Exceptions are logged without their messages.

structlog writes the service's own lines directly, because each call has one and `logging` is slower. Lines of libraries come through
`logging`, and get the same format.
"""

import functools
import json
import logging.config
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import structlog

from baskets.error_summary import summarize_error
from baskets.log_context import current_fields

# Django's lines contain the path, and with it the user id. The API logs its requests itself.
SILENCED_LOGGERS = ("django.request", "django.server")


def complete_line(logger: Any, level: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Add what every line has: the fields of its context, its level, its logger and the time.

    structlog has a processor for each, which together cost three times as much.
    """
    source = line.get("_record", logger)  # A line of `logging` has its record, and no logger.
    return {**current_fields(), **line, "level": level, "logger": source.name, "timestamp": _timestamp()}


def _timestamp() -> str:
    now = time.time()
    seconds = int(now)
    return f"{_format_second(seconds)}.{int((now - seconds) * 1_000_000):06}Z"


@functools.lru_cache(maxsize=2)
def _format_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def redact_exceptions(_: Any, __: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Replace an exception by its types and places: its message may contain personal data or secrets."""
    error = line.pop("exc_info", None)
    line.pop("exc_text", None)
    line.pop("stack_info", None)
    if error and not isinstance(error, BaseException):
        _, error, _ = error if isinstance(error, tuple) else sys.exc_info()
    return {**line, **summarize_error(error)} if error else line


def encode_line(_: Any, __: str, line: Any) -> bytes:
    """Encode a rendered line."""
    return str(line).encode(errors="backslashreplace")


class StandardError(structlog.BytesLogger):
    """Writes lines to standard error. A write error, as on a full disk, does not affect the call."""

    def msg(self, message: bytes) -> None:
        """Write one line."""
        try:
            super().msg(message)
        except (OSError, ValueError):
            return

    # structlog calls the method named like the level.
    debug = info = warning = error = critical = exception = msg


class LineHandler(logging.Handler):
    """Writes lines of `logging` through the same writer, so that concurrent lines do not interleave."""

    def __init__(self) -> None:
        super().__init__()
        self._file = StandardError(open_stderr())

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        try:
            self._file.msg(encode_line(self, "", self.format(record)))
        except Exception:  # noqa: BLE001 (a log line must not stop a library)
            self.handleError(record)


def open_stderr() -> BinaryIO:
    """Return standard error, or a null device if the process has none."""
    return getattr(sys.stderr, "buffer", None) or Path(os.devnull).open("wb")


_JSON = json.JSONEncoder(default=repr)


def _render_json(logger: Any, level: str, line: structlog.typing.EventDict) -> str:
    return _JSON.encode(redact_exceptions(logger, level, line))


def _renderer(debug: bool) -> structlog.typing.Processor:  # noqa: FBT001 (passed on)
    """Return the processor that renders a line."""
    return structlog.dev.ConsoleRenderer() if debug else _render_json


def logging_options(*, debug: bool) -> dict[str, Any]:
    """Return the configuration of Python's `logging`, for lines of Django, the process server and other libraries.

    :param debug: readable lines with complete tracebacks, for developers.
    :returns: a dictionary for `logging.config.dictConfig`.
    """
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "line": {
                "()": structlog.stdlib.ProcessorFormatter,
                "foreign_pre_chain": [complete_line],
                "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, _renderer(debug)],
            }
        },
        "handlers": {"stderr": {"()": LineHandler, "formatter": "line"}},
        "root": {"handlers": ["stderr"], "level": "INFO"},
        "loggers": {
            **{name: {"level": "CRITICAL"} for name in SILENCED_LOGGERS},
            # At DEBUG, Django logs statements with their values.
            "django.db.backends": {"level": "INFO"},
        },
    }


def logging_config(*, debug: bool) -> None:
    """Configure structlog and `logging` to write to standard error in one format."""
    logging.config.dictConfig(logging_options(debug=debug))
    structlog.configure(
        processors=[complete_line, _renderer(debug), encode_line],
        logger_factory=lambda *names: StandardError(open_stderr(), name=next(iter(names), "")),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    )
