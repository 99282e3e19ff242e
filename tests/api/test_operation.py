"""Operation: health, request ids, the log, tracking that never fails a call, and the statements that calls take."""

import base64
import json
import re
from typing import Any

import psycopg
import pytest
from django.db import OperationalError, connection
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client

from baskets.api.admission import LATEST_READINESS
from baskets.api.middleware import user_digest
from baskets.models import Event, Partner
from tests import seams
from tests.api.conftest import Api, Lines, Sells
from tests.conftest import Log

# --- Health --------------------------------------------------------------------------------


def test_livez_touches_no_database(django_assert_num_queries: Any, db: None) -> None:
    with django_assert_num_queries(0):
        response = Client().get("/livez")
    assert (response.status_code, response.json()) == (200, {"data": {"status": "alive"}})
    assert response.headers["X-Request-ID"]
    assert response.headers["X-API-Version"] == "2025-09-15"


def test_readyz_takes_one_statement(django_assert_num_queries: Any, db: None) -> None:
    with django_assert_num_queries(1):
        response = Client().get("/readyz")
    assert (response.status_code, response.json()) == (200, {"data": {"status": "ready"}})


def test_readyz_keeps_its_answer_for_the_probes_of_a_second(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LATEST_READINESS, "_latest", None)
    Client().get("/readyz")
    kept = LATEST_READINESS.get()
    assert kept
    assert (kept.status, kept.body) == (200, b'{"data":{"status":"ready"}}')


def not_ready(reason: str) -> Any:
    response = Client(raise_request_exception=False).get("/readyz")
    error = response.json()["error"]
    return (response.status_code, error["code"], error["details"]["reason"]) == (503, 503, reason)


def test_missing_migration_is_not_ready(db: None) -> None:
    MigrationRecorder(connection).record_unapplied("baskets", "0001_initial")
    assert not_ready("migrations_missing")


def test_database_without_migrations_is_not_ready(db: None) -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE django_migrations RENAME TO elsewhere")
    assert not_ready("migrations_missing")


def test_unavailable_database_is_not_ready(monkeypatch: pytest.MonkeyPatch, db: None) -> None:
    def fail() -> None:
        raise OperationalError from psycopg.OperationalError()

    seams.MIGRATIONS_OF_READYZ.replace(monkeypatch, fail)
    assert not_ready("database_unavailable")


# --- Request ids ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given", ["a", "-", "test-1", "7f9c2ba4-e88f-827d-6160-455d6be2a0b4", "7F9C2BA4-E88F-827D-6160-455D6BE2A0B4", "x" * 64]
)
@pytest.mark.parametrize("path", ["/baskets/users/ada", "/livez", "/nowhere", "/admin/login/", "/docs"])
def test_valid_request_id_is_sent_back(api: Api, given: str, path: str) -> None:
    assert Client().get(path, headers={"X-Request-ID": given}).headers["X-Request-ID"] == given


@pytest.mark.parametrize("given", ["", " ", "a b", "x" * 65, "a\r\nSet-Cookie: x", "a\n", "ä", "\x00", "a;b", "<script>", "a/b", "a.b",
                                   "a_b", "a:b=c+d@e", "{7f9c2ba4-e88f-827d-6160-455d6be2a0b4}", "٣", f"bk_{'a' * 12}_{'0' * 64}",
                                   "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZGEifQ.x"])  # fmt: skip
def test_invalid_request_id_is_replaced(api: Api, given: str) -> None:
    answer = api.get("/baskets/users/ada", X_Request_ID=given)
    assert len(answer.headers["X-Request-ID"]) == 32
    assert answer.headers["X-Request-ID"] != api.get("/baskets/users/ada").headers["X-Request-ID"]


def test_event_names_the_request_and_the_key(api: Api, sells: Sells) -> None:
    sells("p1")
    api.post("/baskets/users/ada/products/p1", X_Request_ID="trace-me")
    event = Event.objects.get()
    assert (event.request_id, event.actor_kind, event.actor) == ("trace-me", "key", api.key.split("_")[1])


def test_user_digest_depends_on_the_secret_key(settings: Any) -> None:
    """A reader of the log who knows user ids cannot match them with lines."""
    settings.SECRET_KEY = "first-" + "x" * 50
    first = user_digest(partner_id=1, user_id="ada")
    assert re.fullmatch("[0-9a-f]{16}", first)
    assert user_digest(partner_id=1, user_id="ada") == first
    others = [user_digest(partner_id=2, user_id="ada"), user_digest(partner_id=1, user_id="Ada")]
    settings.SECRET_KEY = "second-" + "x" * 50
    assert len({first, *others, user_digest(partner_id=1, user_id="ada")}) == 4


