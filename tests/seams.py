"""Where tests step between two functions of the service: which module calls which function. What is renamed is followed here only.

A test patches a module itself where it changes a constant, or where it has a double for a library.
"""

from dataclasses import dataclass
from types import ModuleType

import pytest

from baskets.admin.core import display
from baskets.api import exceptions
from baskets.api.views import api_docs, baskets, guides, health, metrics
from baskets.domain.checkout import ending, sessions
from baskets.net import http_client


@dataclass(frozen=True)
class Seam:
    """A function, as one module calls it."""

    module: ModuleType
    name: str

    def replace(self, patch: pytest.MonkeyPatch, double: object) -> None:
        """Let the module call something else until the end of the test or of the patch."""
        patch.setattr(self.module, self.name, double)


# Inside the transaction of a start or of a finish.
LOCK_OF_A_BASKET = Seam(sessions, "lock_and_read")
LISTS_OF_A_START = Seam(sessions, "write_lists")
LISTS_OF_AN_END = Seam(ending, "write_lists")
EVENT_OF_AN_ORDER = Seam(sessions, "record_event")
EVENT_OF_AN_END = Seam(ending, "record_event")

# What answers read.
BASKET_OF_AN_ANSWER = Seam(baskets, "read_basket")
BASKET_OF_A_REFUSAL = Seam(exceptions, "read_basket")
MIGRATIONS_OF_READYZ = Seam(health, "missing_migrations")
NUMBERS_OF_METRICS = Seam(metrics, "execute")
BODY_OF_LIVEZ = Seam(health, "json_response")
PAGE_OF_A_GUIDE = Seam(guides, "render")
DOCUMENT_OF_SCHEMA = Seam(api_docs, "openapi_document")
BADGE_ON_A_PAGE = Seam(display, "badge")

# What goes out.
REQUEST_TO_ANOTHER = Seam(http_client, "send_request")
