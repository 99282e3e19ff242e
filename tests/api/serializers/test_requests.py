"""What all bodies of requests have in common."""

import pytest
from pytest_django import Settings
from rest_framework.serializers import Serializer

from baskets.api import urls  # noqa: F401 (loads all views, and with them all bodies)
from baskets.api.serializers.requests import RequestSerializer
from baskets.api.views.base import MAX_RECURRING_BYTES, _read_recurring
from tests.api.conftest import Api, Sells


@pytest.mark.parametrize("body", RequestSerializer.__subclasses__(), ids=lambda body: body.__name__)
def test_rules_are_of_single_fields(body: type[RequestSerializer]) -> None:
    # `validate_body` runs no others.
    assert body.validate is Serializer.validate
    assert body().validators == []
    assert not any(field.read_only for field in body().fields.values())


def test_only_short_bodies_that_recur_are_kept(api: Api, sells: Sells, settings: Settings) -> None:
    sells("mug")
    _read_recurring.cache_clear()
    path = "/baskets/users/ada/products/mug"
    for _ in range(2):
        assert api.post(path, {"count": 7}).data["cart"][0]["count"] == 7
    assert _read_recurring.cache_info()[:2] == (1, 1)
    for body in ({"count": "7"}, {"count": "7" * MAX_RECURRING_BYTES}, {"count": 7, "note": "x" * MAX_RECURRING_BYTES}):
        api.post(path, body)
    api.patch(path, {"count": 7})
    assert _read_recurring.cache_info().currsize == 1
    settings.BASKETS_PIECE_LIMIT = 6
    assert api.post(path, {"count": 7}).fields == {"count"}
