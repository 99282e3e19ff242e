"""The devices of a guest's basket: back ends list and revoke them."""

from typing import Any

import pytest

from baskets.domain.support import erasure
from baskets.models import Basket, Event, GuestToken
from tests.api.conftest import Api, Sells, Unchanged
from tests.factories import TESTER

GUESTS = "/baskets/guests"
TOKEN_INVALID = (401, 2002, "token_invalid")


@pytest.fixture(autouse=True)
def shop(sells: Sells) -> None:
    sells("p1")


def as_guest(app: Api, guest: Any) -> Api:
    return Api(app.key, headers={"Authorization": f"Bearer {guest['jwt']}"})


@pytest.fixture
def guest(app: Api) -> Any:
    """A guest on a first device."""
    return app.post(GUESTS, {"products": [{"productId": "p1"}]}).data


@pytest.fixture
def second_device(app: Api, guest: Any) -> Any:
    """The same basket on a second device."""
    token = as_guest(app, guest).post(f"/baskets/users/{guest['userId']}/transfer", {}).data["jayToken"]
    return app.post(f"{GUESTS}?jayToken={token}", {}).data


def devices(api: Api, guest: Any) -> list[dict[str, Any]]:
    return list(api.get(f"/baskets/users/{guest['userId']}/devices").data["devices"])


def test_devices_are_listed_newest_first(api: Api, guest: Any, second_device: Any) -> None:
    taken, own = devices(api, guest)
    assert (taken["transferred"], own["transferred"]) == (True, False)
    assert (taken["revokedAt"], own["revokedAt"]) == (None, None)
    assert (taken["expires"], own["expires"]) == (second_device["expires"], guest["expires"])
    assert {taken["deviceId"], own["deviceId"]} == {str(pk) for pk in GuestToken.objects.values_list("pk", flat=True)}


def test_revoked_device_is_refused_at_once_and_the_other_still_works(api: Api, app: Api, guest: Any, second_device: Any) -> None:
    basket = f"/baskets/users/{guest['userId']}"
    before = api.get(basket).data
    assert as_guest(app, second_device).get(basket).status == 200
    taken = devices(api, guest)[0]["deviceId"]
    answer = api.delete(f"{basket}/devices/{taken}")
    assert answer.status == 200
    assert [(device["deviceId"] == taken, device["revokedAt"] is not None) for device in answer.data["devices"]] == [
        (True, True),
        (False, False),
    ]
    refused = as_guest(app, second_device).get(basket)
    assert (refused.refusal, refused.headers["WWW-Authenticate"]) == (TOKEN_INVALID, 'Bearer realm="baskets", error="invalid_token"')
    assert as_guest(app, guest).get(basket).data == before
    event = Event.objects.get(kind="device_revoked")
    assert event.data == {"deviceId": taken}


def test_offer_of_a_revoked_device_cannot_be_redeemed(api: Api, app: Api, guest: Any, second_device: Any) -> None:
    basket = f"/baskets/users/{guest['userId']}"
    offer = as_guest(app, second_device).post(f"{basket}/transfer", {}).data["jayToken"]
    api.delete(f"{basket}/devices/{devices(api, guest)[0]['deviceId']}")
    assert app.post(f"{GUESTS}?jayToken={offer}", {}).fields == {"jayToken"}
    assert len(devices(api, guest)) == 2


def test_revoking_again_changes_nothing(api: Api, guest: Any, unchanged: Unchanged) -> None:
    (own,) = devices(api, guest)
    address = f"/baskets/users/{guest['userId']}/devices/{own['deviceId']}"
    first = api.delete(address).data
    unchanged()
    assert api.delete(address).data == first


@pytest.mark.parametrize("device", ["6d9f0a52-0000-4000-8000-000000000000", "x", "{upper}", "{other}"])
def test_no_other_device_is_revoked(device: str, api: Api, app: Api, guest: Any, unchanged: Unchanged) -> None:
    elsewhere = app.post(GUESTS, {}).data
    other = devices(api, elsewhere)[0]["deviceId"]
    own = devices(api, guest)[0]["deviceId"]
    unchanged()
    answer = api.delete(f"/baskets/users/{guest['userId']}/devices/{device.format(upper=own.upper(), other=other)}")
    assert answer.refusal == (404, 404, "device_unknown")


def test_partner_sees_and_revokes_only_its_own_devices(api: Api, other_partner: Api, guest: Any, unchanged: Unchanged) -> None:
    (own,) = devices(api, guest)
    unchanged()
    assert devices(other_partner, guest) == []
    assert other_partner.delete(f"/baskets/users/{guest['userId']}/devices/{own['deviceId']}").refusal == (404, 2005, "basket_not_found")


def test_user_without_a_guest_token_has_no_devices(api: Api) -> None:
    api.place("p1", 1)
    assert api.get("/baskets/users/ada/devices").data == {"devices": []}
    assert api.get("/baskets/users/stranger/devices").data == {"devices": []}


def test_token_without_a_device_record_is_accepted(app: Api, guest: Any) -> None:
    GuestToken.objects.all().delete()
    assert as_guest(app, guest).get(f"/baskets/users/{guest['userId']}").status == 200


def test_setting_forbids_a_transfer_from_a_transferred_device(api: Api, app: Api, guest: Any, second_device: Any, settings: Any) -> None:
    address = f"/baskets/users/{guest['userId']}/transfer"
    assert as_guest(app, second_device).post(address, {}).status == 200
    settings.BASKETS_TRANSFERRED_GUESTS_MAY_TRANSFER = False
    assert as_guest(app, second_device).post(address, {}).refusal == (403, 403, "transfer_not_allowed")
    assert as_guest(app, guest).post(address, {}).status == 200
    assert api.post(address, {}).status == 200


@pytest.mark.usefixtures("second_device")
def test_devices_of_an_erased_user_are_refused(app: Api, guest: Any) -> None:
    basket = Basket.objects.get(user_id=guest["userId"])
    erasure.erase_user(basket=basket, expected_events=basket.events, reason="requested", actor=TESTER)
    assert GuestToken.objects.filter(revoked_at__isnull=True).count() == 0
    assert as_guest(app, guest).get(f"/baskets/users/{guest['userId']}").refusal == TOKEN_INVALID
