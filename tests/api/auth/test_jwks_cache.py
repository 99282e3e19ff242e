"""Keys that an issuer publishes at its own address, served here on this machine: well, badly, and not at all."""

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models import F
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from baskets.domain.access import jwks_cache, token_issuers
from baskets.domain.actors import Actor
from baskets.models import Partner, TokenIssuer
from baskets.net import http_client
from tests.api.conftest import Api, ApiResponse, Unchanged
from tests.key_servers import PATIENT, Issuer, serving_keys
from tests.tokens import KeyPair

pytestmark = pytest.mark.django_db(transaction=True)

GOOD = {"sub": "ada", "exp": 4_000_000_000}
INVALID = (401, 2002, "token_invalid")
UNAVAILABLE = (503, 503, "token_keys_unavailable")
OPERATOR = Actor.system("tests")


@pytest.fixture
def issuer(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Issuer]:
    """An issuer on this machine; that is allowed here."""
    settings.BASKETS_INTERNAL_ADDRESSES = True
    for module, name in ((jwks_cache, "FETCH_TIMEOUT_SECONDS"), (jwks_cache, "WAIT_SECONDS"), (http_client, "CONNECT_SECONDS")):
        monkeypatch.setattr(module, name, PATIENT)
    with serving_keys() as made:
        yield made
        made.gate.set()
        settle()


def settle() -> None:
    """Wait for the fetches that run beside the calls."""
    for thread in threading.enumerate():
        if thread.name.startswith("issuer-keys-"):
            thread.join(PATIENT)


def wait(period: timedelta) -> None:
    """Let time pass for all issuers, as the database's clock would; fetches that run are finished before."""
    settle()
    past = period + timedelta(seconds=1)
    TokenIssuer.objects.update(fetched_at=F("fetched_at") - past, next_fetch_at=F("next_fetch_at") - past)


def add_issuer(partner: Partner, url: str, *, name: str = "login", **options: Any) -> TokenIssuer:
    config = {"unrestricted": True, **options}
    return token_issuers.add_issuer(partner_name=partner.name, name=name, keys_url=url, actor=OPERATOR, **config).issuer


@pytest.fixture
def show(app: Api, partner: Partner, issuer: Issuer) -> Callable[..., ApiResponse]:
    """Shows a basket for a token of this issuer."""
    add_issuer(partner, issuer.url)

    def show(token: str, user: str = "ada") -> ApiResponse:
        return app.get(f"/baskets/users/{user}", Authorization=f"Bearer {token}")

    return show


@pytest.fixture(scope="module")
def pair() -> KeyPair:
    return KeyPair("ES256")


# --- Fetched once, shared, replaced -----------------------------------------------------------------------


def test_keys_are_fetched_once_and_then_stored(show: Any, issuer: Issuer, pair: KeyPair) -> None:
    issuer.publish(pair)
    for _ in range(5):
        assert show(pair.sign(GOOD)).status == 200
    assert (issuer.calls, issuer.requests) == (1, [("/keys", None)])
    stored = TokenIssuer.objects.get()
    assert (stored.fetched_keys, stored.fetch_lease, stored.fetch_problem) == ({"keys": [pair.jwk]}, None, "")


def test_a_token_whose_key_is_stored_costs_one_statement(show: Any, issuer: Issuer, pair: KeyPair) -> None:
    issuer.publish(pair)
    show(pair.sign(GOOD))
    with CaptureQueriesContext(connection) as captured:
        assert show(pair.sign(GOOD)).status == 200
    assert len(captured) == 3
    assert sum("baskets_tokenissuer" in query["sql"] for query in captured.captured_queries) == 1


def test_keys_that_are_no_longer_fresh_are_used_and_fetched_beside(show: Any, issuer: Issuer, pair: KeyPair) -> None:
    issuer.publish(pair)
    assert show(pair.sign(GOOD)).status == 200
    issuer.hold_back()
    wait(jwks_cache.FRESH_AGE)
    for _ in range(5):
        assert show(pair.sign(GOOD)).status == 200
    issuer.gate.set()
    settle()
    assert issuer.calls == 2
    assert TokenIssuer.objects.get(fetched_at__gt=Now() - jwks_cache.FRESH_AGE).fetch_lease is None


