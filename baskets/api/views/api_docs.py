"""The schema, and the two pages that show it. Both load every script and style from this service."""

from csp.decorators import csp_update
from django.http import HttpRequest, HttpResponse, HttpResponsePermanentRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils.cache import get_conditional_response, patch_vary_headers

from baskets.api.protocol.negotiation import accepts_gzip
from baskets.api.schema.document import openapi_document
from baskets.api.views.health import get_only


@get_only
def schema(request: HttpRequest) -> HttpResponseBase:
    """Serve the OpenAPI document, compressed if the client accepts that; 304 if the client has the current document."""
    document = openapi_document()
    compress = accepts_gzip(request.META.get("HTTP_ACCEPT_ENCODING"))
    response = HttpResponse(document.compressed if compress else document.raw, content_type="application/json")
    if compress:
        response.headers["Content-Encoding"] = "gzip"
    response.headers["ETag"] = document.etag
    response.headers["Cache-Control"] = "no-cache"  # Caches may store it, and ask each time whether it has changed.
    patch_vary_headers(response, ["Accept-Encoding"])
    return get_conditional_response(request, etag=document.etag, response=response) or response


@get_only
def other_spelling(request: HttpRequest, path: str) -> HttpResponse:
    """Lead a person to a page whose address was typed with a slash too many or too few, or without a path. Calls are never redirected."""
    del request
    return HttpResponsePermanentRedirect(path)


@get_only
def docs(request: HttpRequest) -> HttpResponse:
    """Serve Swagger UI, on which a reader can make calls."""
    return render(request, "api/docs.html")


# Redoc adds inline styles to the page, and runs its search in a worker from a blob.
@csp_update({"style-src": "'unsafe-inline'", "worker-src": "blob:"})  # type: ignore[arg-type,untyped-decorator,unused-ignore]
@get_only
def redoc(request: HttpRequest) -> HttpResponse:
    """Serve Redoc, the reference for reading."""
    return render(request, "api/redoc.html")
