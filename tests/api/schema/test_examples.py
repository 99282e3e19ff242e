"""The examples of the document: each works on the demo as `load_demo` leaves it, and writes no attribution."""

import json
import time
from collections.abc import Iterator
from typing import Any

from django.db import transaction
from django.test import Client
from django.utils.timezone import now

from baskets.domain.access import guest_tokens, token_issuers
from baskets.domain.maintenance import demo_data
from baskets.models import Event, GuestToken, Partner
from baskets.models.basket_snapshot import Owner
from tests.api.conftest import Api, resolved, schema
from tests.api.schema.test_curls import replayable_webhook
from tests.factories import TESTER
from tests.tokens import KeyPair

# A call whose example has no body.
NO_BODY: dict[str, Any] = {"": None}


def examples() -> Iterator[tuple[str, str, dict[str, Any], Any]]:
    """Every example of every operation: method, path, operation, and the body or None."""
    for path, methods in schema()["paths"].items():
        for method, operation in methods.items():
            media = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            named = {name: example["value"] for name, example in media.get("examples", {}).items()}
            listed = {str(number): value for number, value in enumerate(media.get("schema", {}).get("examples", []))}
            for body in (named or listed or NO_BODY).values():
                yield method, path, operation, body


def ids_from_earlier_calls(path: str, demo: Api, owner: Owner) -> dict[str, str]:
    """The ids that only an earlier call returns: the document describes them as links, or in words."""
    if "{deviceId}" in path:
        guest_tokens.issue_guest_token(owner=owner, at=now())
        return {"deviceId": str(GuestToken.objects.get().pk)}
    if "{webhookId}" in path:
        demo.place("demo-mug", user=owner.user_id)
        return {"webhookId": replayable_webhook(demo)}
    if "{image}" in path:
        offer = demo.post(f"/baskets/users/{owner.user_id}/transfer?qr=true", {"url": "https://shop.example.com/"})
        return {"image": offer.data["qrCodeImageUrl"].rpartition("/")[2]}
    return {}


def test_examples_work_on_the_demo(db: None) -> None:
    """Each example is the first call to a fresh demo."""
    demo = Api(demo_data.load_demo().api_key)
    owner = Owner(partner_id=Partner.objects.get(name=demo_data.PARTNER).pk, user_id=demo_data.SHOPPER_ID)
    # The demo has no issuer of tokens: it would have to publish its private key.
    login = KeyPair("ES256")
    token_issuers.add_issuer(partner_name=demo_data.PARTNER, name="login", keys={"keys": [login.jwk]}, unrestricted=True, actor=TESTER)
    token = login.sign({"sub": demo_data.SHOPPER_ID, "exp": time.time() + 3600})
    refused, seen = {}, 0
    for method, path, operation, body in examples():
        # The service's own transactions must be outermost, but for those of tests.
        fresh = transaction.atomic()
        fresh._from_testcase = True
        with fresh:
            target = path
            known = ids_from_earlier_calls(path, demo, owner)
            for parameter in map(resolved, operation["parameters"]):
                if parameter["in"] == "path":
                    target = target.replace(f"{{{parameter['name']}}}", known.get(parameter["name"]) or parameter["example"])
            headers = {"X-API-Key": str(demo.key)} if operation["security"] else {}
            if operation["security"] == [{"ApiKey": [], "Bearer": []}]:
                headers["Authorization"] = f"Bearer {token}"
            data = b"" if body is None else json.dumps(body).encode()
            answer = Client().generic(method.upper(), target, data, "application/json" if data else "", headers=headers)
            seen += 1
            if answer.status_code != 200:
                refused[operation["operationId"], json.dumps(body)] = answer.content
            assert not Event.objects.exclude(tracking={}).exists(), "an example writes attribution"
            transaction.set_rollback(True)
    assert refused == {}
    assert seen > 35