def test_a_new_key_is_found_with_the_first_token_that_names_it(show: Any, issuer: Issuer, pair: KeyPair) -> None:
    issuer.publish(pair)
    assert show(pair.sign(GOOD)).status == 200
    fresh = KeyPair("ES256", kid="key-2")
    issuer.publish(fresh, pair)
    wait(jwks_cache.FETCH_PAUSE)
    assert show(fresh.sign(GOOD)).status == 200
    assert show(pair.sign(GOOD)).status == 200
    assert issuer.calls == 2


@pytest.mark.parametrize("in_the_token", [None, "unpublished"])
def test_a_new_key_without_a_name_is_found_as_soon(show: Any, issuer: Issuer, in_the_token: str | None) -> None:
    old, new = KeyPair("ES256", kid=None), KeyPair("ES256", kid=None)
    issuer.publish(old)
    assert show(old.sign(GOOD, kid=in_the_token)).status == 200
    issuer.publish(new)
    wait(jwks_cache.FETCH_PAUSE)
    assert show(new.sign(GOOD, kid=in_the_token)).status == 200
    assert show(old.sign(GOOD, kid=in_the_token)).refusal == INVALID
    assert issuer.calls == 2


def test_a_removed_key_is_good_until_the_next_fetch_of_a_busy_issuer(show: Any, issuer: Issuer, pair: KeyPair) -> None:
    issuer.publish(pair)
    assert show(pair.sign(GOOD)).status == 200
    issuer.publish(KeyPair("ES256", kid="key-2"))
    wait(jwks_cache.FRESH_AGE)
    assert show(pair.sign(GOOD)).status == 200
    settle()
    assert show(pair.sign(GOOD)).refusal == INVALID


def test_a_removed_key_of_an_idle_issuer_is_refused_at_once(show: Any, issuer: Issuer, pair: KeyPair) -> None:
    issuer.publish(pair)
    assert show(pair.sign(GOOD)).status == 200
    issuer.publish(KeyPair("ES256", kid="key-2"))
    wait(jwks_cache.MAX_AGE)
    assert show(pair.sign(GOOD)).refusal == INVALID
    assert issuer.calls == 2


def test_a_removed_key_is_refused_as_soon_as_an_operator_asks(show: Any, issuer: Issuer, pair: KeyPair) -> None:
    issuer.publish(pair)
    assert show(pair.sign(GOOD)).status == 200
    issuer.publish(KeyPair("ES256", kid="key-2"))
    found = jwks_cache.fetch_now(issuer=TokenIssuer.objects.get(), actor=OPERATOR)
    assert [key.kid for key in found.keys] == ["key-2"]
    assert show(pair.sign(GOOD)).refusal == INVALID


def test_made_up_keys_do_not_make_us_hammer_the_issuer(show: Any, issuer: Issuer, pair: KeyPair) -> None:
    issuer.publish(pair)
    for number in range(40):
        assert show(pair.sign(GOOD, kid=f"made-up-{number}")).refusal == INVALID
    assert show(pair.sign(GOOD)).status == 200
    assert issuer.calls == 1
    wait(jwks_cache.FETCH_PAUSE)
    for number in range(40):
        assert show(pair.sign(GOOD, kid=f"made-up-{number}")).refusal == INVALID
    assert issuer.calls == 2


def test_a_wrong_signature_of_a_stored_key_makes_no_call(show: Any, issuer: Issuer, pair: KeyPair) -> None:
    issuer.publish(pair)
    assert show(pair.sign(GOOD)).status == 200
    wait(jwks_cache.FETCH_PAUSE)
    assert show(KeyPair("ES256", kid=pair.kid).sign(GOOD)).refusal == INVALID
    assert issuer.calls == 1


def test_what_cannot_be_good_makes_no_call_at_all(show: Any, issuer: Issuer, pair: KeyPair) -> None:
    issuer.publish(pair)
    for token in ("x", pair.sign(GOOD, alg="none"), pair.sign(GOOD, alg="HS256"), pair.sign(GOOD, alg="PS256"), pair.sign(GOOD, kid=5)):
        assert show(token).refusal == INVALID
    assert issuer.calls == 0


