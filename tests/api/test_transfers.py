"""Transfers over HTTP: offered with or without an image, redeemed once; then both devices share one basket."""

import base64
import json
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.db import connection
from django.test import Client

from baskets.api.serializers.transfer_links import qr_image_base64
from baskets.models import Event, IdempotencyRecord, Partner
from tests.api.conftest import Api, Sells, Unchanged

TRANSFER = "/baskets/users/ada/transfer"
GUESTS = "/baskets/guests"
PNG = b"\x89PNG\r\n\x1a\n"
NOT_GOOD = {"jayToken"}


@pytest.fixture(autouse=True)
def basket(sells: Sells, api: Api) -> None:
    sells("p1")
    api.place("p1", 2)


def past_their_minute() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE baskets_transfer SET created_at = created_at - interval '1 min', expires_at = expires_at - interval '1 min'"
            " WHERE redeemed_at IS NULL"
        )


def take(app: Api, token: str, body: Any = None) -> Any:
    return app.post(f"{GUESTS}?jayToken={token}", {} if body is None else body)


def test_both_devices_share_one_basket(api: Api, app: Api) -> None:
    offer = api.post(TRANSFER, {}).data
    guest = take(app, offer["jayToken"]).data
    assert set(guest) == {"userId", "jwt", "expires", "basket"}
    assert (guest["userId"], guest["basket"]) == ("ada", api.basket())
    telephone = Api(app.key, headers={"Authorization": f"Bearer {guest['jwt']}"})
    assert telephone.place("p1", 5).data == api.basket()
    assert telephone.start().status == 200


def test_offer_shows_expiry_source_and_token(api: Api, partner: Partner) -> None:
    answer = api.post(TRANSFER)
    assert set(answer.data) == {"expires", "jaySource", "jayToken", "url"}
    assert (answer.data["jaySource"], answer.data["url"]) == (partner.name, None)
    event = Event.objects.latest("number")
    ends = datetime.fromisoformat(answer.data["expires"])
    assert 58 < (ends - event.at).total_seconds() <= 60
    assert answer.headers["Cache-Control"] == "no-store"


def test_offer_appends_its_parameters_to_the_address(api: Api, partner: Partner) -> None:
    offer = api.post(TRANSFER, {"url": "https://tv.example/a?b=%20c#d"}).data
    parts = urlsplit(offer["url"])
    assert offer["url"].startswith("https://tv.example/a?b=%20c&")
    assert parts.fragment == "d"
    assert parse_qs(parts.query) == {"b": [" c"], "jaySource": [partner.name], "jayToken": [offer["jayToken"]]}


def test_image_needs_no_key_and_lives_as_long_as_the_offer(api: Api, app: Api) -> None:
    offer = api.post(f"{TRANSFER}?qr=true", {"url": "https://tv.example/"}).data
    address = urlsplit(offer["qrCodeImageUrl"])
    assert (address.scheme, address.netloc) == ("http", "testserver")
    assert offer["jayToken"] not in offer["qrCodeImageUrl"]
    for accept in ("image/png", "image/avif,image/webp,*/*;q=0.8"):
        image = Client().get(address.path, headers={"Accept": accept})
        assert (image.status_code, image.headers["Content-Type"], image.headers["Cache-Control"]) == (200, "image/png", "no-store")
        assert image.content.startswith(PNG)
    assert base64.b64decode(offer["qrCodeImageBase64"]) == image.content
    take(app, offer["jayToken"])
    gone = Client().get(address.path)
    assert (gone.status_code, gone.json()["error"]["details"]["reason"]) == (404, "not_found")


def test_image_is_not_found_after_the_offer_expires(api: Api) -> None:
    offer = api.post(f"/v2{TRANSFER}?qr=true", {"url": "https://tv.example/"}).data
    past_their_minute()
    assert Client().get(urlsplit(offer["qrCodeImageUrl"]).path).status_code == 404


def test_image_address_begins_with_the_public_url(api: Api, settings: Any) -> None:
    settings.BASKETS_PUBLIC_URL = "https://baskets.example.com/"
    offer = api.post(f"{TRANSFER}?qr=true", {"url": "https://tv.example/"}).data
    assert offer["qrCodeImageUrl"].startswith("https://baskets.example.com/baskets/transfers/")


