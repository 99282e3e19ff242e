"""Reads the requested API version from two headers. Every response names the version that was used."""

from django.http import HttpRequest

DEFAULT_VERSION = "2025-09-15"
SUPPORTED_VERSIONS = frozenset({DEFAULT_VERSION, "2025-07-21"})


def requested_version(request: HttpRequest) -> str | None:
    """Return the requested version, or None if it is not supported.

    `x-jay-api-version` takes precedence over `X-API-Version`: the reference prints the former.
    """
    given = request.META.get("HTTP_X_JAY_API_VERSION", request.META.get("HTTP_X_API_VERSION"))
    if given is None:
        return DEFAULT_VERSION
    return given if given in SUPPORTED_VERSIONS else None
