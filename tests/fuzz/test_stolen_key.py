"""A script with a client key stolen out of an app attacks a running service: what it gets, and how it is undone."""

import http.client
import json
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
from django.core.management import call_command

from baskets.domain.access import api_keys
from baskets.models import Attention, CheckoutSession, Stock
from tests.factories import TESTER, PartnerFactory, ProductFactory
from tests.fuzz.conftest import serving
from tests.threads import beside

PIECES, GUESTS = 60, 100
# The attack goes on until each limit has refused so many calls: a slow machine needs longer to reach it.
REFUSALS, MAX_SECONDS = 20, 120

# Beside so many callers a busy machine answers some so, which has no effect.
OVERLOADED = (503, "overloaded")


@dataclass
class Thief:
    """The script: eight connections, each making guests that hold five pieces, and selling them."""

    port: int
    key: str
    answers: Counter[tuple[str, int, str]] = field(default_factory=Counter)
    held: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def attack(self) -> None:
        """Go on until every limit has refused many calls."""
        end = time.monotonic() + MAX_SECONDS
        with beside(*[partial(self._go_on, end)] * 8):
            pass

    def total(self, what: str, status: int) -> int:
        """How many calls of a kind got an answer."""
        with self._lock:
            return sum(number for (call, answered, _), number in self.answers.items() if (call, answered) == (what, status))

    def _go_on(self, end: float) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        guests: list[tuple[str, str]] = []
        while time.monotonic() < end and min(self.total("guest", 429), self.total("start", 429)) < REFUSALS:
            status, body = self.call(connection, "guest", "/baskets/guests", {"products": [{"productId": "drop", "count": 5}]})
            if status == 200:
                guests.append((body["data"]["userId"], body["data"]["jwt"]))
            if not guests:
                continue
            # Guests that are refused are tried again, in turn.
            user_id, token = guests.pop(0)
            guests.append((user_id, token))
            path = f"/baskets/users/{user_id}/checkout/sessions"
            status, body = self.call(connection, "start", path, {}, token)
            if status == 200:
                with self._lock:
                    self.held += sum(item["stocked"] for item in body["data"]["basket"]["checkout"] if item["stocked"] > 0)
            self.call(connection, "sell", f"{path}/finish-active", {"ordered": True}, token)
        connection.close()

    def call(self, connection: http.client.HTTPConnection, what: str, path: str, body: Any, token: str = "") -> tuple[int, Any]:
        """Make one call and count its answer."""
        headers = {"X-API-Key": self.key, "Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        connection.request("POST", path, json.dumps(body), headers)
        response = connection.getresponse()
        answer = json.loads(response.read())
        reason = answer["error"]["details"]["reason"] if response.status >= 400 else ""
        assert (response.getheader("Retry-After") is not None) == (response.status in {429, 503})
        with self._lock:
            self.answers[what, response.status, reason] += 1
        return response.status, answer


@dataclass(frozen=True, kw_only=True)
class StolenKeyAttack:
    """What was seen of one attack, and after it.

    :param available: pieces left after the attack, after an honest purchase, and after the holds were released.
    :param honest: the answers of the partner's back end, which calls from the thief's address.
    :param afterwards: the answer to the stolen key once it is revoked.
    """

    thief: Thief
    prefix: str
    available: list[int]
    honest: list[int]
    afterwards: int


@pytest.fixture(scope="module")
def stolen_key_attack(committed_rows: None, tmp_path_factory: pytest.TempPathFactory) -> StolenKeyAttack:
    """Attack a service whose operator has set what one source may hold; then revoke the key and release what it holds."""
    partner = PartnerFactory(name="Robbed", orders_need_server_key=True)
    ProductFactory(product_id="drop", unsold=200)
    _, stolen = api_keys.issue_api_key(partner_name=partner.name, kind="client", actor=TESTER)
    _, server_key = api_keys.issue_api_key(partner_name=partner.name, actor=TESTER)
    prefix = stolen.split("_")[1]
    log = tmp_path_factory.mktemp("stolen") / "log"
    with serving(log, BASKETS_PIECES_PER_SOURCE=str(PIECES), BASKETS_GUESTS_PER_SOURCE=str(GUESTS)) as port:
        thief = Thief(port=port, key=stolen)
        thief.attack()
        available = [Stock.objects.get(pk="drop").available]
        back_end = Thief(port=port, key=server_key)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        sessions = "/baskets/users/ann/checkout/sessions"
        honest = [
            back_end.call(connection, "place", "/baskets/users/ann/products/drop", {"count": 100})[0],
            back_end.call(connection, "start", sessions, {})[0],
            back_end.call(connection, "sell", f"{sessions}/finish-active", {"ordered": True})[0],
        ]
        available.append(Stock.objects.get(pk="drop").available)
        call_command("revoke_api_key", prefix, "--release-holds", "--reason", "stolen")
        available.append(Stock.objects.get(pk="drop").available)
        afterwards = thief.call(connection, "afterwards", "/baskets/guests", {})[0]
        connection.close()
    return StolenKeyAttack(thief=thief, prefix=prefix, available=available, honest=honest, afterwards=afterwards)


def test_thief_holds_no_more_pieces_than_one_source_may(stolen_key_attack: StolenKeyAttack, db: None) -> None:
    assert stolen_key_attack.thief.held == PIECES, stolen_key_attack.thief.answers
    assert stolen_key_attack.available[0] == 200 - PIECES
    assert stolen_key_attack.thief.total("start", 429) > 0


def test_thief_makes_no_more_guests_than_one_source_may(stolen_key_attack: StolenKeyAttack, db: None) -> None:
    answers = {answer for answer in stolen_key_attack.thief.answers if answer[0] == "guest"}
    assert answers - {("guest", *OVERLOADED)} == {("guest", 200, ""), ("guest", 429, "throttled")}
    assert stolen_key_attack.thief.total("guest", 200) == GUESTS


def test_thief_sells_nothing_and_is_not_throttled_there(stolen_key_attack: StolenKeyAttack, db: None) -> None:
    answers = {(status, reason) for what, status, reason in stolen_key_attack.thief.answers if what == "sell"}
    assert answers - {OVERLOADED} == {(422, "server_key_required")}
    assert not CheckoutSession.objects.filter(started_by_key=stolen_key_attack.prefix, status="ORDERED").exists()
    assert not Attention.objects.filter(session__started_by_key=stolen_key_attack.prefix).exists()


def test_back_end_at_the_same_address_is_not_limited(stolen_key_attack: StolenKeyAttack, db: None) -> None:
    assert stolen_key_attack.honest == [200, 200, 200]
    assert stolen_key_attack.available[1] == 100 - PIECES


def test_holds_are_released_when_the_key_is_revoked(stolen_key_attack: StolenKeyAttack, db: None) -> None:
    assert stolen_key_attack.available[2] == 100
    assert stolen_key_attack.afterwards == 401
    assert not CheckoutSession.objects.active().filter(started_by_key=stolen_key_attack.prefix).exists()