@pytest.mark.parametrize("name", ["x", "gAAAAA==", "%00", "%ff", "..", "\u00e4", "x" * 5000])
def test_other_image_is_not_found(api: Api, name: str) -> None:
    assert Client().get(f"/baskets/transfers/{name}").status_code == 404


def test_token_works_once_within_a_minute_and_the_refusal_gives_no_reason(
    api: Api, app: Api, other_partner: Api, unchanged: Unchanged
) -> None:
    used, late, strange = (api.post(TRANSFER, {}).data["jayToken"] for _ in range(3))
    take(app, used)
    past_their_minute()
    unchanged()
    answers = [
        take(app, used),
        take(app, late),
        take(other_partner, strange),
        take(app, "unknown"),
        take(app, ""),
        take(app, "%00"),
        take(app, "%ed"),
    ]
    assert {answer.refusal for answer in answers} == {(422, 3002, "validation_failed")}
    assert len({answer.raw for answer in answers}) == 1
    assert answers[0].fields == NOT_GOOD


def test_other_partner_cannot_use_up_a_token(api: Api, app: Api, other_partner: Api) -> None:
    token = api.post(TRANSFER, {}).data["jayToken"]
    assert take(other_partner, token).fields == NOT_GOOD
    assert take(app, token).status == 200


def test_contradictory_call_is_refused_and_does_not_use_up_the_token(api: Api, app: Api, unchanged: Unchanged) -> None:
    token = api.post(TRANSFER, {}).data["jayToken"]
    unchanged()
    assert take(app, token, {"products": [{"productId": "p1"}]}).fields == {"products"}
    assert app.post(f"{GUESTS}?jayToken={token}&jayToken={token}", {}).fields == NOT_GOOD


@pytest.mark.parametrize(
    ("query", "body", "fields"),
    [
        ("", {"url": "javascript:alert(1)"}, {"url"}),
        ("", {"url": 5}, {"url"}),
        ("", {"url": ""}, {"url"}),
        ("", {"url": "https://tv.example/" + "x" * 2000}, {"url"}),
        ("?qr=yes", {}, {"qr"}),
        ("?qr=true&qr=true", {"url": "x"}, {"qr", "url"}),
        ("?qr=true", {}, {"url"}),
        ("?qr=true", {"url": None}, {"url"}),
        ("", [], {"body"}),
    ],
)
def test_what_is_wrong_is_named(api: Api, query: str, body: Any, fields: set[str], unchanged: Unchanged) -> None:
    unchanged()
    answer = api.post(f"{TRANSFER}{query}", body)
    assert (answer.refusal, answer.fields) == ((422, 3002, "validation_failed"), fields)


def test_image_is_drawn_once_and_has_a_limited_length(api: Api, partner: Partner) -> None:
    added = len(f"?jaySource={partner.name}&jayToken={'x' * 43}")
    longest = "https://tv.example/".ljust(500 - added, "x")
    assert api.post(f"{TRANSFER}?qr=true", {"url": longest + "x"}).fields == {"url"}
    qr_image_base64.cache_clear()
    offer = api.post(f"{TRANSFER}?qr=true", {"url": longest}).data
    assert len(offer["url"]) == 500
    for _ in range(3):
        assert Client().get(urlsplit(offer["qrCodeImageUrl"]).path).status_code == 200
    assert qr_image_base64.cache_info().misses == 1
    assert len(api.post(TRANSFER, {"url": longest + "x"}).data["url"]) == 501


def test_transfer_requires_a_basket(api: Api, unchanged: Unchanged) -> None:
    unchanged()
    assert api.post("/baskets/users/bob/transfer", {}).refusal == (404, 2005, "basket_not_found")


def test_response_with_a_secret_is_not_stored(api: Api) -> None:
    first, second = (api.post(TRANSFER, {}, Idempotency_Key="same") for _ in range(2))
    assert first.data["jayToken"] != second.data["jayToken"]
    assert "Idempotency-Replayed" not in second.headers
    assert not IdempotencyRecord.objects.exists()


def test_no_table_contains_the_token_or_the_image(api: Api, stored_rows: Any) -> None:
    offer = api.post(f"{TRANSFER}?qr=true", {"url": "https://tv.example/"}).data
    stored = json.dumps(stored_rows(), default=str)
    assert offer["jayToken"] not in stored
    assert offer["qrCodeImageUrl"].rsplit("/", 1)[1] not in stored