# --- An address that fails --------------------------------------------------------------------------------


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
    huge = b'{"keys": [], "fill": "' + b"x" * jwks_cache.MAX_BYTES + b'"}'
    thief = json.dumps({"keys": [pair.jwk | {"kid": "stolen"}]}).encode()
    match how:
        case "error":
            issuer.say(b"oops", status=500)
        case "one is private":
            issuer.say(json.dumps({"keys": [pair.jwk, pair.jwk | {"kid": "stolen", "d": "AAAA"}]}).encode())
        case "no usable key":
            issuer.say(json.dumps({"keys": [pair.jwk | {"use": "enc"}, {"kty": "AKP", "pub": "AA"}]}).encode())
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
            bodies = {
                "rubbish": b"<html>",
                "deep": b"[" * 100_000,
                "bytes": b"\xff\xfe\x00",
                "list": b"[]",
                "no set": b'{"keys": 5}',
                "number": b"9" * 5000,
                "nothing": b"",
                "empty set": b'{"keys": []}',
                "many": json.dumps({"keys": [pair.jwk] * 51}).encode(),
            }
            issuer.say(bodies[how])


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
    "empty set",
    "no usable key",
    "one is private",
]


@pytest.mark.measured
@pytest.mark.parametrize("how", WAYS)
def test_keys_that_were_good_stay_good_while_the_issuer_fails(
    show: Any, issuer: Issuer, pair: KeyPair, how: str, monkeypatch: pytest.MonkeyPatch, lines: Any
) -> None:
    issuer.publish(pair)
    assert show(pair.sign(GOOD)).status == 200
    stored = TokenIssuer.objects.get().fetched_keys
    failing(issuer, how, pair)
    monkeypatch.setattr(jwks_cache, "FETCH_TIMEOUT_SECONDS", 0.5 if how == "hang" else PATIENT)
    wait(jwks_cache.MAX_AGE)
    for _ in range(3):
        assert show(pair.sign(GOOD)).status == 200
        assert show(pair.sign(GOOD, kid="stolen")).refusal == INVALID
    assert issuer.calls == 2
    assert [(line["host"], line["issuer"]) for line in lines("issuer_keys_failed")] == [("127.0.0.1", "login")]
    kept = TokenIssuer.objects.get()
    assert (kept.fetched_keys, kept.fetch_problem) == (stored, lines("issuer_keys_failed")[0]["problem"])
    # And once it works again, the next call finds out.
    monkeypatch.setattr(jwks_cache, "FETCH_TIMEOUT_SECONDS", PATIENT)
    fresh = KeyPair("ES256", kid="key-2")
    issuer.publish(fresh)
    wait(jwks_cache.FETCH_PAUSE)
    assert (show(fresh.sign(GOOD)).status, lines("issuer_keys_failed")[1:], issuer.calls) == (200, [], 3)
    assert TokenIssuer.objects.get().fetch_problem == ""


@pytest.mark.parametrize("how", ["error", "hang", "rubbish", "empty set"])
def test_without_any_key_the_call_may_be_repeated_and_the_issuer_is_left_alone_for_a_while(
    show: Any, issuer: Issuer, pair: KeyPair, how: str, monkeypatch: pytest.MonkeyPatch, unchanged: Unchanged
) -> None:
    monkeypatch.setattr(jwks_cache, "FETCH_TIMEOUT_SECONDS", 0.5 if how == "hang" else PATIENT)
    failing(issuer, how, pair)
    unchanged(but=("baskets_tokenissuer",))
    for _ in range(4):
        answer = show(pair.sign(GOOD))
        assert answer.refusal == UNAVAILABLE
        assert 1 <= int(answer.headers["Retry-After"]) <= 10
        assert "WWW-Authenticate" not in answer.headers
    assert issuer.calls == 1
    monkeypatch.setattr(jwks_cache, "FETCH_TIMEOUT_SECONDS", PATIENT)
    issuer.publish(pair)
    wait(jwks_cache.FETCH_PAUSE)
    assert show(pair.sign(GOOD)).status == 200


