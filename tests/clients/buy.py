"""Buys with the client that openapi-python-client makes from the served document. `.ci/clients.py` runs it against the demo."""

import os
import uuid

from basket_client import AuthenticatedClient
from basket_client.api.back_end import listbaskets, listcheckouts, listdevices, readevents, revokedevice
from basket_client.api.basket import deletebasket, getbasket
from basket_client.api.checkout import checkoutbasket, finishactivecheckout, getcheckout
from basket_client.api.guests import createguestbasket, getguestkeys, transferbasket
from basket_client.api.items import assignproducttobasket, deleteproductfrombasket, updateproductinbasket
from basket_client.api.products import getproductinformation
from basket_client.api.webhooks import createwebhook, deletewebhook, listdeliveries, rotatewebhooksecret, testwebhook, updatewebhook
from basket_client.models import (
    BasketResponse,
    ChangeItemRequest,
    ChangeWebhookRequest,
    CheckoutOrderedEvent,
    CreateGuestRequest,
    CreateWebhookRequest,
    DeliveryListResponse,
    DeviceListResponse,
    Error,
    ErrorReason,
    EventKind,
    EventPage,
    FinishCheckoutRequest,
    GuestProductRequest,
    GuestResponse,
    KeySet,
    ListedBasketPage,
    ListedSessionPage,
    PlaceItemRequest,
    ProductDetailsResponse,
    RotateSecretRequest,
    SessionResponse,
    SessionStatus,
    StartCheckoutRequest,
    StartedCheckoutResponse,
    TransferBasketRequest,
    TransferResponse,
    WebhookListResponse,
    WebhookResponse,
    WebhookWithSecretResponse,
)

client = AuthenticatedClient(os.environ["BASKETS_URL"], token=os.environ["BASKETS_KEY"], prefix="", auth_header_name="X-API-Key")
user = f"python-{uuid.uuid4()}"

found = getproductinformation.sync(client=client, body=["demo-voucher", "unknown"])
assert isinstance(found, ProductDetailsResponse)
assert (found.data.products[0].price, found.data.unknown) == (2500, ["unknown"])

basket = getbasket.sync(user, client=client)
assert isinstance(basket, BasketResponse)
assert basket.data.cart == []
basket = assignproducttobasket.sync(user, "demo-voucher", client=client, body=PlaceItemRequest(count=2), idempotency_key=str(uuid.uuid4()))
assert isinstance(basket, BasketResponse)
assert assignproducttobasket.sync(user, "demo-soundtrack", client=client) is not None
assert isinstance(updateproductinbasket.sync(user, "demo-voucher", client=client, body=ChangeItemRequest(count=3)), BasketResponse)
assert isinstance(deleteproductfrombasket.sync(user, "demo-soundtrack", client=client), BasketResponse)

refused = assignproducttobasket.sync(user, "unknown", client=client)
assert isinstance(refused, Error)
assert refused.error.details.reason == ErrorReason.PRODUCT_UNKNOWN

started = checkoutbasket.sync(user, client=client, body=StartCheckoutRequest(language="de"))
assert isinstance(started, StartedCheckoutResponse)
assert (started.data.full_price, started.data.basket.checkout[0].count) == (7500, 3)
refused = deletebasket.sync(user, client=client)
assert isinstance(refused, Error)
assert refused.error.details.active_checkout
assert refused.error.details.active_checkout.order_no == started.data.order_no
report = FinishCheckoutRequest(ordered=True, order_no=started.data.order_no)
assert isinstance(finishactivecheckout.sync(user, client=client, body=report), BasketResponse)
session = getcheckout.sync(user, started.data.order_no, client=client)
assert isinstance(session, SessionResponse)
assert (session.data.status, session.data.items[0].ordered) == (SessionStatus.ORDERED, 3)

baskets = listbaskets.sync(client=client, user_id=user)
assert isinstance(baskets, ListedBasketPage)
assert [row.user_id for row in baskets.data] == [user]
checkouts = listcheckouts.sync(client=client, user_id=user, status=SessionStatus.ORDERED)
assert isinstance(checkouts, ListedSessionPage)
assert checkouts.data[0].order_no == started.data.order_no
events = readevents.sync(client=client, user_id=user)
assert isinstance(events, EventPage)
ordered = [event for event in events.data if isinstance(event, CheckoutOrderedEvent)]
assert [item.product_id for item in ordered[0].data.items] == ["demo-voucher"]

guest = createguestbasket.sync(client=client, body=CreateGuestRequest(products=[GuestProductRequest(product_id="demo-voucher")]))
assert isinstance(guest, GuestResponse)
offer = transferbasket.sync(guest.data.user_id, client=client, body=TransferBasketRequest(url="https://shop.example.com/"))
assert isinstance(offer, TransferResponse)
taken = createguestbasket.sync(client=client, jay_token=offer.data.jay_token)
assert isinstance(taken, GuestResponse)
assert taken.data.user_id == guest.data.user_id
devices = listdevices.sync(guest.data.user_id, client=client)
assert isinstance(devices, DeviceListResponse)
assert [device.transferred for device in devices.data.devices] == [True, False]
devices = revokedevice.sync(guest.data.user_id, devices.data.devices[0].device_id, client=client)
assert isinstance(devices, DeviceListResponse)
assert devices.data.devices[0].revoked_at
assert isinstance(getguestkeys.sync(client=client), KeySet)
orders = CreateWebhookRequest(url="https://shop.example.com/hook", kinds=[EventKind.CHECKOUT_ORDERED])
created = createwebhook.sync(client=client, body=orders)
assert isinstance(created, WebhookWithSecretResponse)
webhook = created.data.webhook_id
rotated = rotatewebhooksecret.sync(webhook, client=client, body=RotateSecretRequest(overlap_seconds=60))
assert isinstance(rotated, WebhookWithSecretResponse)
assert rotated.data.secret != created.data.secret
assert isinstance(testwebhook.sync(webhook, client=client), WebhookResponse)
paused = updatewebhook.sync(webhook, client=client, body=ChangeWebhookRequest(active=False))
assert isinstance(paused, WebhookResponse)
assert isinstance(listdeliveries.sync(webhook, client=client), DeliveryListResponse)
left = deletewebhook.sync(webhook, client=client)
assert isinstance(left, WebhookListResponse)
assert left.data.webhooks == []
assert isinstance(deletebasket.sync(guest.data.user_id, client=client), BasketResponse)
print("The generated Python client has bought, read the lists and transferred a guest.")
