"""Which version of the API a call speaks: read from two headers, named in every answer."""

from django.http import HttpRequest

DEFAULT_VERSION = "2025-09-15"
SUPPORTED_VERSIONS = frozenset({DEFAULT_VERSION, "2025-07-21"})


def requested_version(request: HttpRequest) -> str | None:
    """Tell the version a call asks for, or None if it is not known.

    `x-jay-api-version` wins over `X-API-Version`, as the reference prints the former.
    """
    given = request.META.get("HTTP_X_JAY_API_VERSION", request.META.get("HTTP_X_API_VERSION"))
    if given is None:
        return DEFAULT_VERSION
    return given if given in SUPPORTED_VERSIONS else None
