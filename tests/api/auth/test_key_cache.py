"""A cached key: whatever changed of its row applies to the next call, whatever call that is."""

from collections.abc import Callable
from datetime import timedelta

import psycopg
import pytest
from django.db import OperationalError, connection
from pytest_django import Settings

from baskets.api.auth import api_keys as auth_api_keys
from baskets.api.auth import bearer
from baskets.api.views.base import ApiViewSet
from baskets.domain.access import api_keys
from baskets.domain.access.bearer_tokens import BearerUser
from baskets.domain.actors import Actor
from baskets.models import ApiKey, Basket, Event, Partner, Throttle
from baskets.models.basket_snapshot import Owner
from tests.api.conftest import Api, Issue, Lines, PassTime, Sells, Unchanged
from tests.api.endpoints import CALLS, OF_A_USER, Endpoint
from tests.second_client import holding_basket

INVALID = (401, 401, "api_key_invalid")
THROTTLED = (429, 503, "throttled")
US = Actor.system("tests")


@pytest.fixture(autouse=True)
def shop(sells: Sells) -> None:
    sells("p1", unsold=9)


@pytest.fixture
def cached_api(api: Api) -> Api:
    """A back end whose key this process knows, with something in Ada's basket."""
    api.place("p1")
    return api


def prefix_of(api: Api) -> str:
    return str(api.key).split("_")[1]


def row_of(api: Api) -> ApiKey:
    return ApiKey.objects.get(prefix=prefix_of(api))


def revoke(api: Api) -> None:
    api_keys.revoke_api_key(prefix=prefix_of(api), reason="stolen", actor=US)


def end(api: Api) -> None:
    row = row_of(api)
    ApiKey.objects.filter(pk=row.pk).update(created_at=row.created_at - timedelta(days=2), expires_at=row.created_at - timedelta(days=1))


def lose(api: Api) -> None:
    ApiKey.objects.filter(prefix=prefix_of(api)).delete()


ENDS = pytest.mark.parametrize("end", [revoke, end, lose])


# --- A key that is good no longer ----------------------------------------------------------------


@ENDS
@pytest.mark.parametrize("endpoint", CALLS, ids=str)
def test_a_revoked_key_is_refused_everywhere(endpoint: Endpoint, cached_api: Api, end: Callable[[Api], None], unchanged: Unchanged) -> None:
    end(cached_api)
    unchanged()
    for _ in range(2):
        assert endpoint.call(cached_api).refusal == INVALID


def read_nothing(*_: object) -> None:
    """Stands for a read that needs no database."""


