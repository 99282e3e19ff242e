"""What all bodies of requests have in common."""

import pytest
from rest_framework.serializers import Serializer

from baskets.api import urls  # noqa: F401 (loads all views, and with them all bodies)
from baskets.api.serializers.requests import RequestSerializer


@pytest.mark.parametrize("body", RequestSerializer.__subclasses__(), ids=lambda body: body.__name__)
def test_rules_are_of_single_fields(body: type[RequestSerializer]) -> None:
    # `validate_body` runs no others.
    assert body.validate is Serializer.validate
    assert body().validators == []
    assert not any(field.read_only for field in body().fields.values())
