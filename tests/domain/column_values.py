"""Values that matter of a column: derived from its field, and from the checks of its model. Names no column."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import CheckConstraint, F, Model, Q, Value

Field = Any  # A Django field, of any type of values.

# Past and future, each within the hold of a checkout and beyond the life of a basket. The same moments in all columns, so that two columns
# can also be equal.
MOMENTS = [timedelta(days=-400), timedelta(minutes=-10), timedelta(minutes=10), timedelta(days=400)]
LARGEST = 2**31 - 1  # Sums of it in PostgreSQL's bigint do not overflow.
MAX_LENGTH = 20  # Of a text.
MAX_KEYS = 5  # So many rows of the other table a foreign key names in turn.


def values_of(row: Model, field: Field, *, now: datetime) -> list[Any]:
    """Return the values other than the current one that a rule may distinguish. The database may refuse some.

    :param row: as it is stored.
    :raises TypeError: this module does not know the type of the column.
    """
    current = getattr(row, field.attname)
    compared = [value for check in _checks_of(type(row)) for name, value in _comparisons(check) if name == field.name]
    bounds = [value for value in compared if type(value) in {int, str}]
    found = [*([None] if field.null else []), *_values_of_type(field, current, bounds, now)]
    return [value for number, value in enumerate(found) if value != current and value not in found[:number]]


def values_of_number(*bounds: int) -> list[int]:
    """Return numbers at and beside each bound, those that often mean none or one, and a large one."""
    return [0, 1, LARGEST, *(bound + step for bound in bounds for step in (-1, 0, 1))]


def _values_of_type(field: Field, current: Any, bounds: list[Any], now: datetime) -> list[Any]:
    values: list[Any]
    match field:
        case _ if field.choices:
            values = [value for value, _ in field.flatchoices]
        case _ if field.related_model:
            values = list(field.related_model._base_manager.order_by("pk").values_list("pk", flat=True)[:MAX_KEYS])
        case models.BooleanField():
            values = [False, True]
        case models.DateTimeField():
            values = [now + since for since in MOMENTS]
        case models.IntegerField():
            values = values_of_number(current or 0, -(current or 0), *bounds)
        case models.CharField() | models.TextField():
            values = ["", "A" * min(field.max_length or MAX_LENGTH, MAX_LENGTH), *bounds]
        case models.UUIDField():
            values = [UUID(int=1)]
        case ArrayField():
            values = [[], _values_of_type(field.base_field, None, [], now)]
        case models.JSONField():
            values = [{}, []]
        case _:
            message = f"say which values of a {type(field).__name__} matter: {field} is one"
            raise TypeError(message)
    return values


def columns_checked_with(field: Field) -> list[Field]:
    """Return the other columns that a check of the model compares together with this one."""
    together = [{name for name, _ in _comparisons(check)} for check in _checks_of(field.model)]
    names = {name for columns in together if field.name in columns for name in columns}
    return [field.model._meta.get_field(name) for name in sorted(names - {field.name})]


def _checks_of(model: type[Model]) -> list[Any]:
    return [constraint.condition for constraint in model._meta.constraints if isinstance(constraint, CheckConstraint)]


def _comparisons(condition: Any) -> Iterator[tuple[str, Any]]:
    """Yield each field in the condition of a check, with each value that it is compared with."""
    if isinstance(condition, tuple):
        lookup, value = condition
        for one in value if isinstance(value, list) else [value]:
            yield lookup.split("__")[0], one
            if hasattr(one, "resolve_expression"):
                yield from _comparisons(one)
    elif isinstance(condition, Q):
        for child in condition.children:
            yield from _comparisons(child)
    elif isinstance(condition, F):
        yield condition.name, None
    else:
        parts = condition.get_source_expressions()
        values = [part.value for part in parts if isinstance(part, Value)]
        for part in parts:
            for name, _ in () if isinstance(part, Value) else _comparisons(part):
                yield name, None
                yield from ((name, value) for value in values)
