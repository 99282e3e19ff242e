"""What logs and traces say of an exception: types, code locations, SQLSTATE. No message, because those of databases quote row values."""

import traceback
from types import TracebackType
from typing import Any

import psycopg

MAX_CAUSES = 5
MAX_FRAMES = 15


def summarize_error(error: BaseException, trace: TracebackType | None = None) -> dict[str, Any]:
    """Summarize an exception for the log.

    :param trace: the traceback to use if the exception has none.
    :returns: `error`: the type of the exception, then those of its causes, at most `MAX_CAUSES`; `trace`: the last
        `MAX_FRAMES` frames as `file:line function`.
    """
    chain: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(chain) < MAX_CAUSES:
        chain.append(f"{type(cause).__module__}.{type(cause).__qualname__}")
        cause = cause.__cause__ or cause.__context__
    frames = traceback.extract_tb(error.__traceback__ or trace)[-MAX_FRAMES:]
    return {"error": chain, "trace": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]}


def sqlstate_of(error: BaseException) -> str | None:
    """Return the SQLSTATE of an error of Django or psycopg; None where the server did not send one."""
    source: BaseException | None = error
    while source is not None:
        if isinstance(source, psycopg.Error):
            return source.sqlstate
        source = source.__cause__
    return None
