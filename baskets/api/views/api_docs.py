"""The schema, and the two pages on which people read it. Everything they need is served from here."""

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
    """Serve the page on which calls can be tried out."""
    return render(request, "api/docs.html")


# Redoc writes its styles into the page as it goes, and searches in a worker made of a blob.
@csp_update({"style-src": "'unsafe-inline'", "worker-src": "blob:"})  # type: ignore[arg-type,untyped-decorator,unused-ignore]
@get_only
def redoc(request: HttpRequest) -> HttpResponse:
    """Serve the page on which the API can be read."""
    return render(request, "api/redoc.html")


_schema_lock = threading.Lock()


def schema_as_json() -> bytes:
    """Describe the API; the description is made once in a process, by one thread: the generator loads classes as it goes."""
    with _schema_lock:
        return _schema_as_json()


@functools.cache
def _schema_as_json() -> bytes:
    return bytes(OpenApiJsonRenderer().render(generate_schema(), renderer_context={}))


def generate_schema() -> dict[str, object]:
    """Describe the API as OpenAPI 3.1. The tests judge it: that takes two seconds, which a caller without a key must not cost."""
    generator = SchemaGenerator()  # type: ignore[no-untyped-call]
    described: dict[str, object] = generator.get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    return described
