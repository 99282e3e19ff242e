"""Sentences for staff: English in the API, in logs and in what is stored, and in the language of the reader on a page."""

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.utils.translation import override


class Sentence(str):
    """An English sentence that remembers its template and its values, so that a page can write it in another language.

    :param template: as the sources have it, with placeholders such as `%(number)s`.
    :param values: by placeholder.
    """

    __slots__ = ("template", "values")
    template: str
    values: Mapping[str, Any]

    def __str__(self) -> str:
        return self


def sentence(template: str, **values: Any) -> Sentence:
    """Write a sentence in English. A value may be the lazy label of a code, such as a status.

    >>> sentence("At most %(number)s pieces.", number=3)
    'At most 3 pieces.'
    """
    with override(settings.LANGUAGE_CODE):
        text = Sentence(template % values if values else template)
    text.template, text.values = template, values
    return text
