"""The schema, and the two pages that show it. Both load every script and style from this service."""

import functools
import threading

from csp.decorators import csp_update
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiJsonRenderer

from baskets.api.views.health import get_only


@get_only
def schema(request: HttpRequest) -> HttpResponse:
    """Serve the OpenAPI description of the API."""
    del request
    return HttpResponse(schema_as_json(), content_type="application/json")


@get_only
def docs(request: HttpRequest) -> HttpResponse:
    """Serve Swagger UI, on which a reader can make calls."""
    return render(request, "api/docs.html")


# Redoc adds inline styles to the page, and runs its search in a worker from a blob.
@csp_update({"style-src": "'unsafe-inline'", "worker-src": "blob:"})  # type: ignore[arg-type,untyped-decorator,unused-ignore]
@get_only
def redoc(request: HttpRequest) -> HttpResponse:
    """Serve Redoc, the reference for read_with_reconnect."""
    return render(request, "api/redoc.html")


_schema_lock = threading.Lock()


def schema_as_json() -> bytes:
    """Return the OpenAPI document. A process generates it once, in one thread: the generator is not safe for several."""
    with _schema_lock:
        return _schema_as_json()


@functools.cache
def _schema_as_json() -> bytes:
    return bytes(OpenApiJsonRenderer().render(generate_schema(), renderer_context={}))


def generate_schema() -> dict[str, object]:
    """Generate the OpenAPI 3.1 document. Tests validate it: that takes two seconds, too long for a call without a key."""
    generator = SchemaGenerator()  # type: ignore[no-untyped-call]
    document: dict[str, object] = generator.get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    return document
