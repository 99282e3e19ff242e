"""The site of the admin: Django's own, which lists its tables only for the pages that show the list, and has scripts in German."""

from functools import partial
from typing import Any, cast

from django.contrib.admin import AdminSite
from django.contrib.admin.apps import AdminConfig
from django.http import HttpRequest, HttpResponse
from django.utils.functional import SimpleLazyObject


class DeskSite(AdminSite):
    """Lists the tables, and checks the permissions of each, only when a template reads the list.

    Django puts the list into the context of every page, for its sidebar; the sidebar of the desk has few places and does not read it.
    """

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> Any:
        """Return the list, built when it is first read."""
        return SimpleLazyObject(partial(super().get_app_list, request, app_label))

    def i18n_javascript(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Return the texts of scripts in the language of the page."""
        from baskets.admin.core.languages import ScriptTexts  # noqa: PLC0415 (this module is read before the models)

        return cast("HttpResponse", ScriptTexts.as_view()(request))


class DeskConfig(AdminConfig):
    """Django's admin, with this site. Source: the page "Overriding the default admin site" of Django's documentation."""

    default_site = "basket_project.admin.DeskSite"
