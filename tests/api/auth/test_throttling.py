"""Calls of a key and failures of a source are limited where an operator says so; what may hold a payment never is."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from baskets.api.auth import bearer
from baskets.domain.access import api_keys, rate_limits
from baskets.domain.access.bearer_tokens import BearerUser
from baskets.domain.actors import Actor
from baskets.models import Throttle, Transfer
from tests.api.conftest import Api, Issue, Lines, Sells, Unchanged
from tests.api.endpoints import CALLS, AccessLevel, Endpoint

THROTTLED = (429, 503, "throttled")
INVALID = (401, 401, "api_key_invalid")
BAD_KEY = f"bk_{'a' * 12}_{'0' * 64}"


@pytest.fixture(autouse=True)
def shop(sells: Sells) -> None:
    sells("p1")


@pytest.fixture
def limited_api(issue: Issue) -> Api:
    """A back end whose key may call twice a minute."""
    return Api(issue(calls_per_minute=2))


def used_up(api: Api) -> None:
    """Make the calls that a limited key may make."""
    assert [api.get("/baskets/users/ada").status for _ in range(2)] == [200, 200]


# --- Calls of a key -------------------------------------------------------------------------------


@pytest.mark.parametrize("endpoint", CALLS, ids=str)
def test_every_call_counts_except_those_about_payments(
    endpoint: Endpoint, limited_api: Api, unchanged: Unchanged, monkeypatch: pytest.MonkeyPatch
) -> None:
    used_up(limited_api)
    unchanged()
    if endpoint.access is AccessLevel.KNOWN_USER:
        monkeypatch.setattr(bearer.bearer_tokens, "verify", lambda **_: BearerUser(user_id="ada", issuer="partner", guest=False))
        limited_api.headers["Authorization"] = "Bearer of-ada"
    answer = endpoint.call(limited_api)
    if endpoint.never_throttled:
        assert answer.refusal != THROTTLED
    else:
        assert answer.refusal == THROTTLED
        assert 1 <= int(answer.headers["Retry-After"]) <= 60


def test_key_without_a_limit_is_not_limited(api: Api) -> None:
    with CaptureQueriesContext(connection) as captured:
        assert {api.get("/baskets/users/ada").status for _ in range(50)} == {200}
    assert len(captured) == 100
    assert not Throttle.objects.exists()


def test_default_limit_applies_to_a_key_without_one(api: Api, issue: Issue, settings: Settings) -> None:
    settings.BASKETS_CALLS_PER_MINUTE = 1
    free = Api(issue(calls_per_minute=0))
    assert [api.get("/baskets/users/ada").status for _ in range(2)] == [200, 429]
    assert [free.get("/baskets/users/ada").status for _ in range(5)] == [200] * 5


def test_each_key_has_a_separate_count(limited_api: Api, issue: Issue) -> None:
    used_up(limited_api)
    assert Api(issue(calls_per_minute=2)).get("/baskets/users/ada").status == 200


def test_count_restarts_after_the_window(limited_api: Api) -> None:
    used_up(limited_api)
    Throttle.objects.update(ends_at="2020-01-01T00:00:00Z")
    used_up(limited_api)
    assert limited_api.get("/baskets/users/ada").refusal == THROTTLED


def test_a_limit_is_changed_without_a_new_key(limited_api: Api) -> None:
    used_up(limited_api)
    prefix = str(limited_api.key).split("_")[1]
    api_keys.set_api_key_rate_limit(prefix=prefix, calls_per_minute=3, actor=Actor.system("tests"))
    assert [limited_api.get("/baskets/users/ada").status for _ in range(2)] == [200, 429]
    api_keys.set_api_key_rate_limit(prefix=prefix, calls_per_minute=0, actor=Actor.system("tests"))
    assert limited_api.get("/baskets/users/ada").status == 200


def test_invalid_call_is_refused_before_it_counts(limited_api: Api) -> None:
    assert [limited_api.get("/baskets/users/%00").status for _ in range(5)] == [422] * 5
    used_up(limited_api)
    assert limited_api.get("/baskets/users/%00").status == 422


def test_replay_is_not_counted(limited_api: Api) -> None:
    first = limited_api.post("/baskets/users/ada/products/p1", {"count": 2}, Idempotency_Key="once")
    for _ in range(5):
        again = limited_api.post("/baskets/users/ada/products/p1", {"count": 2}, Idempotency_Key="once")
        assert (again.raw, again.headers["Idempotency-Replayed"]) == (first.raw, "true")
    other = limited_api.post("/baskets/users/ada/products/p1", {"count": 3}, Idempotency_Key="once")
    assert other.refusal == (422, 422, "idempotency_key_reused")
    assert limited_api.get("/baskets/users/ada").status == 200
    assert limited_api.get("/baskets/users/ada", Idempotency_Key="once").refusal == THROTTLED
    fresh = limited_api.post("/baskets/users/ada/products/p1", {"count": 3}, Idempotency_Key="another")
    assert fresh.refusal == THROTTLED


def test_a_refusal_counts(limited_api: Api) -> None:
    for _ in range(2):
        assert limited_api.start().refusal == (422, 422, "cart_empty")
    assert limited_api.start().refusal == THROTTLED


# --- Failures of a source ---------------------------------------------------------------------------


@pytest.fixture
def three_failures_allowed(settings: Settings) -> None:
    """A source gets three bad keys answered as such."""
    settings.BASKETS_FAILURES_PER_MINUTE = 3


def test_source_of_invalid_keys_is_throttled_and_a_valid_key_still_works(
    three_failures_allowed: None, api: Api, unchanged: Unchanged
) -> None:
    unchanged()
    bad = Api(BAD_KEY)
    assert [bad.get("/baskets/users/ada").refusal for _ in range(5)] == [INVALID] * 3 + [THROTTLED] * 2
    assert api.get("/baskets/users/ada").status == 200
    assert api.get("/baskets/users/ada", Authorization="Bearer a.b.c").refusal == THROTTLED
    assert Api(None).get("/baskets/users/ada").status == 401


def test_finish_active_keeps_its_401_and_counts_the_failure(three_failures_allowed: None) -> None:
    bad = Api(BAD_KEY)
    assert [bad.finish(True).refusal for _ in range(5)] == [INVALID] * 5
    assert bad.get("/baskets/users/ada").refusal == THROTTLED


def test_all_kinds_of_invalid_keys_count_alike(three_failures_allowed: None, issue: Issue) -> None:
    good = issue()
    keys = [BAD_KEY, good[:-1], "x", good.upper()]
    assert [Api(key).get("/baskets/users/ada").status for key in keys] == [401, 401, 401, 429]


def test_disabled_failure_limit_takes_no_statement(settings: Settings, db: None) -> None:
    settings.BASKETS_FAILURES_PER_MINUTE = 0
    with CaptureQueriesContext(connection) as captured:
        assert Api(BAD_KEY).get("/baskets/users/ada").refusal == INVALID
    assert len(captured) == 1


@pytest.fixture
def fails_from() -> Callable[..., bool]:
    """Send bad keys from an address until it is throttled; return whether the first one is."""

    def fails_from(address: str, **headers: str) -> bool:
        bad = Api(BAD_KEY)
        bad.client.defaults["REMOTE_ADDR"] = address
        return [bad.get("/baskets/users/ada", **headers).status for _ in range(4)] != [401, 401, 401, 429]

    return fails_from


def test_source_is_an_address_or_a_network_of_ipv6(three_failures_allowed: None, fails_from: Callable[..., bool]) -> None:
    assert not fails_from("192.0.2.1")
    assert fails_from("192.0.2.1")
    assert not fails_from("192.0.2.2")
    assert not fails_from("2001:db8::1")
    assert fails_from("2001:db8::ffff")
    assert fails_from("::ffff:192.0.2.1")
    assert not fails_from("no address")
    assert fails_from("")


def test_forwarded_header_counts_only_if_configured(
    three_failures_allowed: None, fails_from: Callable[..., bool], settings: Settings
) -> None:
    assert not fails_from("192.0.2.1", X_Forwarded_For="198.51.100.1")
    assert fails_from("192.0.2.1", X_Forwarded_For="198.51.100.2")
    settings.BASKETS_CLIENT_ADDRESS_HEADER = "X-Forwarded-For"
    assert not fails_from("192.0.2.1", X_Forwarded_For="198.51.100.3")
    # Only the last entry is the proxy's own word.
    assert fails_from("192.0.2.1", X_Forwarded_For="203.0.113.9, 198.51.100.3")
    assert not fails_from("192.0.2.1", X_Forwarded_For="198.51.100.3, 203.0.113.9")
    assert fails_from("192.0.2.1", X_Forwarded_For="nonsense")


def test_unknown_callers_cannot_fill_the_table() -> None:
    names = {rate_limits.anonymous_subject("source", f"192.0.2.{number}") for number in range(256)}
    assert len(names) > 200
    assert all(int(name.removeprefix("source:")) < rate_limits.BUCKETS for name in names)
    assert rate_limits.anonymous_subject("source", "\udcff")


# --- Starts of a user ---------------------------------------------------------------------------------


def test_frequent_starts_are_refused_with_the_time_to_wait(api: Api, settings: Settings, unchanged: Unchanged) -> None:
    settings.BASKETS_STARTS_PER_HOUR = 1
    api.place("p1")
    assert api.start().status == 200
    api.finish(False)
    unchanged()
    answer = api.start()
    assert answer.refusal == THROTTLED
    assert 3500 < int(answer.headers["Retry-After"]) <= 3600


# --- Where the database cannot count -----------------------------------------------------------------


def test_failed_count_refuses_no_call_and_is_logged(limited_api: Api, lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    used_up(limited_api)

    def fail(*_: Any) -> None:
        raise OperationalError

    monkeypatch.setattr(rate_limits, "execute", fail)
    assert limited_api.get("/baskets/users/ada").status == 200
    [line] = lines("throttle_failed")
    assert line["error"] == "OperationalError"


def test_expired_counts_are_swept(limited_api: Api, issue: Issue) -> None:
    used_up(limited_api)
    Throttle.objects.update(ends_at="2020-01-01T00:00:00Z")
    used_up(Api(issue(calls_per_minute=2)))
    assert rate_limits.delete_ended_windows() == 1
    assert Throttle.objects.count() == 1


@pytest.mark.parametrize(("method", "path"), [("HEAD", "/baskets/users/ada"), ("POST", "/baskets/users/ada/transfer")])
def test_stored_response_exempts_only_calls_that_return_it(issue: Issue, method: str, path: str) -> None:
    caller = Api(issue(calls_per_minute=1))
    assert caller.post("/baskets/users/ada/products/p1", Idempotency_Key="once").status == 200
    assert caller.post("/baskets/users/ada/products/p1", Idempotency_Key="once").status == 200
    call = caller.client.head if method == "HEAD" else caller.client.post
    headers = {"X-API-Key": caller.key, "Idempotency-Key": "once"}
    assert call(path, content_type="application/json", headers=headers).status_code == 429
    assert not Transfer.objects.exists()
