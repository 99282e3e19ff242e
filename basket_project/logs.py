"""How the service logs: one JSON object per line on standard error, through structlog. Errors are told without their messages.

The service's own lines are written by structlog itself, because there is one for each call. Those of the libraries come through
Python's `logging`, and are made to look the same.
"""

import contextlib
import logging.config
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import structlog

from baskets.error_summary import described

SHARED_PROCESSORS: list[structlog.typing.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]
# Django names the path in its own lines, and the path holds the user id: the API logs its requests itself.
SILENCED_LOGGERS = ("django.request", "django.server")


def redact_exceptions(_: Any, __: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Tell an error that comes with a line by its types and places: its message may hold what no log may."""
    given = line.pop("exc_info", None)
    line.pop("exc_text", None)
    line.pop("stack_info", None)
    if given and not isinstance(given, BaseException):
        _, given, _ = given if isinstance(given, tuple) else sys.exc_info()
    return {**line, **described(given)} if given else line


def encode_line(_: Any, __: str, line: Any) -> bytes:
    """Encode a line that is text already."""
    return str(line).encode(errors="backslashreplace")


class StandardError(structlog.BytesLogger):
    """Writes lines to standard error. One that cannot be written, as on a full disk, stops no call."""

    def msg(self, message: bytes) -> None:
        """Write one line."""
        with contextlib.suppress(OSError, ValueError):
            super().msg(message)

    # By these names structlog writes lines of each level.
    debug = info = warning = error = critical = exception = msg


class LineHandler(logging.Handler):
    """Writes the lines of Python's `logging` as the others are written, so that no two are mixed up."""

    def __init__(self) -> None:
        super().__init__()
        self._file = StandardError(open_stderr())

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        try:
            self._file.msg(encode_line(self, "", self.format(record)))
        except Exception:  # noqa: BLE001 (what a library says may not stop it)
            self.handleError(record)


def open_stderr() -> BinaryIO:
    """Where lines go; nowhere, if the service was started without a standard error."""
    return getattr(sys.stderr, "buffer", None) or Path(os.devnull).open("wb")


def _writers(debug: bool) -> list[structlog.typing.Processor]:  # noqa: FBT001 (a flag handed on)
    """What makes text of a line."""
    return [structlog.dev.ConsoleRenderer()] if debug else [redact_exceptions, structlog.processors.JSONRenderer()]


def logging_options(*, debug: bool, named: Sequence[str] = ()) -> dict[str, Any]:
    """Describe how the lines of Python's `logging` are written: those of Django, of the process server, and of other libraries.

    :param debug: for the eyes of a developer: readable, and errors whole.
    :param named: loggers that would print by themselves.
    """
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "line": {
                "()": structlog.stdlib.ProcessorFormatter,
                "foreign_pre_chain": SHARED_PROCESSORS,
                "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_writers(debug)],
            }
        },
        "handlers": {"stderr": {"()": LineHandler, "formatter": "line"}},
        "root": {"handlers": ["stderr"], "level": "INFO"},
        "loggers": {
            **{name: {"level": "CRITICAL"} for name in SILENCED_LOGGERS},
            # Statements with their values, which Django prints at this level only.
            "django.db.backends": {"level": "INFO"},
            **{name: {"handlers": ["stderr"], "propagate": False} for name in named},
        },
    }


def logging_config(*, debug: bool) -> None:
    """Send all log lines to standard error, in one shape."""
    logging.config.dictConfig(logging_options(debug=debug))
    structlog.configure(
        processors=[*SHARED_PROCESSORS, *_writers(debug), encode_line],
        logger_factory=lambda *names: StandardError(open_stderr(), name=next(iter(names), "")),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    )