def test_the_call_that_finds_the_address_failing_says_when_to_come_again(show: Any, issuer: Issuer, pair: KeyPair) -> None:
    issuer.say(b"", status=500)
    assert show(pair.sign(GOOD)).headers["Retry-After"] == "10"
    TokenIssuer.objects.update(next_fetch_at=Now() + timedelta(seconds=6.5))
    assert show(pair.sign(GOOD)).headers["Retry-After"] == "7"


def test_an_expired_token_is_reported_as_expired_while_the_address_fails(show: Any, issuer: Issuer, pair: KeyPair) -> None:
    issuer.publish(pair)
    assert show(pair.sign(GOOD)).status == 200
    failing(issuer, "error", pair)
    wait(jwks_cache.MAX_AGE)
    assert show(pair.sign(GOOD | {"exp": 1})).refusal == (401, 2002, "token_expired")


def test_another_issuer_of_the_partner_goes_on(show: Any, issuer: Issuer, pair: KeyPair, partner: Partner) -> None:
    failing(issuer, "error", pair)
    own = KeyPair("ES256", kid="own")
    keys = {"keys": [own.jwk]}
    token_issuers.add_issuer(partner_name=partner.name, name="other", keys=keys, unrestricted=True, actor=OPERATOR)
    assert show(own.sign(GOOD)).status == 200
    assert issuer.calls == 0
    assert show(pair.sign(GOOD)).refusal == UNAVAILABLE


