"""Describes an error by its types and places, without its message: a database puts the values of a row into that."""

import traceback
from types import TracebackType
from typing import Any

DEEPEST = 5
LAST_FRAMES = 15


def described(error: BaseException, trace: TracebackType | None = None) -> dict[str, Any]:
    """Describe an error for the log: the types of it and of its causes, and where it came from.

    :param trace: where the error has lost its own.
    """
    chain: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(chain) < DEEPEST:
        chain.append(f"{type(cause).__module__}.{type(cause).__qualname__}")
        cause = cause.__cause__ or cause.__context__
    frames = traceback.extract_tb(error.__traceback__ or trace)[-LAST_FRAMES:]
    return {"error": chain, "trace": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]}
