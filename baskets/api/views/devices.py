"""The calls with which a partner's back end lists the devices of a guest's basket, and revokes the token of one."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.http import HttpResponse
from rest_framework.request import Request

from baskets.api.auth.permissions import BearerTokenIfSent, ServerKeyRequired
from baskets.api.schema import operations
from baskets.api.serializers.requests import EmptyBody
from baskets.api.views.base import ApiViewSet
from baskets.domain.actors import Actor
from baskets.domain.baskets import devices
from baskets.domain.errors import DeviceNotFound
from baskets.domain.timestamps import format_timestamp
from baskets.models import GuestToken
from baskets.models.basket_snapshot import Owner


class DeviceViewSet(ApiViewSet):
    """The devices that hold a guest's token for one basket."""

    permission_classes = (BearerTokenIfSent, ServerKeyRequired)

    @operations.list_devices
    def show(self, request: Request, **_: str) -> HttpResponse:
        """List the devices whose tokens have not expired."""
        self.validated()
        found = self.read(devices.list_devices, owner=self.owner)
        return self.respond(render_devices(found))

    @operations.revoke_device
    def revoke(self, request: Request, *, device_id: str, **_: str) -> HttpResponse:
        """Revoke the token of one device."""
        self.validated(EmptyBody)
        found = self.execute(_revoke_device, render=render_devices, device_id=device_id)
        return self.respond(found)


def _revoke_device(*, owner: Owner, actor: Actor, device_id: str) -> Sequence[GuestToken]:
    """Revoke the token of a device, and list the devices that the response shows."""
    devices.revoke_device(owner=owner, device_id=parse_device_id(device_id), actor=actor)
    return devices.list_devices(owner=owner)


def parse_device_id(text: str) -> UUID:
    """Parse the id of a device, in the one form in which the API prints it.

    :raises DeviceNotFound: the text is not such an id.
    """
    try:
        device_id = UUID(text)
    except ValueError:
        raise DeviceNotFound from None
    if str(device_id) != text:
        raise DeviceNotFound
    return device_id


def render_devices(found: Sequence[GuestToken]) -> dict[str, Any]:
    """Return the JSON object of a list of devices.

    :returns: `responses.DeviceList`.
    """
    return {
        "devices": [
            {
                "deviceId": str(device.pk),
                "transferred": device.transferred,
                "createdAt": format_timestamp(device.created_at),
                "expires": format_timestamp(device.expires_at),
                "revokedAt": format_timestamp(device.revoked_at),
            }
            for device in found
        ]
    }
