"""Whether anything names a user after the erasure: every feature is used for one user, then every row and every log line is searched."""

import base64
import json
import re
import urllib.parse
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.serializers import JSONSerializer
from django.core import signing
from django.db import connection
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from baskets.domain import runner
from baskets.domain.access import token_issuers
from baskets.domain.actors import Actor
from baskets.domain.events import feed, webhook_delivery, webhook_endpoints
from baskets.domain.maintenance import invariant_checker
from baskets.domain.support import assignments
from baskets.models import Attention, Basket, CheckoutSession, Comfort, Event, IdempotencyRecord, Partner, StockReservation, Transfer
from baskets.models.basket_snapshot import Owner
from tests.admin.auth.signing_in import PASSWORD
from tests.admin.conftest import token
from tests.admin.repairs.repair_forms import hidden_fields
from tests.api.conftest import Api, Sells, api, app, issue, schema_loaded, sells
from tests.conftest import Log
from tests.domain.events.receivers import Receiver, receiver
from tests.factories import TESTER
from tests.tokens import KeyPair

__all__ = ["api", "app", "issue", "schema_loaded", "sells"]
pytestmark = pytest.mark.django_db(transaction=True)
# Hostile to every encoding: not ASCII, reserved in addresses, a wildcard of SQL, a quote, special in regular expressions.
USER = "Jörg+tell_tale%'(x)@example.org"
PATH = urllib.parse.quote(USER, safe="")
BASKET = f"/baskets/users/{PATH}"
REASON = f"ticket 4711: {USER} called"


def needles(text: str) -> set[str]:
    """A text as it may be stored or logged: in clear, and in the encodings that hide it."""
    raw = text.encode()
    # Base64 of a text within another one depends on where it begins; the characters at the ends are not its alone.
    inside = {base64.b64encode(b"\0" * shift + raw).decode()[4 if shift else 0 : -4] for shift in range(3)}
    plus = {piece.replace("+", "-").replace("/", "_") for piece in inside}
    quoted = {urllib.parse.quote(text, safe=""), urllib.parse.quote(text), urllib.parse.quote_plus(text), urllib.parse.quote(PATH, safe="")}
    return {text, json.dumps(text)[1:-1], raw.hex(), *inside, *plus, *quoted}


def stored() -> str:
    """Every row of every table of the database, as text, with what is packed in sessions."""
    texts = []
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE c.relkind IN ('r', 'p', 'm') AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg_%'"
        )
        for (table,) in cursor.fetchall():
            cursor.execute(f"SELECT row::text FROM {table} AS row")  # noqa: S608 (the name comes from the catalog)
            texts += [text for (text,) in cursor.fetchall()]
        cursor.execute("SELECT session_data FROM baskets_staffsession")
        for (packed,) in cursor.fetchall():
            texts.append(json.dumps(signing.loads(packed, salt="django.contrib.sessions.SessionStore", serializer=JSONSerializer)))
    return "\n".join(texts)


def found_in(text: str, *named: str) -> set[str]:
    return {needle for name in named for needle in needles(name) if needle in text}


@pytest.fixture
def webhook_receiver(settings: Settings) -> Iterator[Receiver]:
    """A receiver of webhooks that fails now and then."""
    settings.BASKETS_INTERNAL_ADDRESSES = True
    with receiver() as running:
        running.answer = lambda number: 500 if number == 2 else 200
        yield running


