"""The fields that all lines of the log have while a block runs, such as the id of a request. `structlog.contextvars` costs more."""

import threading
from typing import Any


class _State(threading.local):
    """The fields of this thread. The mapping is replaced, and never changed."""

    def __init__(self) -> None:
        self.fields: dict[str, Any] = {}


_state = _State()


def current_fields() -> dict[str, Any]:
    """Return the fields of the lines that this thread logs now."""
    return _state.fields


class log_context:  # noqa: N801 (as context managers are named)
    """Add fields to the lines that this thread logs in this block.

    >>> with log_context(request_id=request_id):
    ...     log.info("request")
    """

    __slots__ = ("_before", "_fields")

    def __init__(self, **fields: Any) -> None:
        self._fields = fields

    def __enter__(self) -> None:
        self._before = _state.fields
        _state.fields = self._before | self._fields

    def __exit__(self, *error: object) -> None:
        _state.fields = self._before
