"""Keys that an issuer publishes at its own address, served here on this machine: well, badly, and not at all."""

import json
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from baskets.domain.access import jwks_cache
from baskets.models import Partner, TokenIssuer
from tests.api.auth.key_sets import GOOD, INVALID, OPERATOR, UNAVAILABLE, add_issuer, failing, settle, wait
from tests.api.conftest import Api
from tests.concurrency.barrier import run_concurrently
from tests.key_servers import PATIENT, Issuer
from tests.tokens import KeyPair

pytestmark = pytest.mark.django_db(transaction=True)


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

    def come() -> int:
        return Api(app.key).get("/baskets/users/ada", Authorization=f"Bearer {pair.sign(GOOD)}").status

    first = run_concurrently([come] * 8)
    settle()
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
