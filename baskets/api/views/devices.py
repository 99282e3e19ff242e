"""The calls with which a partner's back end lists the devices of a guest's basket, and shuts one of them out."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.http import HttpResponse
from rest_framework.request import Request

from baskets.api.protocol.envelope import json_response, success_body
from baskets.api.schema import operations
from baskets.api.serializers.requests import EmptyBody
from baskets.api.views.base import ApiViewSet
from baskets.db.errors import read_with_reconnect
from baskets.domain.baskets import devices
from baskets.domain.errors import DeviceNotFound
from baskets.domain.timestamps import format_timestamp
from baskets.models import GuestToken


class DeviceViewSet(ApiViewSet):
    """The devices that hold a guest's token for one basket."""

    token_required = False
    server_only = True

    @operations.list_devices
    def show(self, request: Request, **_: str) -> HttpResponse:
        """List the devices whose tokens have not expired."""
        self.read()
        return json_response(success_body(render_devices(read_with_reconnect(lambda: devices.list_devices(owner=self.owner)))))

    @operations.revoke_device
    def revoke(self, request: Request, *, device_id: str, **_: str) -> HttpResponse:
        """Revoke the token of one device."""
        self.read(EmptyBody)
        actor = self.actor

        def revoke() -> dict[str, Any]:
            devices.revoke_device(owner=self.owner, device_id=parse_device_id(device_id), actor=actor)
            return render_devices(devices.list_devices(owner=self.owner))

        return self.perform(revoke)


def parse_device_id(text: str) -> UUID:
    """Read the id of a device in the one form in which it is shown.

    :raises DeviceNotFound: it is nothing of the kind.
    """
    try:
        device_id = UUID(text)
    except ValueError:
        raise DeviceNotFound from None
    if str(device_id) != text:
        raise DeviceNotFound
    return device_id


def render_devices(found: Sequence[GuestToken]) -> dict[str, Any]:
    """Show devices as a JSON object."""
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
