"""Columns that show one attribute of a record, or the record by one function. A column that shows more is a method of its admin."""

from collections.abc import Callable
from operator import attrgetter
from typing import Any

from django.contrib import admin

from baskets.admin.core import display
from baskets.admin.core.languages import Text


def column(title: Text, attribute: str | None, show: Callable[..., object], **options: Any) -> Callable[[Any, Any], object]:
    """Return a method for `list_display` and `shown`. A missing value and an empty text are shown as `display.NOTHING`.

    >>> ended = column(_("ended"), "session.finished_at", display.moment)

    :param attribute: of the record, with dots for related records; None: the record itself.
    :param show: gets the value, and the options by name; mostly a function of `display`.
    """
    get = attrgetter(attribute) if attribute else _itself

    @admin.display(description=title)
    def method(_: Any, record: Any) -> object:
        value = get(record)
        return display.NOTHING if value is None or value == "" else show(value, **options)

    return method


def _itself(record: Any) -> Any:
    return record
