"""The languages of the admin: which one a request wants, and their catalogs, read from their sources.

Only pages under `/admin/` are translated. Everything else, the API and what is stored included, stays in the language of the sources.
"""

import functools
import io
from gettext import GNUTranslations
from importlib import resources
from typing import TYPE_CHECKING, Any

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from django.conf import settings
from django.utils.functional import Promise
from django.utils.translation import gettext, gettext_noop, trans_real
from django.views.i18n import JavaScriptCatalog

# A text of a page: a lazy one is translated when it is shown.
if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

    Text = StrOrPromise
else:
    Text = str | Promise

# Texts of Django's chooser of several values that its German catalog lacks.
CHOOSER_TEXTS = (
    gettext_noop('Choose %s by selecting them and then select the "Choose" arrow button.'),
    gettext_noop("Choose all %s"),
    gettext_noop("Choose selected %s"),
    gettext_noop('Remove %s by selecting them and then select the "Remove" arrow button.'),
    gettext_noop("Remove all %s"),
    gettext_noop("Remove selected %s"),
    gettext_noop("(click to clear)"),
)


class ScriptTexts(JavaScriptCatalog):
    """The texts of the admin's scripts: those that Django has, and ours."""

    packages = ["django.contrib.admin"]

    def get_catalog(self) -> dict[str, Any]:
        """Return the translations by text."""
        return super().get_catalog() | {text: gettext(text) for text in CHOOSER_TEXTS}


@functools.cache
def load_catalogs() -> None:
    """Add the texts of this service to those of Django, for each language but the one of the sources.

    Django reads compiled catalogs only. These are compiled in memory when the process starts, so that no compiled file has to be
    built, shipped or kept up to date.
    """
    for language, _ in settings.LANGUAGES:
        if language == settings.LANGUAGE_CODE:
            continue
        source = resources.files("baskets").joinpath("locale", language, "LC_MESSAGES", "django.po")
        compiled = io.BytesIO()
        with source.open("rb") as file:
            write_mo(compiled, read_po(file, locale=language))
        compiled.seek(0)
        trans_real.translation(language).merge(GNUTranslations(compiled))
