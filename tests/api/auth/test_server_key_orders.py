"""A partner may let only its server keys report `ordered: true`: a key stolen out of an app then sells nothing."""

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from baskets.domain.access import api_keys, partners
from baskets.domain.actors import Actor
from baskets.models import Attention, CheckoutSession, Event, Partner
from tests.api.conftest import Api, Sells, Unchanged

SERVER_KEY_REQUIRED = (422, 422, "server_key_required")
OPERATOR = Actor.system("tests")


@pytest.fixture(autouse=True)
def shop(sells: Sells) -> None:
    sells("shirt", unsold=5)


def require_server_key(partner: Partner, *, required: bool = True) -> None:
    partners.change_settings(partner_name=partner.name, values={"orders_need_server_key": required}, actor=OPERATOR)


@pytest.fixture
def guest(app: Api) -> Any:
    """A guest of the app with an active checkout."""
    guest = app.post("/baskets/guests", {"products": [{"productId": "shirt", "count": 2}]}).data
    app.headers["Authorization"] = f"Bearer {guest['jwt']}"
    return guest | app.start(user=guest["userId"]).data


def test_client_key_cannot_report_an_order_and_gets_the_unchanged_basket(
    app: Api, guest: Any, partner: Partner, unchanged: Unchanged
) -> None:
    require_server_key(partner)
    unchanged()
    refused = app.finish(True, user=guest["userId"])
    assert refused.refusal == SERVER_KEY_REQUIRED
    assert refused.body["data"] == guest["basket"]
    named = app.finish(True, order_no=guest["orderNo"], user=guest["userId"], Idempotency_Key="once")
    assert named.refusal == SERVER_KEY_REQUIRED
    # A report by a client key does not prove a payment here, and a stolen key must not fill the work list.
    assert not Attention.objects.exists()


def test_server_key_reports_the_order_that_was_refused_to_the_app(api: Api, app: Api, guest: Any, partner: Partner) -> None:
    require_server_key(partner)
    assert app.finish(True, user=guest["userId"]).status == 422
    assert api.finish(True, order_no=guest["orderNo"], user=guest["userId"]).data["checkout"] == []
    assert api.session(guest["orderNo"], user=guest["userId"]).data["status"] == "ORDERED"
    # Also a repeat of what is ordered already is a report.
    assert app.finish(True, user=guest["userId"]).refusal == SERVER_KEY_REQUIRED


def test_revoked_client_key_is_refused_as_such(app: Api, guest: Any, partner: Partner) -> None:
    """The refusal precedes every statement of the call, the lookup of its cached key included."""
    require_server_key(partner)
    assert app.finish(True, user=guest["userId"]).refusal == SERVER_KEY_REQUIRED
    api_keys.revoke_api_key(prefix=str(app.key).split("_")[1], reason="stolen", actor=OPERATOR)
    assert app.finish(True, user=guest["userId"]).refusal == (401, 401, "api_key_invalid")


def test_client_key_still_aborts(app: Api, guest: Any, partner: Partner) -> None:
    require_server_key(partner)
    assert app.finish(False, user=guest["userId"]).data["cart"] == [{"productId": "shirt", "count": 2}]


def test_refusal_comes_before_the_state_of_the_basket(app: Api, api: Api, partner: Partner) -> None:
    require_server_key(partner)
    guest = app.post("/baskets/guests", {}).data
    app.headers["Authorization"] = f"Bearer {guest['jwt']}"
    assert app.finish(True, user=guest["userId"]).refusal == SERVER_KEY_REQUIRED
    assert app.finish(True, order_no="0000-0000-0000-0000", user=guest["userId"]).refusal == SERVER_KEY_REQUIRED
    assert api.finish(True, user="never-seen").refusal == (422, 2005, "basket_not_found")


def test_client_key_reports_orders_by_default_and_again_once_it_is_allowed(app: Api, guest: Any, partner: Partner) -> None:
    """A process that remembers the key learns of the change with the next call, in both directions."""
    assert app.basket(guest["userId"]) == guest["basket"]
    require_server_key(partner)
    assert app.finish(True, user=guest["userId"]).refusal == SERVER_KEY_REQUIRED
    require_server_key(partner, required=False)
    assert app.finish(True, user=guest["userId"]).data["checkout"] == []


def test_setting_costs_no_statement(app: Api, guest: Any, partner: Partner) -> None:
    require_server_key(partner)
    app.basket(guest["userId"])
    with CaptureQueriesContext(connection) as captured:
        assert app.finish(False, user=guest["userId"]).status == 200
    texts = [query["sql"] for query in captured if "SAVEPOINT" not in query["sql"]]
    assert sum("baskets_apikey" in text for text in texts) == 1
    assert not any("orders_need_server_key" in text and "baskets_apikey" not in text for text in texts)


def test_session_knows_the_key_that_started_it_and_the_key_that_finished_it(api: Api, app: Api, guest: Any) -> None:
    def keys() -> tuple[str, str]:
        session = CheckoutSession.objects.get()
        return session.started_by_key, session.finished_by_key

    prefix_of_app, prefix_of_server = str(app.key).split("_")[1], str(api.key).split("_")[1]
    assert keys() == (prefix_of_app, "")
    app.finish(False, user=guest["userId"])
    assert keys() == (prefix_of_app, prefix_of_app)
    api.finish(True, order_no=guest["orderNo"], user=guest["userId"])
    assert keys() == (prefix_of_app, prefix_of_server)
    assert Event.objects.get(kind=Event.Kind.CHECKOUT_ORDERED_LATE).actor == prefix_of_server
