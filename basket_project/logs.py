"""How the service logs: one JSON object per line on standard error, through structlog. Errors are told without their messages."""

import logging.config
import sys
from collections.abc import Sequence
from typing import Any

import structlog

from baskets.tracebacks import described

SHARED: list[structlog.typing.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]
# Django names the path in its own lines, and the path holds the user id: the API logs its requests itself.
SILENT = ("django.request", "django.server")


def without_messages(_: Any, __: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Tell an error that comes with a line by its types and places: its message may hold what no log may."""
    given = line.pop("exc_info", None)
    line.pop("exc_text", None)
    line.pop("stack_info", None)
    if given and not isinstance(given, BaseException):
        _, given, _ = given if isinstance(given, tuple) else sys.exc_info()
    return {**line, **described(given)} if given else line


def logging_options(*, debug: bool, named: Sequence[str] = ()) -> dict[str, Any]:
    """Describe how all log lines, those of Django and of the process server included, go through one formatter.

    :param debug: for the eyes of a developer: readable, and errors whole.
    :param named: loggers that would print by themselves.
    """
    renderer = structlog.dev.ConsoleRenderer() if debug else structlog.processors.JSONRenderer()
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "line": {
                "()": structlog.stdlib.ProcessorFormatter,
                "foreign_pre_chain": SHARED,
                "processors": [
                    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                    *([] if debug else [without_messages]),
                    renderer,
                ],
            }
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"handlers": ["stderr"], "level": "INFO"},
        "loggers": {
            **{name: {"level": "CRITICAL"} for name in SILENT},
            # Statements with their values, which Django prints at this level only.
            "django.db.backends": {"level": "INFO"},
            **{name: {"handlers": ["stderr"], "propagate": False} for name in named},
        },
    }


def logging_config(*, debug: bool) -> None:
    """Send all log lines through one formatter."""
    logging.config.dictConfig(logging_options(debug=debug))
    structlog.configure(
        processors=[*SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    )
