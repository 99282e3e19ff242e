"""Checks that mutations find their place by name and words, and refuse what they do not find exactly once."""

import pytest

from tests.mutation.places import PlaceNotFound, mutate, resolve

SOURCE = """
LIMIT = 3


class Counter:
    def count(self, number):
        return LIMIT + (
            number
        )

    def reset(self):
        return LIMIT
"""


def test_place_is_split_into_file_and_names() -> None:
    file, names = resolve("tests.mutation.places.PlaceNotFound")
    assert (str(file), names) == ("tests/mutation/places.py", ("PlaceNotFound",))
    with pytest.raises(PlaceNotFound):
        resolve("tests_of_mutation.places")


def test_layout_does_not_matter_and_other_objects_stay_untouched() -> None:
    broken = mutate(SOURCE, names=("Counter", "count"), old="LIMIT + ( number )", new="0")
    assert broken == SOURCE.replace("LIMIT + (\n            number\n        )", "0")
    assert mutate(SOURCE, names=("LIMIT",), old="3", new="4") == SOURCE.replace("3", "4")


@pytest.mark.parametrize(
    ("names", "old"),
    [(("Counter",), "return LIMIT"), (("Counter", "reset"), "number"), (("Counter", "missing"), "LIMIT"), ((), "absent")],
    ids=["twice", "in another method", "no such method", "nowhere"],
)
def test_unclear_place_is_refused(names: tuple[str, ...], old: str) -> None:
    with pytest.raises(PlaceNotFound):
        mutate(SOURCE, names=names, old=old, new="")
