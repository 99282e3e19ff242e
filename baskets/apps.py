"""Configures the Django application."""

import threading

from django.apps import AppConfig
from django.db import connections
from django.utils.translation import gettext_lazy as _


class BasketsConfig(AppConfig):
    """The only Django application of this project."""

    name = "baskets"
    verbose_name = _("Baskets")

    def ready(self) -> None:
        """Register the system checks, keep connections by thread, and switch traces on if the environment asks for them."""
        from baskets import (  # noqa: PLC0415 (once the app registry is complete)
            checks,  # noqa: F401 (registered on import)
            tracing,
        )
        from baskets.db import checks as database_checks  # noqa: F401, PLC0415

        # No thread runs an event loop, so this does all that asgiref's `Local` does, which takes long for each look-up of a connection.
        connections._connections = threading.local()  # type: ignore[attr-defined]  # noqa: SLF001
        tracing.start()