# --- The log --------------------------------------------------------------------------------


def test_call_has_one_log_line_without_secrets(api: Api, sells: Sells, partner: Partner, lines: Lines, log: Log) -> None:
    sells("p1")
    answer = api.post(
        "/baskets/users/zoe%40home/products/p1?provider_id=netflix", {"count": 2}, X_Request_ID="r-1", Idempotency_Key="idem-1"
    )
    assert answer.status == 200
    [line] = lines()
    duration = line.pop("ms")
    assert 0 < duration < 1000
    # The key check, the claim of the Idempotency-Key, the operation, and the savepoints of the test.
    assert 5 < line.pop("statements") < 15
    assert len(line.pop("user")) == 16
    assert {name: line[name] for name in line if name not in {"timestamp", "level", "logger"}} == {
        "event": "request",
        "request_id": "r-1",
        "method": "POST",
        "route": "baskets/users/<user_id>/products/<product_id>",
        "status": 200,
        "partner": partner.name,
        "key": api.key.split("_")[1],
    }
    for secret in (api.key, api.key.split("_")[2], "zoe", "netflix", "idem-1"):
        assert secret not in log.text


def test_log_tells_the_two_spellings_of_an_address_apart(api: Api, lines: Lines) -> None:
    api.basket("ada")
    api.get("/v2/baskets/users/ada")
    assert [line["route"] for line in lines()] == ["baskets/users/<user_id>", "v2/baskets/users/<user_id>"]


def test_user_digest_is_stable_and_differs_between_partners(api: Api, other_partner: Api, lines: Lines) -> None:
    api.basket("ada")
    api.get("/v2/baskets/users/ada")
    api.basket("bob")
    other_partner.basket("ada")
    first, second, bob, theirs = [line["user"] for line in lines()]
    assert first == second
    assert len({first, bob, theirs}) == 3


def test_refused_call_is_logged_with_its_reason_but_without_its_input(api: Api, lines: Lines, log: Log) -> None:
    api.get("/baskets/users/zoe", Authorization="Bearer very-secret")
    api.get("/nowhere/zoe/%0aforged")
    api.request("PROPFIND", "/livez")
    api.delete("/baskets/users/zoe")
    assert [(line["status"], line["reason"], line["route"]) for line in lines()] == [
        (401, "token_invalid", "baskets/users/<user_id>"),
        (404, "not_found", ""),
        (404, "basket_not_found", "baskets/users/<user_id>"),
    ]
    for secret in ("very-secret", "zoe", "forged"):
        assert secret not in log.text


def test_unknown_method_is_logged_as_other(api: Api, lines: Lines) -> None:
    api.request("<SCRIPT>", "/baskets/users/ada")
    assert lines()[0]["method"] == "other"


def test_health_is_not_logged(lines: Lines, db: None) -> None:
    Client().get("/livez")
    Client().get("/readyz")
    assert lines() == []


# --- Tracking -------------------------------------------------------------------------------

SESSION = {"session_id": "s-1", "start_time": "2025-01-01T12:00:00.000000", "source": "jay.api"}


def encoded(value: Any) -> Any:
    return base64.b64encode(json.dumps(value).encode()).decode()


def tracked(api: Api, query: str = "", **headers: dict[str, str]) -> Any:
    assert api.post(f"/baskets/users/ada/products/p1{query}", {"count": 2}, **headers).status == 200
    return Event.objects.latest("number").tracking


@pytest.fixture
def sold(sells: Sells) -> None:
    sells("p1")