class UserHistory:
    """Everything that can be done with one user."""

    def __init__(self, *, api: Api, app: Api, partner: Partner, root: Client, webhook_receiver: Receiver) -> None:
        self.api, self.app, self.partner, self.root, self.hook = api, app, partner, root, webhook_receiver
        self.basket_id = Owner(partner_id=partner.pk, user_id=USER).basket_id
        self.number = 0

    def call(self, method: str, path: str, body: Any = None, *, status: int = 200, **headers: str) -> Any:
        """Make a call that carries the user id wherever a caller may put a text."""
        self.number += 1
        tracking = {"session_id": USER, "start_time": USER, "source": USER, "provider": USER}
        sent = {"X-JAY-Tracking": base64.b64encode(json.dumps(tracking).encode()).decode(), "X-Request-ID": f"of-tell-tale-{self.number}"}
        key = {"Idempotency-Key": f"{PATH}-{self.number}"} if method != "GET" and "transfer" not in path and "comfort" not in path else {}
        data = b"" if body is None else json.dumps(body).encode()
        answer = self.api.request(method, path, raw=data, **sent, **key, **headers)
        assert answer.status == status, answer.raw
        return answer.body

    def with_the_back_end(self) -> None:
        """Lists, checkouts of every end, and refusals."""
        sessions = f"{BASKET}/checkout/sessions"
        for product, count in (("lamp", 2), ("song", 1), ("gift", 0), ("rare", 1)):
            self.call("POST", f"{BASKET}/products/{product}", {"count": count})
        self.call("POST", f"{BASKET}/products/lamp?provider_id={PATH}", {"count": 2})
        self.call("PATCH", f"{BASKET}/products/lamp", {"count": 3})
        self.call("DELETE", f"{BASKET}/products/gift")
        self.call("POST", f"{BASKET}/products/{PATH}", {"count": 1}, status=404)
        aborted = self.call("POST", sessions, {"language": "de", "country": "AT"})["data"]["orderNo"]
        self.call("DELETE", BASKET, status=423)
        self.call("POST", f"{sessions}/finish-active", {"ordered": False})
        self.call("POST", f"{sessions}/finish-active", {"ordered": True}, status=422)
        self.call("POST", f"{sessions}/finish-active", {"ordered": True, "orderNo": USER}, status=422)
        self.call("POST", f"{sessions}/finish-active", {"ordered": True, "orderNo": aborted})
        self.call("GET", f"{sessions}/{aborted}")
        self.call("POST", f"{BASKET}/products/song", {"count": 1})
        self.call("POST", f"{sessions}?testMode=true", {})
        self.call("POST", f"{sessions}/finish-active", {"ordered": False})
        self.call("POST", f"{BASKET}/products/lamp", {"count": 1})
        self.call("POST", sessions, {})
        self.call("POST", f"{sessions}/finish-active", {"ordered": True})
        for path in (f"/baskets?userId={PATH}", f"/baskets/checkout/sessions?userId={PATH}", "/baskets/events", BASKET):
            self.call("GET", path)

    def with_apps(self, pair: KeyPair) -> None:
        """Tokens of a partner's own, comfort settings, and a transfer to another device."""
        options: dict[str, Any] = {"keys": {"keys": [pair.jwk]}, "issuer": "https://login.example", "audience": "baskets"}
        token_issuers.add_issuer(partner_name=self.partner.name, name="login", actor=TESTER, **options)
        claims = {"iss": "https://login.example", "aud": "baskets", "sub": USER, "exp": 4_000_000_000}
        own = Api(self.app.key, headers={"Authorization": f"Bearer {pair.sign(claims)}"})
        assert own.place("song", 2, user=PATH).status == 200
        comfort = {"customerId": USER, "paymentToken": f"of {USER}", "consent": True}
        assert own.patch(f"{BASKET}/comfort", comfort).status == 200
        offer = self.api.post(f"{BASKET}/transfer?qr=true", {"url": f"https://example.org/?for={PATH}"})
        assert offer.status == 200, offer.raw
        guest = self.app.post(f"/baskets/guests?jayToken={offer.data['jayToken']}", {}).data
        second = Api(self.app.key, headers={"Authorization": f"Bearer {guest['jwt']}"})
        assert second.place("song", 3, user=urllib.parse.quote(guest["userId"], safe="")).status == 200
        assert self.api.post(f"{BASKET}/transfer", {}).status == 200
        wrong = Api(self.app.key, headers={"Authorization": f"Bearer {pair.sign(claims | {'sub': 'ada'})}"})
        assert wrong.get(BASKET).status == 401

    def with_webhooks(self) -> None:
        """Events delivered, and one that failed."""
        webhook_endpoints.create_webhook(partner_name=self.partner.name, url=self.hook.url, from_the_beginning=True, actor=TESTER)
        feed.assign_positions()
        webhook_delivery.Deliverer(workers=4).run(once=True, stop=lambda: False)
        assert len(self.hook.calls) >= 2

    def repair(self, record: Any, slug: str, **fields: Any) -> None:
        """Make a repair by its page, for a reason that names the user."""
        address = reverse(f"admin:baskets_{record._meta.model_name}_repair", args=[record.pk, slug])
        shown = self.root.get(address).content.decode()
        for _ in range(2):
            hidden = hidden_fields(shown)
            response = self.root.post(
                address, {"csrfmiddlewaretoken": token(self.root, "/admin/"), "reason": REASON, "confirm": "yes", **fields, **hidden}
            )
            if response.status_code == 302:
                return
            shown = response.content.decode()
        raise AssertionError([slug, *re.findall(r'<(?:ul|p) class="error(?:list|note)".*?</(?:ul|p)>', shown, re.DOTALL)])

    def with_staff(self) -> None:
        """Failed sign-ins, searches, exports, refused pages, and repairs of every kind."""
        stranger = Client()
        stranger.post("/admin/login/", {"username": USER, "password": USER, "next": f"/admin/?q={PATH}"})
        User.objects.create_user("nora", password=PASSWORD, is_staff=True)
        staff_user = Client()
        assert staff_user.login(username="nora", password=PASSWORD)
        self.search(staff_user, status=403)
        self.search(self.root, status=200)
        basket = Basket.objects.get(pk=self.basket_id)
        session = CheckoutSession.objects.filter(basket=basket, status="ORDERED").earliest("pk")
        matter = Attention.objects.filter(basket=basket).earliest("pk")
        for slug in ("take", "hand-back"):
            self.repair(Attention.objects.get(pk=matter.pk), slug)
        self.repair(session, "reverse-order")
        self.repair(basket, "extend", days=60)
        self.repair(basket, "change-item", product="song", to="cart", count=4)
        assert self.api.place("lamp", 2, user=PATH).status == 200
        assert self.api.start(user=PATH).status == 200
        self.repair(StockReservation.objects.get(basket=basket, status="HELD"), "release")
        self.repair(CheckoutSession.objects.get(basket=basket, status="ACTIVE"), "abort")
        product = session.items.get(product_id="lamp").product
        for slug in ("take", "hand-back"):
            self.repair(product, slug)
        found = [{"slug": "x", "rule": 1, "sentence": "It holds.", "total": 2, "examples": self.examples()}]
        runner.run(lambda: assignments.record_check(checked=1, found=found, actor=Actor.system("check_baskets")))

    def examples(self) -> list[dict[str, str]]:
        """Rows as a check names them."""
        return [{"basket_id": str(self.basket_id)}, {"user_id": USER}, {"user_id": "other"}]

    def search(self, client: Client, *, status: int) -> None:
        """Look for the user in every list, and take each away as a file."""
        for model in ("basket", "checkoutsession", "event", "idempotencyrecord", "deskentry", "comfort", "transfer"):
            base = reverse(f"admin:baskets_{model}_changelist")
            for text in (PATH, str(self.basket_id)):
                assert client.get(f"{base}?q={text}").status_code == status
                sent = {"csrfmiddlewaretoken": token(client, "/admin/")}
                assert client.post(f"{base}export/?q={text}&q={text}&p={text}", sent).status_code in {status, 302, 404}
        assert client.get(reverse("admin:baskets_basket_change", args=[self.basket_id])).status_code in {status, 404}

    def after_the_erasure(self) -> None:
        """Ask for the user once more: by calls that make no basket, and at the desk."""
        self.call("GET", BASKET)
        self.call("DELETE", BASKET, status=404)
        self.call("POST", f"{BASKET}/transfer", {}, status=404)
        self.call("POST", f"{BASKET}/checkout/sessions/finish-active", {"ordered": True}, status=422)
        self.search(self.root, status=200)
        Client().post("/admin/login/", {"username": USER, "password": USER})


