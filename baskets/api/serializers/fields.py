"""The field types of request bodies. They accept exact JSON types and convert nothing."""

from typing import Any

from rest_framework import serializers

from baskets import conf


class StrictBooleanField(serializers.BooleanField):
    """`true` or `false`. DRF's field also accepts "yes", 1 and "off", and such a value would abort a checkout."""

    default_error_messages = {"invalid": "Must be true or false."}

    def to_internal_value(self, data: Any) -> bool:
        """Accept a JSON boolean."""
        if not isinstance(data, bool):
            self.fail("invalid")
        return data


class StrictStringField(serializers.CharField):
    """A JSON string, unchanged: white space stays, and a number is refused."""

    default_error_messages = {"invalid": "Must be a string."}

    def __init__(self, **options: Any) -> None:
        super().__init__(trim_whitespace=False, **options)

    def to_internal_value(self, data: Any) -> str:
        """Accept a JSON string."""
        if not isinstance(data, str):
            self.fail("invalid")
        return data


class CountField(serializers.IntegerField):
    """A number of pieces: -1 removes the product, 0 saves it for later, `conf.piece_limit()` is the highest."""

    default_error_messages = {"invalid": "Must be a whole number."}
    minimum = -1

    def __init__(self, **options: Any) -> None:
        super().__init__(min_value=self.minimum, max_value=conf.piece_limit(), **options)

    def to_internal_value(self, data: Any) -> int:
        """Accept a whole number as `parse_json` returns it. `bool` is refused, although Python derives it from `int`."""
        if type(data) is not int:
            self.fail("invalid")
        return data


class GuestCountField(CountField):
    """A number of pieces of a new guest's product: 0 saves it for later; nothing can be removed yet."""

    minimum = 0
