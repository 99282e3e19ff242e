"""Runs the serializers of request bodies, and maps what is wrong to the paths and rules of `validation_failed`."""

import functools
from collections.abc import Iterator, Mapping
from typing import Any

from rest_framework.serializers import BaseSerializer
from rest_framework.settings import api_settings

from baskets import conf
from baskets.api.protocol.identifiers import PRODUCT_RULE, is_product_id

NON_FIELD_KEY = api_settings.NON_FIELD_ERRORS_KEY


def validate_body(serializer: type[BaseSerializer[Any]], body: Mapping[str, Any], piece_limit: int) -> Mapping[str, Any]:
    """Check a body.

    :param body: a JSON object, as `parse_json` returns it.
    :param piece_limit: the setting that rules of fields depend on.
    :returns: its fields, by their published names.
    :raises ValidationError: a field breaks its rule.
    """
    # The type checker takes a class whose instances have no hash for one that has none itself. All rules are of single fields, so
    # `run_validation`, which looks for others, has nothing to add.
    fields: Mapping[str, Any] = _cached_serializer(serializer, piece_limit).to_internal_value(body)  # type: ignore[arg-type]
    return fields


@functools.cache
def _cached_serializer(serializer: type[BaseSerializer[Any]], piece_limit: int) -> BaseSerializer[Any]:
    """Return the one instance for all bodies of a kind; the limit is a parameter because the fields contain it.

    To create an instance costs many times as much as to read a body, and `to_internal_value` keeps nothing of the body.
    """
    del piece_limit
    return serializer()


def errors_by_path(errors: Mapping[Any, Any], parent: str = "") -> Iterator[tuple[str, str]]:
    """Flatten DRF's nested errors: yield the path of each wrong field, such as `products[2].count`, and the rule that it breaks.

    :param errors: `ValidationError.detail` of a serializer.
    """
    for name, error in errors.items():
        if name == NON_FIELD_KEY:
            path = parent
        elif isinstance(name, int):
            path = f"{parent}[{name}]"
        else:
            path = f"{parent}.{name}" if parent else name
        if isinstance(error, Mapping):
            yield from errors_by_path(error, path)
        else:
            yield path, " ".join(map(str, error))


def check_product_ids(body: Any) -> tuple[list[str], dict[str, str]]:
    """Check the bare array of ids that requests product details.

    :returns: the ids, and the rule that is broken by the path of each wrong value, such as `body[3]`.
    """
    if not isinstance(body, list):
        return [], {"body": "Must be an array of product ids."}
    if len(body) > conf.details_limit():
        return [], {"body": f"Must not have more than {conf.details_limit()} ids."}
    return body, {f"body[{index}]": PRODUCT_RULE for index, item in enumerate(body) if not is_product_id(item)}