@pytest.mark.parametrize(
    ("header", "query", "expected"),
    [
        (encoded(SESSION), "", SESSION),
        (encoded(SESSION).rstrip("="), "", SESSION),
        (base64.urlsafe_b64encode(json.dumps(SESSION | {"source": "ÿÿ>>??"}, ensure_ascii=False).encode()).decode(), "",
         SESSION | {"source": "ÿÿ>>??"}),
        (encoded(SESSION), "?provider_id=netflix", SESSION | {"provider_id": "netflix"}),
        (encoded(SESSION | {"provider_id": "own"}), "?provider_id=netflix", SESSION | {"provider_id": "own"}),
        (encoded(SESSION | {"provider": "own"}), "?provider_id=netflix", SESSION | {"provider_id": "own"}),
        (encoded(SESSION | {"more": [1]}), "", SESSION),
        (encoded(SESSION | {"source": None}), "", {"session_id": "s-1", "start_time": SESSION["start_time"]}),
        (None, "?provider_id=netflix", {"provider_id": "netflix"}),
        (None, "", {}),
        ("", "", {}),
        (encoded({}), "", {}),
    ],
)  # fmt: skip
def test_attribution_is_stored_with_the_event(api: Api, sold: None, lines: Lines, header: str | None, query: str, expected: Any) -> None:
    assert tracked(api, query, **({} if header is None else {"X_JAY_Tracking": header})) == expected
    assert lines("tracking_dropped") == []


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("%%%", "not_base64"),
        ("a", "not_base64"),
        ("ä", "not_base64"),
        ("\x00", "not_base64"),
        (base64.b64encode(b"not json").decode(), "not_json"),
        (base64.b64encode(b"\xff\xfe").decode(), "not_json"),
        (base64.b64encode(b"[" * 2000).decode(), "not_json"),
        (base64.b64encode(b'{"source": "a", "source": "b"}').decode(), "not_json"),
        (base64.b64encode(b'{"source": "a\\u0000b"}').decode(), "field"),
        (base64.b64encode(b'{"source": "\\ud800"}').decode(), "field"),
        (encoded([SESSION]), "not_an_object"),
        (encoded("text"), "not_an_object"),
        (encoded(None), "not_an_object"),
        (encoded(SESSION | {"session_id": 5}), "field"),
        (encoded(SESSION | {"session_id": {"a": 1}}), "field"),
        (encoded(SESSION | {"source": "a\nb"}), "field"),
        (encoded(SESSION | {"source": "x" * 256}), "field"),
        (encoded(SESSION | {"provider": ""}), "field"),
        ("e30=" * 2000, "too_long"),
    ],
)
def test_unusable_tracking_is_dropped_and_counted_and_the_call_succeeds(
    api: Api, sold: None, lines: Lines, header: str | None, reason: str, log: Log
) -> None:
    assert tracked(api, "?provider_id=netflix", X_JAY_Tracking=header) == {"provider_id": "netflix"}
    [line] = lines("tracking_dropped")
    assert (line["source"], line["reason"]) == ("header", reason)


@pytest.mark.parametrize("provider", ["%00", "", "x" * 256, "%0a"])
def test_unusable_provider_is_dropped_and_counted(api: Api, sold: None, lines: Lines, provider: str) -> None:
    assert tracked(api, f"?provider_id={provider}") == {}
    [line] = lines("tracking_dropped")
    assert (line["source"], line["reason"]) == ("query", "field")


# --- What calls cost ------------------------------------------------------------------------


def statements(captured: Any) -> Any:
    return [query["sql"] for query in captured if not query["sql"].startswith(("SAVEPOINT", "RELEASE", "ROLLBACK", "BEGIN", "COMMIT"))]


def costs(api: Api, sells: Sells, items: int) -> Any:
    """Return the number of SQL statements of each call, without transaction control."""
    from django.test.utils import CaptureQueriesContext  # noqa: PLC0415 (needed here only)

    for number in range(items):
        sells(f"p{number}", unsold=50)
        api.place(f"p{number}", 2)
    found = {}

    def measure(name: str, call: Any) -> Any:
        with CaptureQueriesContext(connection) as captured:
            answer = call()
        assert answer.status == 200, answer.raw
        found[name] = len(statements(captured))
        return answer

    measure("get", lambda: api.get("/baskets/users/ada"))
    measure("place", lambda: api.place("p0", 3))
    measure("change", lambda: api.patch("/baskets/users/ada/products/p0", {"count": 4}))
    order_no = measure("start", api.start).data["orderNo"]
    measure("session", lambda: api.session(order_no))
    measure("abort", lambda: api.finish(False))
    measure("late order", lambda: api.finish(True, order_no=order_no))
    measure("repeat", lambda: api.finish(True, order_no=order_no))
    for number in range(items):
        api.place(f"p{number}", 2)
    order_no = measure("start with key", lambda: api.post("/baskets/users/ada/checkout/sessions", Idempotency_Key="s")).data["orderNo"]
    measure("order with key", lambda: api.finish(True, Idempotency_Key="f"))
    measure("replay", lambda: api.finish(True, Idempotency_Key="f"))
    api.place("p0")
    measure("remove", lambda: api.delete("/baskets/users/ada/products/p0"))
    measure("delete", lambda: api.delete("/baskets/users/ada"))
    return found


LIMITS = {
    "get": 2, "place": 8, "change": 8, "remove": 8, "delete": 8, "session": 2, "start": 15, "start with key": 17,
    "abort": 12, "late order": 16, "repeat": 8, "order with key": 14, "replay": 3,
}  # fmt: skip


@pytest.mark.parametrize("items", [1, 20])
def test_statement_count_stays_within_its_limit(api: Api, sells: Sells, items: int) -> None:
    found = costs(api, sells, items)
    assert set(found) == set(LIMITS)
    assert {name: number for name, number in found.items() if number > LIMITS[name]} == {}
    assert found["get"] == 2
