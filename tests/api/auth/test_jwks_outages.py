"""The address of an issuer's keys fails or hangs: stored keys stay good, and no user is delayed."""

import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from django.db.models import F
from django.db.models.functions import Now

from baskets.domain.access import jwks_cache, token_issuers
from baskets.models import Partner, TokenIssuer
from tests.api.auth.key_sets import GOOD, INVALID, OPERATOR, UNAVAILABLE, failing, settle, wait
from tests.api.conftest import Unchanged
from tests.key_servers import PATIENT, Issuer
from tests.threads import beside
from tests.tokens import KeyPair
from tests.waiting import eventually

pytestmark = pytest.mark.django_db(transaction=True)


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
    assert eventually(lambda: issuer.calls == 2)
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
    assert eventually(lambda: issuer.calls == 1)
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
    with beside(lambda: show(pair.sign(GOOD, kid="made-up")).refusal, stop=issuer.gate.set) as (stranger,):
        assert eventually(lambda: issuer.calls == 2)
        # The address is held back all the while, and so is the stranger whose token has begun the fetch.
        for _ in range(10):
            assert show(pair.sign(GOOD)).status == 200
            assert show(pair.sign(GOOD, kid="made-up")).refusal == UNAVAILABLE
        assert (issuer.calls, stranger.done()) == (2, False)
    assert stranger.result() == INVALID


def test_a_call_waits_only_so_long(show: Any, issuer: Issuer, pair: KeyPair, monkeypatch: pytest.MonkeyPatch) -> None:
    issuer.publish(pair)
    issuer.hold_back()
    monkeypatch.setattr(jwks_cache, "WAIT_SECONDS", 0.2)
    for _ in range(3):
        answer = show(pair.sign(GOOD))
        assert (answer.refusal, answer.headers["Retry-After"]) == (UNAVAILABLE, "1")
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
    issuer.gate.set()
    settle()
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
