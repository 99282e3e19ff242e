"""The calls that offer a basket to another device: the offer, and its QR image. `guests` redeems the offer."""

from functools import partial
from typing import Any
from urllib.parse import urlsplit

from django.http import HttpResponse
from rest_framework.request import Request

from baskets import conf
from baskets.api.auth.permissions import BearerTokenOfClientKeys, TransferAllowed
from baskets.api.exceptions import ApiError, invalid
from baskets.api.schema import operations
from baskets.api.serializers.requests import TransferBasketRequest
from baskets.api.serializers.transfer_links import MAX_QR_URL_LENGTH, append_params, decrypt_link, encrypt_link, qr_image, qr_image_base64
from baskets.api.views.base import ApiViewSet
from baskets.domain import slots
from baskets.domain.baskets import transfers
from baskets.domain.timestamps import format_timestamp


class TransferViewSet(ApiViewSet):
    """One user's basket, offered to another device."""

    # The response is a secret.
    takes_idempotency_key = False

    permission_classes = (BearerTokenOfClientKeys, TransferAllowed)

    @operations.transfer_basket
    def create(self, request: Request, **_: str) -> HttpResponse:
        """Offer the basket to another device, for a minute."""
        url: str | None = self.validated(TransferBasketRequest, flag="qr")["url"]
        qr = self.query_flag("qr")
        if qr:
            self._check_qr_url(url)
        offer = self.execute(transfers.offer_transfer, render=partial(self._render_offer, url=url, qr=qr))
        return self.respond(offer)

    def _check_qr_url(self, url: str | None) -> None:
        if url is None:
            raise invalid({"url": "Is what an image shows, so it must be there with qr=true."})
        if len(append_params(url, source=self.caller.partner, token=transfers.TOKEN_LENGTH * "x")) > MAX_QR_URL_LENGTH:
            raise invalid({"url": f"With qr=true, the address with what is added to it has at most {MAX_QR_URL_LENGTH} characters."})

    def _render_offer(self, offer: transfers.TransferOffer, *, url: str | None, qr: bool) -> dict[str, Any]:
        link = None if url is None else append_params(url, source=self.caller.partner, token=offer.token)
        data: dict[str, Any] = {
            "expires": format_timestamp(offer.expires_at),
            "jaySource": self.caller.partner,
            "jayToken": offer.token,
            "url": link,
        }
        if qr and link is not None:
            name = encrypt_link(url=link, token=offer.token, partner_id=self.caller.partner_id)
            data |= {"qrCodeImageUrl": f"{self._base_url()}/baskets/transfers/{name}", "qrCodeImageBase64": qr_image_base64(link)}
        return data

    def _base_url(self) -> str:
        """The beginning of the address of an image. Of a partner that is served apart it has the host of the call, which leads there."""
        public, called = conf.public_url(), self.request.build_absolute_uri("/").rstrip("/")
        if public and slots.is_served_apart(self.caller.partner_id):
            return f"{urlsplit(public).scheme}://{urlsplit(called).netloc}"
        return public or called


class TransferImageViewSet(ApiViewSet):
    """The image of an offer. Its address is the secret, because a browser sends no key for a picture."""

    authentication_classes = ()
    permission_classes = ()
    answers_json = False

    @operations.get_transfer_image
    def show(self, request: Request, *, image: str) -> HttpResponse:
        """Show the QR image of a transfer while it can be redeemed.

        :raises ApiError: `not_found`: the name is not one of ours, or the transfer is over.
        """
        self.validated()
        link = decrypt_link(image)
        if link is None or not self.read(transfers.is_redeemable, link.token):
            raise ApiError("not_found")
        response = HttpResponse(qr_image(link.url), content_type="image/png")
        response.headers["Cache-Control"] = "no-store"
        return response