@pytest.fixture
def user_history(api: Api, app: Api, partner: Partner, root: Client, webhook_receiver: Receiver, sells: Sells) -> UserHistory:
    """A shop in which one user will do everything."""
    sells("lamp", unsold=50, price=1000)
    sells("rare", unsold=0)
    sells("song", price=99)
    sells("gift", price=None, currency="")
    return UserHistory(api=api, app=app, partner=partner, root=root, webhook_receiver=webhook_receiver)


def test_nothing_names_an_erased_user_in_the_database_or_in_the_log(
    user_history: UserHistory, log: Log, capfd: pytest.CaptureFixture[str]
) -> None:
    user_history.with_the_back_end()
    user_history.with_apps(KeyPair("ES256"))
    user_history.with_webhooks()
    user_history.with_staff()
    key = str(user_history.basket_id)
    assert {USER, key} <= found_in(stored(), USER, key)
    before = Event.objects.filter(basket_id=user_history.basket_id).count()
    assert all(model.objects.exists() for model in (Comfort, IdempotencyRecord, Transfer))

    user_history.repair(Basket.objects.get(pk=user_history.basket_id), "erase")
    erased = Basket.objects.get(user_id__startswith="erased-")
    assert found_in(stored(), USER, key) == set()
    assert "tell-tale" not in stored()
    assert Event.objects.filter(basket=erased).count() == before + 2
    assert [model.objects.count() for model in (Comfort, IdempotencyRecord, Transfer)] == [0, 0, 0]
    reasons = {event.data["reason"] for event in Event.objects.filter(basket=erased, kind="repaired")}
    assert reasons == {"ticket 4711: [erased] called"}
    user_history.after_the_erasure()
    assert found_in(stored(), USER, key) == set()
    printed = capfd.readouterr()
    assert found_in(log.text + printed.out + printed.err, USER, key) == set()
    assert invariant_checker.check_invariants() == []
