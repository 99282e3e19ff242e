"""Configures the Django application."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class BasketsConfig(AppConfig):
    """The only Django application of this project."""

    name = "baskets"
    verbose_name = _("Baskets")

    def ready(self) -> None:
        """Register the system checks."""
        from baskets import checks  # noqa: F401, PLC0415 (registered on import, once the app registry is complete)
        from baskets.db import checks as database_checks  # noqa: F401, PLC0415
