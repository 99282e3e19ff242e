"""Configures the Django application."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class BasketsConfig(AppConfig):
    """The only Django application of this project."""

    name = "baskets"
    verbose_name = _("Baskets")

    def ready(self) -> None:
        """Register the system checks, and switch traces on if the environment asks for them."""
        from baskets import (  # noqa: PLC0415 (once the app registry is complete)
            checks,  # noqa: F401 (registered on import)
            tracing,
        )
        from baskets.db import checks as database_checks  # noqa: F401, PLC0415

        tracing.start()
