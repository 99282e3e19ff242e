"""Describes an error by its types and places, without its message: a database puts the values of a row into that."""

import traceback
from types import TracebackType
from typing import Any

MAX_CAUSES = 5
MAX_FRAMES = 15


def summarize_error(error: BaseException, trace: TracebackType | None = None) -> dict[str, Any]:
    """Describe an error for the log: the types of it and of its causes, and where it came from.

    :param trace: where the error has lost its own.
    """
    chain: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(chain) < MAX_CAUSES:
        chain.append(f"{type(cause).__module__}.{type(cause).__qualname__}")
        cause = cause.__cause__ or cause.__context__
    frames = traceback.extract_tb(error.__traceback__ or trace)[-MAX_FRAMES:]
    return {"error": chain, "trace": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]}
