"""Runs each curl of the documents. Every list has one."""

import json
import re
import shlex
import time
from datetime import UTC, datetime
from pathlib import Path
from string import Template
from urllib.parse import urlsplit

import pytest
from django.utils.timezone import now

from baskets.domain import runner
from baskets.domain.access import api_keys, guest_tokens, token_issuers
from baskets.domain.events import feed
from baskets.domain.support import sandboxes
from baskets.models import Event, GuestToken, Partner
from baskets.models.basket_snapshot import Owner
from tests.api.conftest import UNSET, Api, Sells
from tests.factories import TESTER
from tests.tokens import KeyPair

DOCS = Path(__file__).parents[3] / "baskets" / "docs"
SHELL = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CURLS = [
    line
    for page in sorted((DOCS / "partners").glob("*.md"))
    if page.stem != "start"  # Its calls depend on each other: `tests/api/test_guides.py` executes them in order.
    for block in SHELL.findall(page.read_text())
    for line in block.replace("\\\n", " ").splitlines()
    if line.startswith("curl ")
]


def call(api: Api, curl: str) -> int:
    """Make the call of a curl line with the key of the test, and return its status."""
    words = shlex.split(curl)
    (url,) = (word for word in words if word.startswith("http"))
    options = {words[n]: words[n + 1] for n in range(len(words)) if words[n] in {"-X", "-d"}}
    headers = dict(words[n + 1].split(": ", 1) for n in range(len(words)) if words[n] == "-H")
    body = json.loads(options["-d"]) if "-d" in options else UNSET
    if body is not UNSET:
        assert headers.pop("Content-Type") == "application/json"
    parts = urlsplit(url)
    assert parts.netloc == "127.0.0.1:8000"
    method, target = options.get("-X", "GET"), f"{parts.path}?{parts.query}"
    if "X-API-Key" not in headers:
        return int(api.client.generic(method, target, headers=headers).status_code)
    assert headers.pop("X-API-Key") == "$KEY"
    return api.request(method, target, body, **headers).status


def replayable_webhook(api: Api) -> str:
    """Create a webhook that was delivered an event of 24 November 2026, and return its id."""
    created = api.post("/baskets/webhooks", {"url": "https://shop.example.com/hooks/baskets"}).data
    Event.objects.update(at=datetime(2026, 11, 24, 13, tzinfo=UTC))
    return str(created["webhookId"])


def api_of_a_test_key(partner: Partner) -> Api:
    """Return the API as the holder of a test key sees it."""
    sandbox = sandboxes.open_sandbox(partner_name=partner.name, actor=TESTER)
    return Api(api_keys.issue_api_key(partner_name=sandbox.name, actor=TESTER)[1])


@pytest.mark.parametrize("curl", CURLS)
def test_documented_call_works(api: Api, partner: Partner, sells: Sells, curl: str) -> None:
    for product in ("prod-123", "prod-456"):
        sells(product)
    api.place("prod-123", user="user-1")
    feed.assign_positions()
    offer = api.post("/baskets/users/user-1/transfer").data["jayToken"]
    login = KeyPair("ES256")
    token_issuers.add_issuer(partner_name=partner.name, name="login", keys={"keys": [login.jwk]}, unrestricted=True, actor=TESTER)
    token = login.sign({"sub": "user-1", "exp": time.time() + 3600})
    owner = Owner(partner_id=partner.pk, user_id="user-1")
    runner.run(lambda: guest_tokens.issue_guest_token(owner=owner, at=now()))
    webhook = replayable_webhook(api) if "$WEBHOOK_ID" in curl else ""
    names = {"USER_ID": "user-1", "JAY_TOKEN": offer, "TOKEN": token, "DEVICE_ID": str(GuestToken.objects.get().pk), "WEBHOOK_ID": webhook}
    caller = api_of_a_test_key(partner) if "sandbox-" in curl else api
    assert call(caller, Template(curl).safe_substitute(names)) == 200


@pytest.mark.parametrize("path", ["/baskets", "/baskets/checkout/sessions", "/baskets/events"])
def test_every_list_has_a_documented_call(path: str) -> None:
    assert [curl for curl in CURLS if re.search(rf"8000{path}\?", curl)]
