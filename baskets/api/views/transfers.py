"""The calls that take a basket to another device: the offer, and the image of it. The other device begins as a guest does: `guests`."""

from typing import Any

from django.http import HttpResponse
from rest_framework.request import Request

from baskets import conf
from baskets.api.exceptions import ApiError, invalid
from baskets.api.protocol.envelope import json_response, success_body
from baskets.api.schema import operations
from baskets.api.serializers.requests import TransferBasketRequest
from baskets.api.serializers.transfer_links import MAX_QR_URL_LENGTH, append_params, decrypt_link, encrypt_link, qr_image, qr_image_base64
from baskets.api.views.base import ApiViewSet
from baskets.db.errors import read_with_reconnect
from baskets.domain import runner
from baskets.domain.baskets import transfers
from baskets.domain.timestamps import format_timestamp


class TransferViewSet(ApiViewSet):
    """One user's basket, offered to another device."""

    # The answer is a secret, so it is stored for no Idempotency-Key.
    takes_idempotency_key = False

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Check who is calling; a device that took the basket over may be kept from passing it on."""
        super().initial(request, *args, **kwargs)
        if self.bearer and self.bearer.transferred and not conf.transferred_guests_may_transfer():
            raise ApiError("transfer_not_allowed")

    @operations.transfer_basket
    def create(self, request: Request, **_: str) -> HttpResponse:
        """Offer the basket to another device, for a minute."""
        url: str | None = self.read(TransferBasketRequest, switch="qr")["url"]
        image = self.switch("qr")
        if image and url is None:
            raise invalid({"url": "Is what an image shows, so it must be there with qr=true."})
        if (
            image
            and url is not None
            and len(append_params(url, source=self.caller.partner, token=transfers.TOKEN_LENGTH * "x")) > MAX_QR_URL_LENGTH
        ):
            raise invalid({"url": f"With qr=true, the address with what is added to it has at most {MAX_QR_URL_LENGTH} characters."})
        actor = self.actor
        offer = runner.run(transfers.offer_transfer, owner=self.owner, actor=actor)
        link = None if url is None else append_params(url, source=self.caller.partner, token=offer.token)
        shown: dict[str, Any] = {
            "expires": format_timestamp(offer.expires_at),
            "jaySource": self.caller.partner,
            "jayToken": offer.token,
            "url": link,
        }
        if image and link is not None:
            name = encrypt_link(url=link, token=offer.token)
            base = conf.public_url() or request.build_absolute_uri("/").rstrip("/")
            shown |= {"qrCodeImageUrl": f"{base}/baskets/transfers/{name}", "qrCodeImageBase64": qr_image_base64(link)}
        return json_response(success_body(shown))


class TransferImageViewSet(ApiViewSet):
    """The image of an offer, for whoever has its address: a browser sends no key for a picture."""

    key_required = False
    answers_json = False

    @operations.get_transfer_image
    def show(self, request: Request, *, image: str) -> HttpResponse:
        """Show the QR image of a transfer while it may still be taken."""
        self.read()
        link = decrypt_link(image)
        if link is None or not read_with_reconnect(lambda: transfers.is_redeemable(link.token)):
            raise ApiError("not_found")
        response = HttpResponse(qr_image(link.url), content_type="image/png")
        response.headers["Cache-Control"] = "no-store"
        return response
