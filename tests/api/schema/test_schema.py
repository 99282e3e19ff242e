"""The schema, and the pages that show it. Every test that calls the API validates its response against the schema."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.contrib.staticfiles import finders
from django.test import Client
from drf_spectacular.validation import validate_schema

from baskets.api.exceptions import TABLE
from baskets.api.views import api_docs
from tests.api.conftest import schema

OPERATIONS = {
    ("get", "/baskets/users/{userId}"): "getbasket",
    ("delete", "/baskets/users/{userId}"): "deletebasket",
    ("post", "/baskets/users/{userId}/products/{productId}"): "assignproducttobasket",
    ("patch", "/baskets/users/{userId}/products/{productId}"): "updateproductinbasket",
    ("delete", "/baskets/users/{userId}/products/{productId}"): "deleteproductfrombasket",
    ("post", "/baskets/guests"): "createguestbasket",
    ("get", "/baskets/.well-known/jwks.json"): "getguestkeys",
    ("post", "/baskets/users/{userId}/transfer"): "transferbasket",
    ("get", "/baskets/users/{userId}/devices"): "listdevices",
    ("delete", "/baskets/users/{userId}/devices/{deviceId}"): "revokedevice",
    ("get", "/baskets/transfers/{image}"): "gettransferimage",
    ("get", "/baskets/users/{userId}/comfort"): "getcomfortbasketsettings",
    ("patch", "/baskets/users/{userId}/comfort"): "updatecomfortbasketsettings",
    ("post", "/baskets/products/details"): "getproductinformation",
    ("post", "/baskets/users/{userId}/checkout/sessions"): "checkoutbasket",
    ("post", "/baskets/users/{userId}/checkout/sessions/finish-active"): "finishactivecheckout",
    ("get", "/baskets/users/{userId}/checkout/sessions/{orderNo}"): "getcheckout",
    ("get", "/baskets"): "listbaskets",
    ("get", "/baskets/checkout/sessions"): "listcheckouts",
    ("get", "/baskets/events"): "readevents",
}


@pytest.fixture
def document() -> Any:
    response = Client().get("/schema")
    assert (response.status_code, response.headers["Content-Type"]) == (200, "application/json")
    return json.loads(response.content)


def operations(document: dict[str, Any]) -> Any:
    return {(method, path): operation for path, methods in document["paths"].items() for method, operation in methods.items()}


def test_schema_is_openapi_3_1(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1.")
    validate_schema(document)


def test_schema_is_generated_once_for_concurrent_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    api_docs._schema_as_json.cache_clear()
    made = []
    generate_schema = api_docs.generate_schema
    monkeypatch.setattr(api_docs, "generate_schema", lambda: made.append(1) or generate_schema())
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: api_docs.schema_as_json(), range(8)))
    assert len(set(answers)) == 1
    assert made == [1]


def test_schema_needs_no_key_and_no_database(django_assert_num_queries: Any, db: None) -> None:
    with django_assert_num_queries(0):
        assert Client().get("/schema").status_code == 200


def test_every_operation_has_its_published_name(document: dict[str, Any]) -> None:
    assert {at: operation["operationId"] for at, operation in operations(document).items()} == OPERATIONS


def test_every_operation_names_its_headers_and_parameters(document: dict[str, Any]) -> None:
    for (method, path), operation in operations(document).items():
        named = {(parameter["in"], parameter["name"]) for parameter in operation["parameters"]}
        assert {("path", name) for name in re.findall(r"{(\w+)}", path)} <= named
        assert ("header", "x-jay-api-version") in named
        writes = method != "get" and "details" not in path
        assert (("header", "Idempotency-Key") in named) == (writes and path not in SECRET)
        assert (("header", "X-JAY-Tracking") in named) == writes
        assert (("query", "provider_id") in named) == (writes or operation["tags"] == ["back end"])
        assert operation.get("security", []) == ([] if path in OPEN else [{"ApiKey": []}, {"ApiKey": [], "Bearer": []}])
    start = document["paths"]["/baskets/users/{userId}/checkout/sessions"]["post"]
    [switch] = [parameter for parameter in start["parameters"] if parameter["name"] == "testMode"]
    assert switch["schema"] == {"type": "string", "enum": ["true", "false"], "default": "false"}


def test_security_schemes_name_key_and_token(document: dict[str, Any]) -> None:
    assert document["components"]["securitySchemes"]["ApiKey"]["name"] == "X-API-Key"
    assert document["components"]["securitySchemes"]["Bearer"]["scheme"] == "bearer"


COMMON = {"200", "400", "401", "404", "405", "406", "408", "414", "422", "431", "500", "503"}
BODY = {"413", "415"}
NEVER_THROTTLED = {"finishactivecheckout", "getcheckout", "getguestkeys", "gettransferimage"}
# Responses with secrets are stored for no Idempotency-Key.
SECRET = {"/baskets/guests", "/baskets/users/{userId}/transfer"}
PICTURES = {"/baskets/transfers/{image}"}
OPEN = {"/baskets/.well-known/jwks.json"} | PICTURES


def test_every_operation_lists_its_statuses(document: dict[str, Any]) -> None:
    for (method, path), operation in operations(document).items():
        expected = set(COMMON)
        if method != "get":
            expected |= BODY
        if path in OPEN:
            expected -= {"401", "422"}
        if {"back end", "comfort"} & set(operation["tags"]) or path.endswith("/transfer"):
            expected.add("403")
        if operation["operationId"] not in NEVER_THROTTLED:
            expected.add("429")
        if operation["operationId"] in {"deletebasket", "checkoutbasket"}:
            expected.add("423")
        assert set(operation["responses"]) == expected, path


def test_finish_active_matches_the_reference(document: dict[str, Any]) -> None:
    finish = document["paths"]["/baskets/users/{userId}/checkout/sessions/finish-active"]["post"]
    assert finish["requestBody"]["required"] is True
    assert document["paths"]["/baskets/products/details"]["post"]["requestBody"]["required"] is True
    assert "required" not in document["paths"]["/baskets/users/{userId}/checkout/sessions"]["post"]["requestBody"]
    body = document["components"]["schemas"]["FinishCheckoutRequest"]
    assert body["required"] == ["ordered"]
    assert body["properties"]["ordered"]["type"] == "boolean"
    reasons = finish["responses"]["422"]["content"]["application/json"]["schema"]["properties"]["error"]["properties"]
    assert reasons["code"]["enum"] == [422, 2005, 3002]
    assert set(reasons["details"]["properties"]["reason"]["enum"]) == {
        "validation_failed", "idempotency_key_reused", "basket_not_found", "no_active_checkout",
        "checkout_already_ordered", "checkout_aborted", "checkout_expired", "order_unknown", "out_of_stock", "server_key_required",
    }  # fmt: skip


def test_limits_in_the_schema_are_those_of_the_service(document: dict[str, Any]) -> None:
    count = document["components"]["schemas"]["PlaceItemRequest"]["properties"]["count"]
    assert (count["type"], count["minimum"], count["maximum"], count["default"]) == ("integer", -1, 999, 1)


def test_every_response_has_a_valid_example(document: dict[str, Any]) -> None:
    from jsonschema import Draft202012Validator  # noqa: PLC0415 (needed here only)

    strict = schema()
    seen = 0
    for path, methods in strict["paths"].items():
        for operation in methods.values():
            for status, response in operation["responses"].items():
                if path in PICTURES and status == "200":
                    assert response["content"] == {"image/png": {"schema": {"type": "string", "format": "binary"}}}
                    continue
                media = response["content"]["application/json"]
                assert media["examples"], (path, status)
                for example in media["examples"].values():
                    Draft202012Validator({**media["schema"], "components": strict["components"]}).validate(example["value"])
                    seen += 1
    assert seen > 100


def test_every_response_names_its_headers(document: dict[str, Any]) -> None:
    for operation in operations(document).values():
        for status, response in operation["responses"].items():
            assert {"X-API-Version", "X-Request-ID"} <= set(response["headers"])
            assert ("WWW-Authenticate" in response["headers"]) == (status == "401")
            assert ("Retry-After" in response["headers"]) == (status in {"429", "503"})
            assert ("Allow" in response["headers"]) == (status == "405")


def test_every_reason_of_the_schema_is_in_the_table(document: dict[str, Any]) -> None:
    for operation in operations(document).values():
        for status, response in operation["responses"].items():
            if status != "200":
                error = response["content"]["application/json"]["schema"]["properties"]["error"]
                assert set(error["properties"]["details"]["properties"]["reason"]["enum"]) <= set(TABLE)


# --- Pages ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/docs/try-it", "/redoc"])
def test_page_loads_everything_from_this_service(path: str) -> None:
    response = Client().get(path)
    page = response.content.decode()
    assert (response.status_code, response.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "//" not in re.sub(r"<!doctype html>", "", page)
    assert "<style" not in page
    assert " style=" not in page
    assert re.findall(r"<script(?! src=)", page) == []
    addresses = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(addresses) >= 2
    for address in addresses:
        assert address.startswith("/static/")
        assert finders.find(address.removeprefix("/static/")), address


@pytest.mark.parametrize("path", ["/docs", "/docs/try-it", "/redoc"])
def test_page_has_a_policy_without_inline_scripts_and_other_origins(path: str) -> None:
    headers = Client().get(path).headers
    policy = {name: set(rest) for name, *rest in (part.split() for part in headers["Content-Security-Policy"].split(";"))}
    assert policy["default-src"] == {"'self'"}
    assert "'unsafe-inline'" not in policy.get("script-src", policy["default-src"])
    assert "unsafe-eval" not in headers["Content-Security-Policy"]
    assert "//" not in headers["Content-Security-Policy"]
    assert policy["frame-ancestors"] == {"'none'"}
    assert headers["X-Frame-Options"] == "DENY"
    assert ("'unsafe-inline'" in policy.get("style-src", set())) == (path == "/redoc")


def test_swagger_ui_calls_no_other_service() -> None:
    script = finders.find("baskets/docs.js")
    with open(script, encoding="utf-8") as file:  # noqa: PTH123 (the finder gives a string)
        text = file.read()
    assert 'url: "/schema"' in text
    assert "validatorUrl: null" in text
    assert "http" not in text


def test_admin_has_a_policy(db: None) -> None:
    response = Client().get("/admin/login/")
    assert response.status_code == 200
    assert "default-src 'self'" in response.headers["Content-Security-Policy"]
    assert "unsafe" not in response.headers["Content-Security-Policy"]