def test_without_a_thread_to_fetch_with_the_call_may_be_repeated(
    show: Any, issuer: Issuer, pair: KeyPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer.publish(pair)

    def start(_: Any) -> None:
        raise RuntimeError

    with monkeypatch.context() as none_left:
        none_left.setattr(threading.Thread, "start", start)
        assert show(pair.sign(GOOD)).refusal == UNAVAILABLE
    wait(jwks_cache.LEASE_DURATION)
    assert show(pair.sign(GOOD)).status == 200


# --- An address that hangs --------------------------------------------------------------------------------


def test_a_hanging_address_delays_no_user_whose_key_is_stored(
    show: Any, issuer: Issuer, pair: KeyPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer.publish(pair)
    assert show(pair.sign(GOOD)).status == 200
    issuer.hold_back()
    wait(jwks_cache.FETCH_PAUSE)
    strangers: list[Any] = []

    def stranger() -> None:
        strangers.append(show(pair.sign(GOOD, kid="made-up")).refusal)
        connection.close()

    one = threading.Thread(target=stranger)
    one.start()
    while issuer.calls < 2:
        time.sleep(0.01)
    # The address is held back all the while, and so is the stranger whose token has begun the fetch.
    for _ in range(10):
        assert show(pair.sign(GOOD)).status == 200
        assert show(pair.sign(GOOD, kid="made-up")).refusal == UNAVAILABLE
    assert (issuer.calls, strangers) == (2, [])
    issuer.gate.set()
    one.join(PATIENT)
    assert strangers == [INVALID]


def test_a_call_waits_only_so_long(show: Any, issuer: Issuer, pair: KeyPair, monkeypatch: pytest.MonkeyPatch) -> None:
    issuer.publish(pair)
    issuer.hold_back()
    monkeypatch.setattr(jwks_cache, "WAIT_SECONDS", 0.2)
    for _ in range(3):
        answer = show(pair.sign(GOOD))
        assert (answer.refusal, answer.headers["Retry-After"]) == (UNAVAILABLE, "1")
    assert issuer.calls == 1
    issuer.gate.set()
    settle()
    assert show(pair.sign(GOOD)).status == 200
    assert issuer.calls == 1


def test_outdated_keys_are_used_after_that_wait(show: Any, issuer: Issuer, pair: KeyPair, monkeypatch: pytest.MonkeyPatch) -> None:
    issuer.publish(pair)
    assert show(pair.sign(GOOD)).status == 200
    wait(jwks_cache.MAX_AGE)
    issuer.hold_back()
    monkeypatch.setattr(jwks_cache, "WAIT_SECONDS", 0.2)
    for _ in range(3):
        assert show(pair.sign(GOOD)).status == 200
    assert issuer.calls == 2


def test_outdated_keys_of_an_address_that_fails_are_used_without_a_wait(show: Any, issuer: Issuer, pair: KeyPair) -> None:
    issuer.publish(pair)
    assert show(pair.sign(GOOD)).status == 200
    failing(issuer, "error", pair)
    wait(jwks_cache.MAX_AGE)
    assert show(pair.sign(GOOD)).status == 200
    issuer.hold_back()
    wait(jwks_cache.FETCH_PAUSE)
    begun = time.monotonic()
    assert show(pair.sign(GOOD)).status == 200
    assert time.monotonic() - begun < PATIENT / 2
    assert TokenIssuer.objects.get().fetch_lease is not None


def test_a_fetch_that_outlives_its_lease_stores_nothing(show: Any, issuer: Issuer, pair: KeyPair, monkeypatch: pytest.MonkeyPatch) -> None:
    issuer.publish(pair)
    issuer.hold_back()
    monkeypatch.setattr(jwks_cache, "WAIT_SECONDS", 0.2)
    assert show(pair.sign(GOOD)).refusal == UNAVAILABLE
    slow = [thread for thread in threading.enumerate() if thread.name.startswith("issuer-keys-")]
    past = jwks_cache.LEASE_DURATION + timedelta(seconds=1)
    TokenIssuer.objects.update(next_fetch_at=F("next_fetch_at") - past)
    monkeypatch.setattr(jwks_cache, "WAIT_SECONDS", PATIENT)
    fresh = KeyPair("ES256", kid="key-2")
    issuer.publish(fresh)
    assert show(fresh.sign(GOOD)).status == 200
    issuer.gate.set()
    for thread in slow:
        thread.join(PATIENT)
    assert TokenIssuer.objects.get().fetched_keys == {"keys": [fresh.jwk]}


# --- What is published ------------------------------------------------------------------------------------


def test_keys_in_a_set_that_are_of_no_use_harm_no_others(show: Any, issuer: Issuer, pair: KeyPair, lines: Any) -> None:
    unusable = [{"kty": "oct", "k": "AAAA"}, "x", {}, {"kty": "RSA", "n": "AQ", "e": "AQAB"}, {"kty": "AKP", "pub": "AA", "kid": "pq"}]
    issuer.say(json.dumps({"keys": [*unusable, pair.jwk | {"kid": "e", "use": "enc"}, pair.jwk | {"x5c": ["MII"]}]}).encode())
    assert show(pair.sign(GOOD)).status == 200
    [line] = lines("issuer_keys_skipped")
    assert line["problems"] == [
        "keys[0]: The key type 'oct' is not supported.",
        "keys[1]: A key is an object.",
        "keys[2]: The key type None is not supported.",
        "keys[3]: The key cannot be read.",
        "keys[4] (kid 'pq'): The key type 'AKP' is not supported.",
        "keys[5] (kid 'e'): The key is not meant for signatures.",
    ]
    assert TokenIssuer.objects.get().fetched_keys == {"keys": [pair.jwk]}


def test_a_name_that_the_database_cannot_store_is_skipped(show: Any, issuer: Issuer, pair: KeyPair) -> None:
    keys = [pair.jwk | {"kid": "a\x00"}, pair.jwk | {"kid": "\ud800"}, pair.jwk | {"x": pair.jwk["x"] + "\x00"}, pair.jwk]
    issuer.say(json.dumps({"keys": keys}).encode())
    assert show(pair.sign(GOOD)).status == 200


def test_keys_for_other_algorithms_replace_none(show: Any, issuer: Issuer, pair: KeyPair, partner: Partner) -> None:
    add_issuer(partner, issuer.url, algorithms=["ES256"])
    issuer.publish(pair)
    assert show(pair.sign(GOOD)).status == 200
    issuer.publish(KeyPair("EdDSA"))
    wait(jwks_cache.MAX_AGE)
    assert show(pair.sign(GOOD)).status == 200
    assert TokenIssuer.objects.get().fetch_problem == (
        "The key set has no usable key. keys[0] (kid 'key-1'): The key is for none of the algorithms of this issuer."
    )


def test_an_issuer_that_is_trusted_again_keeps_the_keys_of_the_same_address(
    show: Any, issuer: Issuer, pair: KeyPair, partner: Partner
) -> None:
    issuer.publish(pair)
    assert show(pair.sign(GOOD)).status == 200
    failing(issuer, "error", pair)
    add_issuer(partner, issuer.url)
    assert show(pair.sign(GOOD)).status == 200
    add_issuer(partner, issuer.url + "/other")
    assert show(pair.sign(GOOD)).refusal == UNAVAILABLE
    assert TokenIssuer.objects.get().fetched_keys is None


def test_an_address_inside_is_not_called_unless_a_setting_allows_it(show: Any, issuer: Issuer, pair: KeyPair, settings: Any) -> None:
    issuer.publish(pair)
    settings.BASKETS_INTERNAL_ADDRESSES = False
    assert show(pair.sign(GOOD)).refusal == UNAVAILABLE
    assert issuer.calls == 0


@pytest.fixture
def workers(process: Any) -> Iterator[Callable[[int], Callable[[str, int], list[str]]]]:
    """Start processes of the service that verify tokens; each call asks all of them at once."""
    started = []

    def start(number: int) -> Callable[[str, int], list[str]]:
        options = {"stdin": subprocess.PIPE, "stderr": None, "text": True, "env": {"BASKETS_INTERNAL_ADDRESSES": "1"}}
        ours = [process("shell", "--verbosity=0", "--command", WORKER, **options) for _ in range(number)]
        started.extend(ours)
        assert [one.stdout.readline() for one in ours] == ["ready\n"] * number

        def ask(token: str, partner_id: int) -> list[str]:
            for one in ours:
                one.stdin.write(f"{token} {partner_id}\n")
                one.stdin.flush()
            return [one.stdout.readline().strip() for one in ours]

        return ask

    yield start
    for one in started:
        one.communicate(timeout=PATIENT)
        assert one.returncode == 0


# --- Many at once -----------------------------------------------------------------------------------------


def test_a_crowd_with_new_tokens_asks_once_and_gets_in_with_the_next_call(app: Api, show: Any, issuer: Issuer, pair: KeyPair) -> None:
    issuer.publish(pair)
    first: list[int] = []
    together = threading.Barrier(8)

    def come() -> None:
        together.wait(PATIENT)
        first.append(Api(app.key).get("/baskets/users/ada", Authorization=f"Bearer {pair.sign(GOOD)}").status)
        connection.close()

    crowd = [threading.Thread(target=come) for _ in range(8)]
    for one in crowd:
        one.start()
    for one in crowd:
        one.join(PATIENT)
    settle()
    assert len(first) == 8
    assert {200} <= set(first) <= {200, 503}
    assert [show(pair.sign(GOOD)).status for _ in range(8)] == [200] * 8
    assert issuer.calls == 1


WORKER = """
import sys
from baskets.domain.access import bearer_tokens, jwks_cache

print("ready", flush=True)
for line in sys.stdin:
    token, partner = line.split()
    try:
        print(bearer_tokens.verify(token=token, partner_id=int(partner)).user_id, flush=True)
    except jwks_cache.KeysUnavailable:
        print("unavailable", flush=True)
    except bearer_tokens.TokenInvalid:
        print("invalid", flush=True)
"""


def test_workers_share_what_one_of_them_has_fetched(show: Any, issuer: Issuer, pair: KeyPair, partner: Partner, workers: Any) -> None:
    """Separate processes: one fetch for all, and none for a worker that starts while the address is unreachable."""
    issuer.publish(pair)
    ask = workers(3)
    first = ask(pair.sign(GOOD), partner.pk)
    assert "ada" in first
    assert set(first) <= {"ada", "unavailable"}
    assert ask(pair.sign(GOOD), partner.pk) == ["ada"] * 3
    assert ask(pair.sign(GOOD, kid="made-up"), partner.pk) == ["invalid"] * 3
    assert issuer.calls == 1
    failing(issuer, "hang up", pair)
    wait(jwks_cache.MAX_AGE)
    assert workers(1)(pair.sign(GOOD), partner.pk) == ["ada"]
    assert ask(pair.sign(GOOD), partner.pk) == ["ada"] * 3
    assert issuer.calls == 2
