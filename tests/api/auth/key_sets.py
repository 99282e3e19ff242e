"""Issuers whose keys are published at an address, and the ways in which that address fails."""

import json
import threading
import time
from datetime import timedelta
from typing import Any

from django.db.models import F

from baskets.domain.access import jwks_cache, token_issuers
from baskets.domain.actors import Actor
from baskets.models import Partner, TokenIssuer
from tests.key_servers import PATIENT, Issuer
from tests.tokens import KeyPair

GOOD = {"sub": "ada", "exp": 4_000_000_000}


INVALID = (401, 2002, "token_invalid")


UNAVAILABLE = (503, 503, "token_keys_unavailable")


OPERATOR = Actor.system("tests")


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
