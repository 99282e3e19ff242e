"""The parameters of the lists: what is refused, by its name, and that nothing of the schema is."""

from urllib.parse import unquote

import pytest

from tests.api.conftest import Api, resolved, schema
from tests.api.lists.reading import BASKETS, EVENTS, LISTS, SESSIONS


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("limit=0", {"limit"}),
        ("limit=201", {"limit"}),
        ("limit=-1", {"limit"}),
        ("limit=ten", {"limit"}),
        ("limit=1e2", {"limit"}),
        ("limit=%D9%A3", {"limit"}),
        ("limit=", {"limit"}),
        ("limit=1&limit=2", {"limit"}),
        ("nextToken=", {"nextToken"}),
        ("nextToken=abc", {"nextToken"}),
        ("nextToken=a:b:c", {"nextToken"}),
        ("nextToken=%00:%F0%9F%98%80:c", {"nextToken"}),
        ("userId=", {"userId"}),
        ("userId=a%00b", {"userId"}),
        ("userId=" + 256 * "a", {"userId"}),
        ("userId=a&userId=b&limit=0", {"userId", "limit"}),
    ],
)
def test_invalid_parameters_are_refused_by_name(api: Api, path: str, query: str, fields: set[str]) -> None:
    answer = api.get(f"{path}?{query}")
    assert (answer.refusal, answer.fields) == ((422, 3002, "validation_failed"), fields)


@pytest.mark.parametrize(
    ("path", "query"),
    [
        (BASKETS, "hasCheckout=1"),
        (BASKETS, "hasCheckout=True"),
        (BASKETS, "changedFrom=yesterday"),
        (BASKETS, "changedFrom=2026-01-31T12:00:00"),
        (BASKETS, "changedFrom=2026-02-30T12:00:00Z"),
        (BASKETS, "expiresBefore=0001-01-01T00:00:00%2B14:00"),
        (BASKETS, "expiresBefore=1769860800"),
        (BASKETS, "productId=%0A"),
        (SESSIONS, "status=ordered"),
        (SESSIONS, "status=PAID"),
        (SESSIONS, "needsAttention=yes"),
        (SESSIONS, "finishedFrom=2026-01-31"),
        (EVENTS, "kind=everything"),
    ],
)
def test_invalid_filter_is_refused(api: Api, path: str, query: str) -> None:
    answer = api.get(f"{path}?{query}")
    assert (answer.refusal, answer.fields) == ((422, 3002, "validation_failed"), {query.partition("=")[0]})


@pytest.mark.parametrize(
    ("path", "name"),
    [
        *(
            (path, name)
            for path in LISTS
            for name in ("userid", "user_id", "limits", "nexttoken", "next_token", "a%00b", "%EF%BB%BFuserId", "")
        ),
        (BASKETS, "status"),
        (BASKETS, "kind"),
        (SESSIONS, "state"),
        (SESSIONS, "productId"),
        (SESSIONS, "kind"),
        (EVENTS, "kinds"),
        (EVENTS, "orderNo"),
    ],
)
def test_unknown_parameter_is_refused_by_name(api: Api, path: str, name: str) -> None:
    answer = api.get(f"{path}?{name}=x&limit=1&provider_id=netflix")
    assert answer.refusal == (422, 3002, "validation_failed")
    assert answer.body["error"]["details"]["fields"] == {unquote(name): "Is not a parameter of this call."}


@pytest.mark.parametrize("path", LISTS)
def test_unknown_and_invalid_parameters_are_named_together(api: Api, path: str) -> None:
    answer = api.get(f"{path}?userid=a&userid=b&User=&limit=0&userId=ada")
    assert (answer.refusal, answer.fields) == ((422, 3002, "validation_failed"), {"userid", "User", "limit"})


@pytest.mark.parametrize("path", LISTS)
def test_parameters_of_the_schema_are_accepted(api: Api, path: str) -> None:
    parameters = map(resolved, schema()["paths"][path]["get"]["parameters"])
    named = [parameter["name"] for parameter in parameters if parameter["in"] == "query"]
    assert {"limit", "nextToken", "userId", "provider_id"} <= set(named)
    given = {
        **dict.fromkeys(named, "2026-01-31T12:00:00Z"),
        "hasCheckout": "true",
        "needsAttention": "true",
        "status": "ORDERED",
        "kind": "repaired",
        "orderNo": "x",
        "productId": "x",
        "limit": "1",
        "wait": "1",
        "nextToken": "x",
        "provider_id": "netflix",
        "userId": "ada",
    }
    query = "&".join(f"{name}={given[name]}" for name in named)
    # Only the token is wrong, which is read after everything else was checked.
    assert api.get(f"{path}?{query}").fields == {"nextToken"}