@ENDS
def test_revoked_key_is_refused_by_a_call_that_uses_no_database(
    cached_api: Api, end: Callable[[Api], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ApiViewSet, "read", read_nothing)
    assert cached_api.get("/baskets/users/ada").status == 200
    end(cached_api)
    assert cached_api.get("/baskets/users/ada").refusal == INVALID


def test_changed_key_is_served_by_a_call_that_uses_no_database(cached_api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ApiViewSet, "read", read_nothing)
    ApiKey.objects.filter(prefix=prefix_of(cached_api)).update(calls_per_minute=50)
    assert cached_api.get("/baskets/users/ada").status == 200


@pytest.mark.parametrize("endpoint", OF_A_USER, ids=str)
def test_a_revoked_key_learns_no_other_error_of_its_call(endpoint: Endpoint, cached_api: Api, unchanged: Unchanged) -> None:
    """Neither what a body must be like, nor what is in a basket, nor what became of a repeat."""
    first = cached_api.post("/baskets/users/ada/products/p1", {"count": 2}, Idempotency_Key="once")
    assert first.status == 200
    revoke(cached_api)
    unchanged(but=("baskets_throttle",))
    bare = endpoint.path.format(user="ada", order="0000", product="p1")
    assert cached_api.post("/baskets/users/ada/products/p1", {"count": 2}, Idempotency_Key="once").refusal == INVALID
    for user in ("ada", "eve", "%00"):
        assert endpoint.call(cached_api, user=user).refusal == INVALID
    assert endpoint.call(cached_api, Accept="text/html").refusal == INVALID
    assert endpoint.call(cached_api, Authorization="Bearer x").refusal == INVALID
    for raw, content_type in ((b"{", "application/json"), (b"x", "text/plain"), (b"{" * 500_000, "application/json")):
        assert cached_api.request(endpoint.method, bare, raw=raw, content_type=content_type).refusal == INVALID


def test_a_revoked_key_holds_no_stock_and_leaves_no_trace(cached_api: Api, unchanged: Unchanged) -> None:
    revoke(cached_api)
    unchanged()
    assert cached_api.start().refusal == INVALID
    assert cached_api.place("p1", 5).refusal == INVALID
    assert cached_api.delete("/baskets/users/ada").refusal == INVALID


def test_a_revoked_key_flags_nothing_and_expires_nothing(cached_api: Api, pass_time: PassTime, unchanged: Unchanged) -> None:
    """A refusal, or a lapsed checkout, makes the service run a further transaction."""
    cached_api.start()
    cached_api.finish(False)
    cached_api.place("p1", 4, user="eve")
    cached_api.start(user="eve")
    pass_time(timedelta(hours=1), user="eve")
    revoke(cached_api)
    unchanged()
    assert cached_api.finish(True).refusal == INVALID
    assert cached_api.start(user="eve").refusal == INVALID
    assert cached_api.delete("/baskets/users/eve").refusal == INVALID


@pytest.mark.django_db(transaction=True)
def test_a_revoked_key_is_refused_while_the_basket_is_locked(cached_api: Api, partner: Partner) -> None:
    """The key comes before the state; a valid key gets `busy`."""
    basket_id = Owner(partner_id=partner.pk, user_id="ada").basket_id
    with holding_basket(basket_id):
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '200ms'")
        assert cached_api.start().refusal == (503, 503, "busy")
        revoke(cached_api)
        assert cached_api.start().refusal == INVALID
        connection.close()


def test_the_refusal_of_a_revoked_key_is_logged_without_a_caller(cached_api: Api, lines: Lines) -> None:
    revoke(cached_api)
    cached_api.start()
    [line] = [line for line in lines() if line["status"] == 401]
    assert "partner" not in line
    assert "user" not in line


def test_a_key_that_is_valid_again_is_accepted_again(cached_api: Api) -> None:
    revoke(cached_api)
    assert cached_api.get("/baskets/users/ada").refusal == INVALID
    ApiKey.objects.update(revoked_at=None)
    assert cached_api.place("p1", 3).status == 200
    assert cached_api.finish(True).refusal[2] == "no_active_checkout"


# --- A key whose terms have changed --------------------------------------------------------------


def test_a_limit_holds_from_the_next_call(cached_api: Api) -> None:
    api_keys.set_api_key_rate_limit(prefix=prefix_of(cached_api), calls_per_minute=2, actor=US)
    assert [cached_api.place("p1", 3).status for _ in range(3)] == [200, 200, 429]
    assert Throttle.objects.count() == 1
    api_keys.set_api_key_rate_limit(prefix=prefix_of(cached_api), calls_per_minute=0, actor=US)
    assert cached_api.place("p1", 4).status == 200


def test_a_key_that_moves_into_an_app_needs_a_token_from_the_next_call(cached_api: Api, unchanged: Unchanged) -> None:
    ApiKey.objects.update(kind=ApiKey.Kind.CLIENT)
    unchanged()
    assert cached_api.start().refusal == (401, 2002, "token_missing")
    assert cached_api.get("/baskets").refusal == (403, 403, "server_key_required")


def test_a_key_that_moves_into_an_app_is_limited_from_the_next_call(
    cached_api: Api, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.BASKETS_STARTS_PER_SOURCE = 1
    monkeypatch.setattr(bearer.bearer_tokens, "verify", lambda **_: BearerUser(user_id="ada", issuer="partner", guest=False))
    cached_api.headers["Authorization"] = "Bearer x"
    ApiKey.objects.update(kind=ApiKey.Kind.CLIENT)
    assert cached_api.start().status == 200
    assert cached_api.finish(False).status == 200
    assert cached_api.start().refusal == (429, 503, "throttled")


def test_a_call_goes_on_under_the_partners_new_name_and_is_done_once(cached_api: Api, lines: Lines, partner: Partner) -> None:
    Partner.objects.filter(pk=partner.pk).update(name="renamed")
    events = Event.objects.count()
    assert cached_api.place("p1", 7).data["cart"] == [{"productId": "p1", "count": 7}]
    assert Event.objects.count() == events + 1
    assert [line["partner"] for line in lines()] == ["renamed"]


def test_a_key_that_belongs_to_another_partner_now_opens_that_partners_baskets(cached_api: Api, other_partner: Api) -> None:
    other_partner.place("p1", 6)
    owner = row_of(other_partner).partner
    ApiKey.objects.filter(prefix=prefix_of(cached_api)).update(partner=owner)
    assert cached_api.place("p1", 8).data["cart"] == [{"productId": "p1", "count": 8}]
    assert Basket.objects.get(partner=owner, user_id="ada").items.get().count == 8


def test_a_call_whose_limit_was_changed_counts_once(issue: Issue) -> None:
    caller = Api(issue(calls_per_minute=5))
    assert caller.get("/baskets/users/ada").status == 200
    api_keys.set_api_key_rate_limit(prefix=prefix_of(caller), calls_per_minute=6, actor=US)
    assert [caller.get("/baskets/users/ada").status for _ in range(6)] == [200] * 5 + [429]


# --- What is remembered ----------------------------------------------------------------------------


def test_another_secret_with_a_cached_prefix_is_refused(cached_api: Api, unchanged: Unchanged) -> None:
    unchanged(but=("baskets_throttle",))
    wrong = str(cached_api.key)[:-4] + ("0000" if not str(cached_api.key).endswith("0000") else "1111")
    assert Api(wrong).get("/baskets/users/ada").refusal == INVALID
    assert cached_api.get("/baskets/users/ada").status == 200


def test_the_key_cache_is_bounded(issue: Issue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth_api_keys, "MAX_CACHED_KEYS", 3)
    monkeypatch.setattr(auth_api_keys, "_key_cache", {})
    for _ in range(7):
        assert Api(issue()).get("/baskets/users/ada").status == 200
        assert len(auth_api_keys._key_cache) <= 3


def test_no_response_is_sent_while_the_key_cannot_be_looked_up(cached_api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(prefix: str) -> None:
        raise OperationalError(prefix) from psycopg.OperationalError("gone")

    monkeypatch.setattr(auth_api_keys, "enqueue_key_lookup", unreachable)
    for answer in (
        cached_api.place("p1", 2),
        cached_api.get("/baskets/users/ada"),
        cached_api.post("/baskets/users/%00/products/p1", {"count": 2}),
    ):
        assert answer.refusal == (503, 503, "database_unavailable")
