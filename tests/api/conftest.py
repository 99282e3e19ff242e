"""What the API tests share: a client that validates every response against the schema, and fixtures for a shop."""

import copy
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import Any

import pytest
from django.test import Client
from jsonschema import Draft202012Validator

from baskets.api.schema.document import openapi_document
from baskets.domain.access import api_keys, partners
from baskets.models import ApiKey, Partner, Product
from baskets.models.basket_snapshot import Owner
from tests.conftest import Log
from tests.factories import TESTER, ProductFactory
from tests.time_travel import age_basket

REQUEST_ID = re.compile(r"[A-Za-z0-9._:=+@-]{1,128}")
UNSET = object()


# --- The schema, held against every answer ------------------------------------


@cache
def schema() -> dict[str, Any]:
    """The published schema, made strict: a member it does not name is an error."""
    document: dict[str, Any] = json.loads(openapi_document().raw)

    def close(node: Any) -> None:
        if isinstance(node, dict):
            if node.get("type") == "object" and "properties" in node:
                node.setdefault("additionalProperties", False)
            for child in node.values():
                close(child)
        elif isinstance(node, list):
            for child in node:
                close(child)

    close(document["components"]["schemas"])
    close(document["paths"])
    return document


@pytest.fixture(scope="session", autouse=True)
def schema_loaded() -> None:
    """Make the schema before the first test opens its transaction, which the database would not leave idle for so long."""
    schema()


@cache
def routes() -> list[tuple[re.Pattern[str], str]]:
    """The templates of the schema's paths, the more literal ones first."""
    paths = sorted(schema()["paths"], key=lambda path: path.count("{"))
    return [(re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path)), re.DOTALL), path) for path in paths]


