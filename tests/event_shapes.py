"""Holds the events that tests record against the shapes that are promised to partners."""

from functools import cache
from typing import Any

import jsonschema_rs
from django.db import DatabaseError, connection

from baskets.api.schema.document import generate_schema
from baskets.api.serializers.events import event_name
from baskets.domain.events.payloads import HIDDEN_DATA_KEYS
from baskets.models import Event


@cache
def _validators() -> dict[str, Any]:
    """The validator of the data of each kind. A member that is not described is an error."""
    components = generate_schema()["components"]["schemas"]
    for schema in components.values():
        if "properties" in schema:
            schema["additionalProperties"] = False
    return {
        kind: jsonschema_rs.validator_for(
            {**components[event_name(kind)]["properties"]["data"], "components": {"schemas": components}}, validate_formats=True
        )
        for kind in Event.Kind.values
    }


def event_problems(kind: str, data: dict[str, Any]) -> list[str]:
    """What is wrong with the data of an event, as partners see it."""
    shown = {name: value for name, value in data.items() if name not in HIDDEN_DATA_KEYS.get(kind, ())}
    return [f"{kind}: {error.message} in {shown}" for error in _validators()[kind].iter_errors(shown)]


def recorded_problems() -> list[str]:
    """What is wrong with the events that the current test has recorded; nothing where it leaves no usable transaction."""
    if connection.connection is None or connection.needs_rollback:
        return []
    try:
        recorded = list(Event.objects.values_list("kind", "data").distinct()[:1000])
    except DatabaseError:
        return []
    return [problem for kind, data in recorded for problem in event_problems(kind, data)]
