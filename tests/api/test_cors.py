"""Calls from web pages: the response to a preflight, and the headers of the response to a call."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.core.checks import run_checks
from django.db import OperationalError
from django.test import Client, override_settings

from baskets.api import cors
from baskets.domain.access import partners
from baskets.domain.actors import Actor
from baskets.domain.validation import InvalidValue
from baskets.models import Partner
from tests.api.conftest import Api, ApiResponse, Stored
from tests.api.endpoints import ENDPOINTS, Endpoint

PLAYER, THEIRS, STRANGER = "https://player.example", "https://theirs.example", "https://stranger.example"
OPERATOR = Actor.system("tests")
EXPOSED = "X-Request-ID, X-API-Version, Idempotency-Replayed, Retry-After, WWW-Authenticate"
CALLS = [endpoint for endpoint in ENDPOINTS if endpoint.route.startswith("baskets")]
OTHERS = [endpoint for endpoint in ENDPOINTS if not endpoint.route.startswith("baskets")]


@pytest.fixture(autouse=True)
def empty_origin_cache() -> Iterator[None]:
    """Empty the cache of origins before and after each test."""
    cors.OriginCache.origins = None
    yield
    cors.OriginCache.origins = None


@pytest.fixture(autouse=True)
def origins(partner: Partner, other_partner: Api) -> None:
    partners.allow_origins(partner_name=partner.name, origins=[PLAYER, "http://localhost:3000"], actor=OPERATOR)
    partners.allow_origins(partner_name="Other", origins=[THEIRS], actor=OPERATOR)


def preflight(path: str, origin: str, method: str = "POST", **headers: str) -> Any:
    sent = {"Origin": origin, "Access-Control-Request-Method": method} | {name.replace("_", "-"): value for name, value in headers.items()}
    return Client(raise_request_exception=False).options(path, headers=sent)


def allowed(response: Any) -> str | None:
    return response.headers.get("Access-Control-Allow-Origin")


# --- Before a call --------------------------------------------------------------------------------


@pytest.mark.parametrize("endpoint", CALLS, ids=str)
@pytest.mark.parametrize("prefix", ["", "/v2"])
def test_preflight_allows_the_origins_of_all_partners_without_a_key(endpoint: Endpoint, prefix: str) -> None:
    path = prefix + endpoint.path.format(user="ada", order="0000", product="p1", image="x")
    for origin in (PLAYER, THEIRS, "http://localhost:3000"):
        response = preflight(path, origin, endpoint.method, x_jay_api_version="nonsense", Accept="text/html", Authorization="Bearer x")
        assert (response.status_code, response.content, allowed(response)) == (204, b"", origin)
        assert "Content-Type" not in response.headers
        methods = response.headers["Access-Control-Allow-Methods"].split(", ")
        assert endpoint.method in methods
        assert {"x-api-key", "authorization", "content-type", "idempotency-key", "x-jay-tracking", "x-jay-api-version"} <= set(
            response.headers["Access-Control-Allow-Headers"].split(", ")
        )
        assert response.headers["X-Request-ID"]
        assert "origin" in response.headers["Vary"].lower()
        assert "Access-Control-Allow-Credentials" not in response.headers
    assert allowed(preflight(path, STRANGER, endpoint.method)) is None


@pytest.mark.parametrize(
    "origin",
    ["null", "*", "https://player.example.evil", "https://player.example:444", "http://player.example", "https://PLAYER.example",
     "https://", "x", "https://[::1", "https://player.example/", "ä", "\x00"],
)  # fmt: skip
def test_origin_must_match_to_the_letter(origin: str) -> None:
    assert allowed(preflight("/baskets/users/ada", origin)) is None


def test_options_without_preflight_headers_is_refused(api: Api) -> None:
    for headers in ({}, {"Origin": PLAYER}, {"Access_Control_Request_Method": "POST"}):
        assert api.request("OPTIONS", "/baskets/users/ada", **headers).refusal == (405, 405, "method_not_allowed")


# --- The answer -------------------------------------------------------------------------------------


def called(api: Api, origin: str, path: str = "/baskets/users/ada", **headers: str) -> ApiResponse:
    return api.get(path, Origin=origin, **headers)


def test_response_allows_the_origins_of_the_partner_of_the_key(api: Api, other_partner: Api) -> None:
    for caller, origin, readable in (
        (api, PLAYER, True),
        (api, THEIRS, False),
        (other_partner, THEIRS, True),
        (other_partner, PLAYER, False),
    ):
        answer = called(caller, origin)
        assert answer.status == 200
        assert allowed(answer) == (origin if readable else None)
        assert answer.headers["Vary"] == "origin"
        assert "Access-Control-Allow-Credentials" not in answer.headers
    assert called(api, PLAYER).headers["Access-Control-Expose-Headers"] == EXPOSED
    assert allowed(api.get("/baskets/users/ada")) is None


def test_refusal_has_cors_headers(api: Api, app: Api) -> None:
    assert allowed(called(app, PLAYER)) == PLAYER
    assert called(app, PLAYER).refusal == (401, 2002, "token_missing")
    assert allowed(called(api, PLAYER, "/baskets/users/" + "x" * 300)) == PLAYER
    assert allowed(called(Api("bk_none"), PLAYER)) == PLAYER
    assert allowed(called(Api(None), THEIRS)) == THEIRS
    assert allowed(called(Api(None), STRANGER)) is None
    assert allowed(called(api, PLAYER, "/baskets/nowhere")) == PLAYER
    assert allowed(called(api, PLAYER, x_jay_api_version="1999-01-01")) == PLAYER


@pytest.mark.parametrize("endpoint", OTHERS, ids=str)
def test_pages_health_and_metrics_have_no_cors_headers(endpoint: Endpoint) -> None:
    with override_settings(CORS_ALLOWED_ORIGINS=[PLAYER]):
        for path in (endpoint.path, "/admin/", "/static/baskets/docs.js"):
            response = Client().get(path, headers={"Origin": PLAYER})
            response.close()
            assert not [name for name in response.headers if name.lower().startswith("access-control")]
            assert allowed(preflight(path, PLAYER, "GET")) is None


def test_origin_of_the_deployment_is_allowed_for_every_partner(api: Api, other_partner: Api) -> None:
    with override_settings(CORS_ALLOWED_ORIGINS=[STRANGER]):
        assert allowed(called(api, STRANGER)) == allowed(called(other_partner, STRANGER)) == STRANGER
        assert allowed(preflight("/baskets/guests", STRANGER)) == STRANGER
        assert allowed(called(api, THEIRS)) is None


# --- What is known of the partners ------------------------------------------------------------------------


def test_origins_are_cached(api: Api, partner: Partner, monkeypatch: Any, django_assert_num_queries: Any) -> None:
    assert allowed(called(api, PLAYER)) == PLAYER
    with django_assert_num_queries(2):
        called(api, PLAYER)
    partners.allow_origins(partner_name=partner.name, origins=[], actor=OPERATOR)
    assert allowed(preflight("/baskets/guests", PLAYER)) == PLAYER
    monkeypatch.setattr(cors, "CACHE_SECONDS", 0.0)
    assert allowed(preflight("/baskets/guests", PLAYER)) is None
    assert allowed(called(api, PLAYER)) is None


def test_call_without_an_origin_does_not_read_origins(api: Api, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(2):
        api.get("/baskets/users/ada")


def test_cached_origins_count_while_the_database_is_unavailable(monkeypatch: Any, lines: Any) -> None:
    def fail(operation: Any) -> None:
        raise OperationalError from psycopg.OperationalError()

    with monkeypatch.context() as away:
        away.setattr(cors, "read_with_reconnect", fail)
        assert allowed(preflight("/baskets/guests", PLAYER)) is None
        assert lines("origins_failed")[0]["fault"] == "UNAVAILABLE"
    assert allowed(preflight("/baskets/guests", PLAYER)) == PLAYER
    monkeypatch.setattr(cors, "CACHE_SECONDS", 0.0)
    monkeypatch.setattr(cors, "read_with_reconnect", fail)
    assert allowed(preflight("/baskets/guests", PLAYER)) == PLAYER


@pytest.mark.parametrize(
    "origin",
    ["*", "NULL", "", "file://", "data://x", "capacitor://", "capacitor:localhost",
     "player.example", "https://*.example", "https://player.example/", "https://player.example/x", "HTTPS://player.example",
     "https://Player.example", "https://me@player.example", "https://player.example:", "https://player.example:0",
     "https://pläyer.example", "https://player.example\n", "https://" + "x" * 250, "https://a b"],
)  # fmt: skip
def test_invalid_origin_is_refused(partner: Partner, origin: str, stored_rows: Stored) -> None:
    before = stored_rows()
    with pytest.raises(InvalidValue):
        partners.allow_origins(partner_name=partner.name, origins=[PLAYER, origin], actor=OPERATOR)
    assert stored_rows() == before


def test_too_many_origins_are_refused(partner: Partner) -> None:
    with pytest.raises(InvalidValue):
        partners.allow_origins(partner_name=partner.name, origins=[f"https://{number}.example" for number in range(101)], actor=OPERATOR)


def test_wildcard_in_the_environment_fails_the_checks() -> None:
    with override_settings(CORS_ALLOWED_ORIGINS=["*"]):
        assert [message.id for message in run_checks() if message.id.startswith("corsheaders")] == ["corsheaders.E013"]


@pytest.mark.parametrize("origin", ["capacitor://localhost", "ionic://localhost", "null"])
def test_origins_of_packaged_apps_are_allowed_where_they_are_named(partner: Partner, origin: str) -> None:
    assert allowed(preflight("/baskets/users/ada", origin)) is None
    partners.allow_origins(partner_name=partner.name, origins=[origin], actor=OPERATOR)
    cors.OriginCache.origins = None
    assert allowed(preflight("/baskets/users/ada", origin)) == origin