def resolved(node: dict[str, Any], document: dict[str, Any] | None = None) -> Any:
    """What a node is, or what it refers to."""
    if "$ref" not in node:
        return node
    found: Any = document or schema()
    for part in node["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    return found


def schema_validator(found: dict[str, Any]) -> Draft202012Validator:
    """The validator of a schema of the document."""
    return Draft202012Validator({**copy.deepcopy(found), "components": {"schemas": schema()["components"]["schemas"]}})


def announced_reasons(response: dict[str, Any]) -> set[str]:
    """The reasons that a response of the document names: it has an example for each."""
    examples = response["content"]["application/json"]["examples"].values()
    return {resolved(example)["value"]["error"]["details"]["reason"] for example in examples}


@cache
def published(path: str, method: str, status: int) -> tuple[Draft202012Validator, frozenset[str]] | None:
    """The validator of one answer and its reasons, or None where the schema knows no such call."""
    operation = schema()["paths"][path].get(method)
    if operation is None:
        return None
    response = resolved(operation["responses"][str(status)])
    validator = schema_validator(response["content"]["application/json"]["schema"])
    return validator, frozenset(announced_reasons(response)) if status >= 400 else frozenset()


def assert_as_published(*, path: str, method: str, status: int, body: Any, headers: Mapping[str, str]) -> None:
    """Fail if a call was answered with anything that the schema does not announce."""
    path = path.removeprefix("/v2")
    template = next((template for pattern, template in routes() if pattern.fullmatch(path)), None)
    if template is None or (found := published(template, method.lower(), status)) is None:
        return
    validator, reasons = found
    validator.validate(body)
    if status >= 400:
        assert body["error"]["details"]["reason"] in reasons
    announced = resolved(schema()["paths"][template][method.lower()]["responses"][str(status)])["headers"]
    for name, header in announced.items():
        if resolved(header).get("required"):
            assert name in headers


# --- The caller -----------------------------------------------------------------


@dataclass(frozen=True)
class ApiResponse:
    """One response."""

    status: int
    headers: Mapping[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        """The body as JSON."""
        return json.loads(self.raw)

    @property
    def data(self) -> Any:
        """The `data` of a success. Fails if the call was not one."""
        assert self.status == 200, self.raw
        return self.body["data"]

    @property
    def refusal(self) -> tuple[int, int, str]:
        """Status, code and reason."""
        error = self.body["error"]
        return self.status, error["code"], error["details"]["reason"]

    @property
    def fields(self) -> set[str]:
        """The fields that a refusal names as wrong."""
        return set(self.body["error"]["details"]["fields"])


@dataclass
class Api:
    """A partner's software."""

    key: str | None
    headers: dict[str, str] = field(default_factory=dict)
    client: Client = field(default_factory=lambda: Client(raise_request_exception=False, enforce_csrf_checks=True))

    def request(
        self,
        method: str,
        path: str,
        body: Any = UNSET,
        *,
        raw: bytes | None = None,
        content_type: str = "application/json",
        **headers: str,
    ) -> ApiResponse:
        """Make a call; a keyword is a header, with underscores for dashes."""
        sent = {**({} if self.key is None else {"X-API-Key": self.key}), **self.headers}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        data = raw if raw is not None else b"" if body is UNSET else json.dumps(body).encode()
        response = self.client.generic(method, path, data, content_type=content_type if data else "", headers=sent)
        answer = ApiResponse(response.status_code, response.headers, response.content)
        if method != "HEAD":
            assert response.headers["Content-Type"] == "application/json"
            # A key set is what JWT libraries read, so it stands without the envelope.
            assert set(answer.body) <= ({"keys"} if ".well-known" in path and answer.status == 200 else {"data", "error", "nextToken"})
            assert ("error" in answer.body) == (answer.status >= 400)
            assert_as_published(
                path=response.wsgi_request.path_info, method=method, status=answer.status, body=answer.body, headers=answer.headers
            )
        assert response.headers["X-API-Version"] in {"2025-09-15", "2025-07-21"}
        assert REQUEST_ID.fullmatch(response.headers["X-Request-ID"])
        assert ("WWW-Authenticate" in response.headers) == (answer.status == 401)
        assert ("Retry-After" in response.headers) == (answer.status in {429, 503})
        assert ("Allow" in response.headers) == (answer.status == 405)
        return answer

    def get(self, path: str, **headers: str) -> ApiResponse:
        """Read."""
        return self.request("GET", path, **headers)

    def post(self, path: str, body: Any = UNSET, **options: Any) -> ApiResponse:
        """Write."""
        return self.request("POST", path, body, **options)

    def patch(self, path: str, body: Any = UNSET, **options: Any) -> ApiResponse:
        """Change."""
        return self.request("PATCH", path, body, **options)

    def delete(self, path: str, body: Any = UNSET, **options: Any) -> ApiResponse:
        """Remove."""
        return self.request("DELETE", path, body, **options)

    def basket(self, user: str = "ada") -> Any:
        """Show a user's basket."""
        return self.get(f"/baskets/users/{user}").data

    def place(self, product: str, count: int = 1, *, user: str = "ada") -> ApiResponse:
        """Assign a product."""
        return self.post(f"/baskets/users/{user}/products/{product}", {"count": count})

    def start(self, *, user: str = "ada", query: str = "") -> ApiResponse:
        """Start a checkout."""
        return self.post(f"/baskets/users/{user}/checkout/sessions{query}")

    def finish(self, ordered: bool, *, order_no: Any = UNSET, user: str = "ada", **options: Any) -> ApiResponse:
        """Finish the active checkout."""
        body = {"ordered": ordered} | ({} if order_no is UNSET else {"orderNo": order_no})
        return self.post(f"/baskets/users/{user}/checkout/sessions/finish-active", body, **options)

    def session(self, order_no: str, *, user: str = "ada") -> ApiResponse:
        """Ask what became of a checkout."""
        return self.get(f"/baskets/users/{user}/checkout/sessions/{order_no}")


# What the fixtures are, for the signatures of tests.
Issue = Callable[..., str]
Sells = Callable[..., Product]
PassTime = Callable[..., None]
Unchanged = Callable[..., None]
Stored = Callable[[], dict[str, list[Any]]]
Lines = Callable[..., list[Any]]


# --- The shop --------------------------------------------------------------------


@pytest.fixture
def issue(partner: Partner) -> Issue:
    """Issues keys."""

    def issue(*, kind: str = ApiKey.Kind.SERVER, to: Partner = partner, **options: Any) -> str:
        _, text = api_keys.issue_api_key(partner_name=to.name, kind=kind, actor=TESTER, **options)
        return text

    return issue


@pytest.fixture
def api(issue: Issue) -> Api:
    """The partner's back end."""
    return Api(issue())


@pytest.fixture
def app(issue: Issue) -> Api:
    """The partner's app, with a key that ships inside it."""
    return Api(issue(kind=ApiKey.Kind.CLIENT))


@pytest.fixture
def other_partner(db: None) -> Api:
    """The back end of another partner."""
    partners.create_partner(name="Other", actor=TESTER)
    _, text = api_keys.issue_api_key(partner_name="Other", actor=TESTER)
    return Api(text)


@pytest.fixture
def sells(db: None) -> Sells:
    """Puts a product into the catalog, by its id; without `unsold` it is unlimited."""

    def sells(product_id: str, **fields: Any) -> Product:
        return ProductFactory(product_id=product_id, **fields)

    return sells


@pytest.fixture
def pass_time(partner: Partner) -> PassTime:
    """Lets time pass for the basket of a user."""

    def pass_time(by: timedelta, *, user: str = "ada") -> None:
        age_basket(Owner(partner_id=partner.pk, user_id=user).basket_id, by)

    return pass_time


@pytest.fixture
def unchanged(stored_rows: Stored) -> Iterator[Unchanged]:
    """Return a function that marks the state of all tables; the test fails if they differ at its end."""
    before: list[tuple[dict[str, list[Any]], tuple[str, ...]]] = []

    def mark(*, but: tuple[str, ...] = ()) -> None:
        before.append((stored_rows(), but))

    yield mark
    assert before, "the test did not call `unchanged`"
    rows, but = before[-1]
    now = stored_rows()
    assert {name: now[name] for name in now if name not in but} == {name: rows[name] for name in rows if name not in but}


@pytest.fixture
def lines(log: Log) -> Lines:
    """The lines of the log, by their event."""
    return log.lines
