"""Puts the sentences of the domain into the language of the page."""

from django.utils.translation import gettext

from baskets.domain.wording import Sentence


def translated(sentence: object) -> str:
    """Translate a sentence of the domain, or a refusal that says one."""
    text = str(sentence)
    if isinstance(text, Sentence):
        return gettext(text.template) % text.values if text.values else gettext(text.template)
    return gettext(text) if text else ""
