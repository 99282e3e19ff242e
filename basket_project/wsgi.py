"""The WSGI application of the service."""

import gc
import os

import django
from django.urls import get_resolver

from basket_project.handler import Handler

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "basket_project.settings")


def preload() -> None:
    """Load the program before the first request, and exempt it from garbage collection.

    With the default thresholds the collector takes 5% of a request's time, and a full collection stops the process for 100 ms.
    A call leaves no cycles, nor does a refusal, but other exceptions may: the thresholds must not be much higher either.
    """
    get_resolver().url_patterns  # noqa: B018 (reading the property loads them)
    from baskets.api.schema.document import openapi_document  # noqa: PLC0415 (needs the settings and the views)

    openapi_document()
    gc.collect()
    gc.freeze()
    gc.set_threshold(2_000, 10, 10)


django.setup(set_prefix=False)
application = Handler()
preload()
