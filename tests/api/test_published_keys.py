"""Keys that an issuer publishes at its own address, served here on this machine: well, badly, and not at all."""

import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.db import connection

from baskets import outside
from baskets.domain import issuers, published_keys
from baskets.domain.actors import Actor
from baskets.models import Partner
from tests.api.conftest import Answer, Api
from tests.tokens import KeyPair

pytestmark = pytest.mark.django_db(transaction=True)

GOOD = {"sub": "ada", "exp": 4_000_000_000}
# On a busy machine even a call to itself may take long.
PATIENT = 30.0
INVALID = (401, 2002, "token_invalid")


@dataclass
class Issuer:
    """An issuer's server: it answers as it is told, and counts who asks."""

    url: str = ""
    answer: Callable[[Any], None] = field(default=lambda _: None)
    calls: int = 0
    asked: list[Any] = field(default_factory=list)

    def publish(self, *pairs: KeyPair) -> None:
        """Publish these keys from now on."""
        self.say(json.dumps({"keys": [pair.jwk for pair in pairs]}).encode())

    def say(self, body: bytes, *, status: int = 200, **headers: str) -> None:
        """Answer this from now on."""

        def answer(handler: Any) -> None:
            handler.send_response(status)
            for name, value in headers.items():
                handler.send_header(name, value)
            handler.send_header("Content-Length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body)

        self.answer = answer


@pytest.fixture
def issuer(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Issuer]:
    """An issuer on this machine; that is allowed here."""
    settings.BASKETS_INTERNAL_ADDRESSES = True
    made = Issuer()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.calls += 1
            made.asked.append((self.path, self.headers["Authorization"]))
            try:
                made.answer(self)
            except OSError:
                return  # The service has hung up, as it should.

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    made.url = f"http://127.0.0.1:{server.server_port}/keys"
    monkeypatch.setattr(published_keys, "CALL_SECONDS", PATIENT)
    monkeypatch.setattr(outside, "CONNECT_SECONDS", PATIENT)
    published_keys.forget()
    yield made
    published_keys.forget()
    server.shutdown()
    server.server_close()


class Clock:
    """The monotonic clock of the module, to be moved by hand."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(published_keys, "time", made)
    return made


@pytest.fixture
def show(app: Api, partner: Partner, issuer: Issuer) -> Callable[..., Answer]:
    """Shows a basket for a token of this issuer."""
    issuers.trust_issuer(partner_name=partner.name, name="login", keys_url=issuer.url, actor=Actor.system("tests"))

    def show(token: str, user: str = "ada") -> Answer:
        return app.get(f"/baskets/users/{user}", Authorization=f"Bearer {token}")

    return show


@pytest.fixture(scope="module")
def pair() -> KeyPair:
    return KeyPair("ES256")


def test_keys_are_fetched_once_and_then_kept(show: Any, issuer: Issuer, pair: KeyPair, clock: Clock) -> None:
    issuer.publish(pair)
    for _ in range(5):
        assert show(pair.sign(GOOD)).status == 200
    assert (issuer.calls, issuer.asked) == (1, [("/keys", None)])
    clock.ahead += published_keys.FRESH_SECONDS + 1
    for _ in range(5):
        assert show(pair.sign(GOOD)).status == 200
    assert issuer.calls == 2


def test_a_new_key_is_found_without_a_restart(show: Any, issuer: Issuer, pair: KeyPair, clock: Clock) -> None:
    issuer.publish(pair)
    assert show(pair.sign(GOOD)).status == 200
    fresh = KeyPair("ES256", kid="key-2")
    issuer.publish(fresh, pair)
    clock.ahead += published_keys.PAUSE_SECONDS + 1
    assert show(fresh.sign(GOOD)).status == 200
    assert show(pair.sign(GOOD)).status == 200
    assert issuer.calls == 2


def test_a_key_that_is_no_longer_published_is_good_no_longer(show: Any, issuer: Issuer, pair: KeyPair, clock: Clock) -> None:
    issuer.publish(pair)
    assert show(pair.sign(GOOD)).status == 200
    issuer.publish(KeyPair("ES256", kid="key-2"))
    clock.ahead += published_keys.FRESH_SECONDS + 1
    assert show(pair.sign(GOOD)).refusal == INVALID


def test_made_up_keys_do_not_make_us_hammer_the_issuer(show: Any, issuer: Issuer, pair: KeyPair, clock: Clock) -> None:
    issuer.publish(pair)
    for number in range(40):
        assert show(pair.sign(GOOD, kid=f"made-up-{number}")).refusal == INVALID
    assert show(pair.sign(GOOD)).status == 200
    assert issuer.calls == 1
    clock.ahead += published_keys.PAUSE_SECONDS + 1
    for number in range(40):
        assert show(pair.sign(GOOD, kid=f"made-up-{number}")).refusal == INVALID
    assert issuer.calls == 2


def test_what_cannot_be_good_makes_no_call_at_all(show: Any, issuer: Issuer, pair: KeyPair) -> None:
    issuer.publish(pair)
    for token in ("x", pair.sign(GOOD, alg="none"), pair.sign(GOOD, alg="HS256"), pair.sign(GOOD, alg="PS256"), pair.sign(GOOD, kid=5)):
        assert show(token).refusal == INVALID
    assert issuer.calls == 0


def trickle(handler: Any) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    for _ in range(100):
        handler.wfile.write(b" ")
        time.sleep(0.1)


def cut_off(handler: Any) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"keys": []}')


def failing(issuer: Issuer, how: str, pair: KeyPair) -> None:
    """Let the issuer's server fail in this way from now on."""
    huge = b'{"keys": [], "fill": "' + b"x" * published_keys.LONGEST + b'"}'
    thief = json.dumps({"keys": [pair.jwk | {"kid": "stolen"}]}).encode()
    match how:
        case "error":
            issuer.say(b"oops", status=500)
        case "redirect":
            issuer.say(thief, status=302, Location=issuer.url)
        case "hang":
            issuer.answer = trickle
        case "cut off":
            issuer.answer = cut_off
        case "hang up":
            issuer.answer = lambda handler: handler.connection.close()
        case "huge":
            issuer.say(huge)
        case _:
            issuer.say({"rubbish": b"<html>", "deep": b"[" * 100_000, "bytes": b"\xff\xfe\x00", "list": b"[]", "no set": b'{"keys": 5}',
                        "number": b"9" * 5000, "nothing": b"", "many": json.dumps({"keys": [pair.jwk] * 51}).encode()}[how])  # fmt: skip


WAYS = [
    "error",
    "redirect",
    "hang",
    "cut off",
    "hang up",
    "huge",
    "rubbish",
    "deep",
    "bytes",
    "list",
    "no set",
    "number",
    "nothing",
    "many",
]


@pytest.mark.parametrize("how", WAYS)
def test_keys_that_were_good_stay_good_while_the_issuer_fails(
    show: Any, issuer: Issuer, pair: KeyPair, clock: Clock, how: str, monkeypatch: pytest.MonkeyPatch, lines: Any
) -> None:
    issuer.publish(pair)
    assert show(pair.sign(GOOD)).status == 200
    failing(issuer, how, pair)
    monkeypatch.setattr(published_keys, "CALL_SECONDS", 0.5 if how == "hang" else PATIENT)
    clock.ahead += published_keys.FRESH_SECONDS + 1
    for _ in range(3):
        assert show(pair.sign(GOOD)).status == 200
        assert show(pair.sign(GOOD, kid="stolen")).refusal == INVALID
    assert issuer.calls == 2
    assert [line["host"] for line in lines("issuer_keys_failed")] == ["127.0.0.1"]
    # And once it works again, the next call finds out.
    monkeypatch.setattr(published_keys, "CALL_SECONDS", PATIENT)
    fresh = KeyPair("ES256", kid="key-2")
    issuer.publish(fresh)
    clock.ahead += published_keys.PAUSE_SECONDS + 1
    assert (show(fresh.sign(GOOD)).status, lines("issuer_keys_failed")[1:], issuer.calls) == (200, [], 3)


@pytest.mark.parametrize("how", ["error", "hang", "rubbish"])
def test_without_any_key_a_token_is_invalid_and_the_issuer_is_left_alone_for_a_while(
    show: Any, issuer: Issuer, pair: KeyPair, clock: Clock, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published_keys, "CALL_SECONDS", 0.5 if how == "hang" else PATIENT)
    failing(issuer, how, pair)
    for _ in range(4):
        assert show(pair.sign(GOOD)).refusal == INVALID
    assert issuer.calls == 1
    monkeypatch.setattr(published_keys, "CALL_SECONDS", PATIENT)
    issuer.publish(pair)
    clock.ahead += published_keys.PAUSE_SECONDS + 1
    assert show(pair.sign(GOOD)).status == 200


def test_keys_in_a_set_that_are_of_no_use_harm_no_others(show: Any, issuer: Issuer, pair: KeyPair) -> None:
    keys = [{"kty": "oct", "k": "AAAA"}, "x", {}, {"kty": "RSA", "n": "AQ", "e": "AQAB"}, {"kty": "new"}, pair.jwk]
    issuer.say(json.dumps({"keys": keys}).encode())
    assert show(pair.sign(GOOD)).status == 200


def test_an_address_inside_is_not_called_unless_a_setting_allows_it(show: Any, issuer: Issuer, pair: KeyPair, settings: Any) -> None:
    issuer.publish(pair)
    settings.BASKETS_INTERNAL_ADDRESSES = False
    assert show(pair.sign(GOOD)).refusal == INVALID
    assert issuer.calls == 0


def test_a_crowd_with_new_tokens_asks_once_and_gets_in(app: Api, show: Any, issuer: Issuer, pair: KeyPair) -> None:
    issuer.publish(pair)
    statuses: list[int] = []
    together = threading.Barrier(8)

    def come() -> None:
        together.wait(30)
        answer = Api(app.key).get("/baskets/users/ada", Authorization=f"Bearer {pair.sign(GOOD)}")
        statuses.append(answer.status)
        connection.close()

    crowd = [threading.Thread(target=come) for _ in range(8)]
    for one in crowd:
        one.start()
    for one in crowd:
        one.join(30)
    assert (statuses, issuer.calls) == ([200] * 8, 1)
