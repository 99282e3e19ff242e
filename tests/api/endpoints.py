"""Lists every address of the service and who may call it. A test compares it with the URL patterns."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from django.urls import URLPattern, URLResolver

from baskets.api.urls import urlpatterns
from tests.api.conftest import UNSET, Api, ApiResponse

FINISH = "baskets/users/<user_id>/checkout/sessions/finish-active"


class AccessLevel(Enum):
    """Who may call an address."""

    OPEN = auto()  # No key is needed; metrics have a separate token.
    ANY_KEY = auto()  # Any valid key.
    USER = auto()  # A server key; a client key only with the user's own token.
    KNOWN_USER = auto()  # Any key, with the token of a user whom the partner knows.
    SERVER = auto()  # Server keys only.


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One method of one address.

    :param route: the URL pattern, without `/v2`.
    :param path: the template of a call, with `{user}`, `{order}` and `{product}`.
    :param body: the JSON body; UNSET: none.
    :param never_throttled: whether no rate limit applies.
    :param secret: whether each success contains a new random value.
    """

    method: str
    route: str
    path: str = ""
    body: Any = UNSET
    access: AccessLevel = AccessLevel.USER
    never_throttled: bool = False
    secret: bool = False

    def __str__(self) -> str:
        return f"{self.method} {self.route}"

    @property
    def of_a_user(self) -> bool:
        """Whether the address contains a user id."""
        return "{user}" in self.path

    def call(self, api: Api, *, user: str = "ada", order: str = "0000", product: str = "p1", **headers: str) -> ApiResponse:
        """Make the call."""
        path = self.path.format(user=user, order=order, product=product)
        return api.request(self.method, path, self.body, **headers)


_USER = "baskets/users/<user_id>"
_ITEM = f"{_USER}/products/<product_id>"
_KEYS = "baskets/.well-known/jwks.json"
_WEBHOOK, WEBHOOK_PATH = "baskets/webhooks/<webhook_id>", f"/baskets/webhooks/wh-{'0' * 32}"
_SESSIONS = f"{_USER}/checkout/sessions"

ENDPOINTS = [
    Endpoint(method="GET", route=_USER, path="/baskets/users/{user}"),
    Endpoint(method="DELETE", route=_USER, path="/baskets/users/{user}"),
    Endpoint(method="POST", route=_ITEM, path="/baskets/users/{user}/products/{product}", body={"count": 2}),
    Endpoint(method="PATCH", route=_ITEM, path="/baskets/users/{user}/products/{product}", body={"count": 3}),
    Endpoint(method="DELETE", route=_ITEM, path="/baskets/users/{user}/products/{product}"),
    Endpoint(method="POST", route=_SESSIONS, path="/baskets/users/{user}/checkout/sessions"),
    Endpoint(
        method="POST",
        route=FINISH,
        path="/baskets/users/{user}/checkout/sessions/finish-active",
        body={"ordered": True},
        never_throttled=True,
    ),
    Endpoint(method="GET", route=f"{_SESSIONS}/<order_no>", path="/baskets/users/{user}/checkout/sessions/{order}", never_throttled=True),
    *(
        Endpoint(method="GET", route=name, path=f"/{name}", access=AccessLevel.SERVER)
        for name in ("baskets", "baskets/checkout/sessions", "baskets/events")
    ),
    Endpoint(method="POST", route="baskets/products/details", path="/baskets/products/details", body=["p1"], access=AccessLevel.ANY_KEY),
    Endpoint(method="POST", route="baskets/guests", path="/baskets/guests", access=AccessLevel.ANY_KEY, secret=True),
    Endpoint(method="POST", route=f"{_USER}/transfer", path="/baskets/users/{user}/transfer", secret=True),
    Endpoint(method="GET", route=f"{_USER}/devices", path="/baskets/users/{user}/devices", access=AccessLevel.SERVER),
    Endpoint(
        method="DELETE",
        route=f"{_USER}/devices/<device_id>",
        path="/baskets/users/{user}/devices/6d9f0a52-0000-4000-8000-000000000000",
        access=AccessLevel.SERVER,
    ),
    *(
        Endpoint(method=method, route="baskets/webhooks", path="/baskets/webhooks", body=body, access=AccessLevel.SERVER, secret=secret)
        for method, body, secret in (("GET", UNSET, False), ("POST", {"url": "https://example.com/hook"}, True))
    ),
    *(
        Endpoint(method=method, route=_WEBHOOK + rest, path=WEBHOOK_PATH + rest, body=body, access=AccessLevel.SERVER)
        for method, rest, body in (
            ("GET", "", UNSET),
            ("PATCH", "", {"label": "orders"}),
            ("DELETE", "", UNSET),
            ("GET", "/deliveries", UNSET),
            ("POST", "/replay", {"since": "2026-11-24T12:00:00Z"}),
            ("POST", "/rotate-secret", UNSET),
            ("POST", "/test", UNSET),
        )
    ),
    Endpoint(method="GET", route=f"{_USER}/comfort", path="/baskets/users/{user}/comfort", access=AccessLevel.KNOWN_USER),
    Endpoint(method="PATCH", route=f"{_USER}/comfort", path="/baskets/users/{user}/comfort", access=AccessLevel.KNOWN_USER),
    Endpoint(
        method="GET", route="baskets/transfers/<image>", path="/baskets/transfers/{image}", access=AccessLevel.OPEN, never_throttled=True
    ),
    Endpoint(method="GET", route=_KEYS, path=f"/{_KEYS}", access=AccessLevel.OPEN, never_throttled=True),
    *(
        Endpoint(method="GET", route=name, path=f"/{name}", access=AccessLevel.OPEN, never_throttled=True)
        for name in ("", "livez", "readyz", "metrics", "schema", "docs", "docs/", "docs/try-it", "docs/try-it/", "redoc", "redoc/", "admin")
    ),
    Endpoint(method="GET", route="docs/<path:name>", path="/docs/retries", access=AccessLevel.OPEN, never_throttled=True),
]
UNDER_V2 = [endpoint for endpoint in ENDPOINTS if endpoint.route.startswith("baskets")]
CALLS = [endpoint for endpoint in ENDPOINTS if endpoint.access is not AccessLevel.OPEN]
OF_A_USER = [endpoint for endpoint in CALLS if endpoint.of_a_user]


def url_table() -> Iterator[tuple[str, str]]:
    """Yield every method and route of the URL patterns."""

    def walk(patterns: list[Any], before: str) -> Iterator[tuple[str, str]]:
        for pattern in patterns:
            route = before + str(pattern.pattern)
            if isinstance(pattern, URLResolver):
                yield from walk(pattern.url_patterns, route)
            elif isinstance(pattern, URLPattern):
                # A viewset lists its methods, with HEAD after its first call; a plain view accepts GET.
                for method in {*(getattr(pattern.callback, "actions", None) or {"get"})} - {"head"}:
                    yield method.upper(), route

    return walk(urlpatterns, "")
