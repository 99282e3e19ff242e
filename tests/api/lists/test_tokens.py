"""The tokens of the next page and the ids of events: what they reveal, and where they work."""

import base64
import hashlib
import json
import re

import pytest
from django.core import signing

from baskets.api.lists.pagination import ENCRYPTION_PURPOSE, ListCursor
from baskets.encryption import decrypt_token, encrypt_token
from baskets.models import Event, FeedPosition
from tests.api.conftest import Api
from tests.api.lists.reading import EVENTS, LISTS


@pytest.mark.parametrize("path", LISTS)
def test_token_works_only_for_its_partner_call_and_filters(api: Api, other_partner: Api, path: str) -> None:
    for n in range(3):
        api.place("song", user=f"user-{n}")
        other_partner.place("song", user=f"user-{n}")
        api.start(user=f"user-{n}")
        other_partner.start(user=f"user-{n}")
    token = api.get(f"{path}?limit=1").body["nextToken"]
    assert api.get(f"{path}?nextToken={token}").status == 200
    elsewhere = [other_path for other_path in LISTS if other_path != path]
    foreign = encrypt_token(decrypt_token(token, purpose=ENCRYPTION_PURPOSE), purpose="another purpose")
    forged = signing.dumps(json.loads(decrypt_token(token, purpose=ENCRYPTION_PURPOSE)), key="another secret", salt=ENCRYPTION_PURPOSE)
    for answer in (
        other_partner.get(f"{path}?nextToken={token}"),
        api.get(f"{path}?nextToken={token}&userId=user-2"),
        *(api.get(f"{wrong}?nextToken={token}") for wrong in elsewhere),
        api.get(f"{path}?nextToken={token[:-1]}"),
        api.get(f"{path}?nextToken={foreign}"),
        api.get(f"{path}?nextToken={forged}"),
    ):
        assert (answer.refusal, answer.fields) == ((422, 3002, "validation_failed"), {"nextToken"})


@pytest.mark.parametrize("path", LISTS)
def test_token_reveals_neither_users_nor_the_number_of_events(api: Api, path: str) -> None:
    """It is encrypted, and its length does not depend on the position."""
    for user in ("ada@example.com", "bob"):
        api.place("song", user=user)
        api.start(user=user)
    token = api.get(f"{path}?limit=1").body["nextToken"]
    assert re.fullmatch(r"[A-Za-z0-9_-]{192}", token)
    raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    assert b"ada" not in raw
    assert b"2026" not in raw
    cursor = ListCursor(partner_id=1, call="events", filters={})
    positions = [[1, None, None], [10**18, 10**18, "2026-11-29T02:53:15.123456+00:00"]]
    assert [len(cursor.encrypt(position)) for position in positions] == [len(token)] * 2
    assert [cursor.decrypt(cursor.encrypt(position)) for position in positions] == positions
    assert cursor.decrypt(cursor.encrypt(255 * "\U0001f600")) == 255 * "\U0001f600"
    assert len(cursor.encrypt(255 * "\U0001f600")) < 2000


@pytest.mark.parametrize("path", LISTS)
def test_token_in_the_former_format_is_accepted_and_replaced(api: Api, path: str) -> None:
    """Consumers store tokens of the feed for any time. Former tokens were signed, but not encrypted."""
    for user in ("ada", "bob", "cleo", "dev"):
        api.place("song", user=user)
        api.start(user=user)
    first = api.get(f"{path}?limit=1")
    former = signing.dumps(json.loads(decrypt_token(first.body["nextToken"], purpose=ENCRYPTION_PURPOSE)), salt=ENCRYPTION_PURPOSE)
    second = api.get(f"{path}?limit=1&nextToken={former}")
    assert second.body == api.get(f"{path}?limit=1&nextToken={first.body['nextToken']}").body
    assert ":" not in second.body["nextToken"]
    assert api.get(f"{path}?limit=1&nextToken={former}&userId=bob").fields == {"nextToken"}
    assert api.get(f"{path}?limit=1&nextToken={former[:-1]}").fields == {"nextToken"}


def test_event_id_does_not_depend_on_other_events(api: Api, other_partner: Api) -> None:
    """So a restored backup gives it the same id, and ids reveal no number of events."""
    for user, caller in (("ada", api), ("eve", other_partner), ("ada", api)):
        caller.place("song", 2 if user == "eve" else 1, user=user)
        caller.place("shirt", 1, user=user)
    shown = api.get(EVENTS).data
    assert [event["number"] for event in shown] == [1, 2]
    events = Event.objects.filter(basket__user_id="ada").order_by("number")
    identities = [f"{event.basket_id} {event.number} {event.at.timestamp():.6f}" for event in events]
    assert [event["id"] for event in shown] == [f"evt-{hashlib.sha256(identity.encode()).hexdigest()[:32]}" for identity in identities]
    assert api.get(f"{EVENTS}?limit=1").data + api.get(f"{EVENTS}?kind=item_placed").data == [shown[0], *shown]


def test_event_with_a_former_id_keeps_it(api: Api) -> None:
    api.place("song")
    api.get(EVENTS)
    FeedPosition.objects.update(public_id=None)  # The migration leaves events with positions in this state.
    api.place("shirt")
    first, second = api.get(EVENTS).data
    assert first["id"] == f"evt-{Event.objects.get(number=1).pk}"
    assert re.fullmatch("evt-[0-9a-f]{32}", second["id"])
