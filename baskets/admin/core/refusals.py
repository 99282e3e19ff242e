"""Puts the sentences of the domain into the language of the page."""

from django.utils.translation import gettext

from baskets.domain.wording import Sentence


def translated(sentence: object) -> str:
    """Translate a sentence of the domain, or the text of a refusal."""
    text = str(sentence)
    if isinstance(text, Sentence):
        # A sentence may be a part of another one.
        values = {name: translated(value) if isinstance(value, Sentence) else value for name, value in text.values.items()}
        return gettext(text.template) % values if values else gettext(text.template)
    return gettext(text) if text else ""
