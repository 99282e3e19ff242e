"""Describes the operations on baskets, checkouts, guests and products for the schema.

The shared parts are in `components`, the examples in `examples`; `reporting_operations` and `webhook_operations` have the rest.

The refusals of an operation are those of the domain function that it calls: the docstring there lists them.
"""

from functools import partial

from baskets import conf
from baskets.api.exceptions import BASKET_NOT_FOUND_ON_FINISH, ORDER_NOT_FOUND, SERVER_KEY_REQUIRED_ON_FINISH
from baskets.api.schema.components import (
    COUNT_EXAMPLES,
    PRODUCT_ID,
    USER_AND_PRODUCT_PATH,
    USER_PATH,
    Access,
    body_examples,
    describe_operation,
    flag_parameter,
    link_to,
    query_parameter,
)
from baskets.api.schema.examples import BUYER, LEAVER
from baskets.api.serializers import requests, responses
from baskets.domain.maintenance.demo_data import ORDER_NO

LATER_CALLS = {
    "finish": link_to("finishactivecheckout", "Report whether the customer paid.", userId="$request.path.userId"),
    "look_up": link_to("getcheckout", "Find out what became of it.", userId="$request.path.userId", orderNo="$response.body#/data/orderNo"),
}

describe_user_operation = partial(describe_operation, access=Access.USER, path=USER_PATH)
describe_item_operation = partial(
    describe_operation, tag="items", access=Access.USER, path=USER_AND_PRODUCT_PATH, response=responses.Basket
)

get_basket = describe_user_operation(
    "getbasket",
    "Get a basket",
    """
Returns the three lists of the user: `cart`, `saved` and `checkout`. A user without a basket gets empty lists without `expires` and
`lastChanged`; nothing is created. A deleted or expired basket looks the same.
""",
    tag="basket",
    response=responses.Basket,
    writes=False,
    user_id=BUYER,
)
delete_basket = describe_user_operation(
    "deletebasket",
    "Delete a basket",
    """
Empties cart and saved list and returns the empty basket. Orders and events remain. While a checkout is active, nothing is deleted: the
refusal names the checkout, to finish or to abort first. The next product that is added opens a new basket.
""",
    tag="basket",
    response=responses.Basket,
    refusals=["basket_not_found", "checkout_active"],
    user_id=LEAVER,
)
place_item = describe_item_operation(
    "assignproducttobasket",
    "Put a product into the cart or the saved list",
    """
Sets the count of the product; it never adds to it, so a repeat is harmless. Above 0 puts the product into the cart and takes it out of
the saved list, 0 does the opposite, -1 removes it from both. Without a body, the count is 1. Stock is not checked here but at the start
of a checkout. The first product creates the basket.
""",
    body=requests.PlaceItemRequest,
    body_examples=COUNT_EXAMPLES,
    refusals=["product_unknown", "product_not_in_basket", "cart_full", "saved_full"],
    product_id="demo-mug",
)
change_item = describe_item_operation(
    "updateproductinbasket",
    "Change the count of a product",
    """
Does the same as POST, but only for a product that is in the cart or the saved list. A count that is null or absent changes nothing.
A product that is no longer listed can still be changed and removed.
""",
    body=requests.ChangeItemRequest,
    body_examples=COUNT_EXAMPLES,
    refusals=["product_not_in_basket", "cart_full", "saved_full"],
    product_id="demo-cookbook",
)
remove_item = describe_item_operation(
    "deleteproductfrombasket",
    "Remove a product",
    """
Removes the product from the cart and the saved list, never from a checkout: abort the checkout for that. A second call gets
`product_not_in_basket`, unless it repeats the Idempotency-Key of the first.
""",
    refusals=["product_not_in_basket"],
    product_id="demo-scarf",
)
start_checkout = describe_user_operation(
    "checkoutbasket",
    "Start a checkout of the whole cart",
    """
Moves the cart into the checkout list and holds the stock, 30 minutes unless the operator has set another time. Of each limited product
all pieces are held, or none: then `stocked` is negative, and the item is not part of what is bought. If nothing can be bought, the call
is refused with `out_of_stock` and changes nothing. Store `orderNo`: it names this checkout in all later calls.
""",
    tag="checkout",
    response=responses.StartedCheckout,
    body=requests.StartCheckoutRequest,
    body_examples=body_examples(german={"language": "de", "country": "DE", "stripeUsingSdk": False}),
    query=[flag_parameter("testMode", "A checkout for trying things out: it holds and sells nothing.")],
    refusals=["cart_empty", "out_of_stock", "checkout_active"],
    links=LATER_CALLS,
)
finish_active = describe_user_operation(
    "finishactivecheckout",
    "Finish the active checkout: ordered, or aborted",
    """
`{"ordered": true}`: held pieces become sold, and items without stock return to the cart. `{"ordered": false}`: the hold ends, and every
item returns to the cart. Repeats change nothing. Name the checkout by `orderNo`, so that a late repeat can never hit the next one; with
it, a payment may also be reported after an abort or after the end of the hold, within 24 hours unless the operator has set another time.
This call is never throttled.
""",
    tag="checkout",
    response=responses.Basket,
    throttled=False,
    body=requests.FinishCheckoutRequest,
    body_examples=body_examples(ordered={"ordered": True}, aborted={"ordered": False}, named={"ordered": True, "orderNo": ORDER_NO}),
    refusals=[
        "basket_not_found",
        "no_active_checkout",
        "checkout_already_ordered",
        "checkout_aborted",
        "checkout_expired",
        "order_unknown",
        "out_of_stock",
        "server_key_required",
    ],
    overrides={"basket_not_found": BASKET_NOT_FOUND_ON_FINISH, "server_key_required": SERVER_KEY_REQUIRED_ON_FINISH},
    user_id=BUYER,
)
get_session = describe_user_operation(
    "getcheckout",
    "Look up a checkout",
    """
Tells an app that lost a response what became of a checkout: its status, and of each item how many pieces were held, sold, released,
short or reversed. Orders stay readable after their basket was deleted. This call is never throttled.
""",
    tag="checkout",
    response=responses.Session,
    path=("user_id", "order_no"),
    throttled=False,
    writes=False,
    refusals=["order_unknown"],
    overrides={"order_unknown": ORDER_NOT_FOUND},
    user_id=BUYER,
)
create_guest = describe_operation(
    "createguestbasket",
    "Create a guest, or take over a transferred basket",
    """
Creates a user whom the platform does not know: a user id, a basket, and a bearer token for every call on it. The basket may begin with
`products`: all of them, or nothing is done. With the `jayToken` of a transfer, the caller gets access to that basket instead. The
response is a secret and is stored for no Idempotency-Key: after a lost response, create another guest. A guest's basket expires 30 days
after its creation, unless the operator has set another time.
""",
    tag="guests",
    access=Access.KEY,
    response=responses.Guest,
    takes_idempotency_key=False,
    body=requests.CreateGuestRequest,
    body_examples=body_examples(
        empty={}, with_products={"products": [{"productId": "demo-mug", "count": 2}, {"productId": "demo-soundtrack"}]}
    ),
    query=[query_parameter("jayToken", "The token of a transfer: gives access to that very basket. Then `products` must be absent.")],
    refusals=["product_unknown", "cart_full", "saved_full", "wrong_cell", "signing_key_unreadable"],
    links={"basket": link_to("getbasket", "Show the basket of the guest.", userId="$response.body#/data/userId")},
)
transfer_basket = describe_user_operation(
    "transferbasket",
    "Offer a basket to another device",
    """
Returns a token that gives another device access to this basket: once, and within a minute. The other device sends it to the call for
guests. With a `url`, the response has the address that carries the token; with `qr=true` also an image of that address, which makes
`url` mandatory. An earlier offer of the same basket ends. The response is a secret and is stored for no Idempotency-Key.
""",
    tag="guests",
    response=responses.Transfer,
    takes_idempotency_key=False,
    body=requests.TransferBasketRequest,
    body_examples=body_examples(empty={}, with_address={"url": "https://shop.example.com/?lang=de"}),
    query=[
        flag_parameter("qr", "Whether to make an image of the address for the camera of the other device. `true` needs `url` in the body.")
    ],
    refusals=["basket_not_found", "transfer_not_allowed"],
    links={"redeem": link_to("createguestbasket", "On the other device: take the basket over.", jayToken="$response.body#/data/jayToken")},
)
list_devices = describe_operation(
    "listdevices",
    "List the devices of a guest's basket",
    """
Lists the devices that hold an unexpired token of a guest for this basket, the newest first; at most 200. Users whom the platform knows
have none. For back ends.
""",
    tag="back end",
    access=Access.SERVER_KEY,
    path=USER_PATH,
    response=responses.DeviceList,
    writes=False,
    links={
        "revoke": link_to(
            "revokedevice", "Revoke the newest device.", userId="$request.path.userId", deviceId="$response.body#/data/devices/0/deviceId"
        )
    },
)
revoke_device = describe_operation(
    "revokedevice",
    "Revoke the token of one device",
    """
From its next call on, the token of this device is refused; the other devices of the basket keep theirs. Revoking a device again changes
nothing. For back ends.
""",
    tag="back end",
    access=Access.SERVER_KEY,
    path=("user_id", "device_id"),
    response=responses.DeviceList,
    refusals=["basket_not_found", "device_unknown"],
)
get_transfer_image = describe_operation(
    "gettransferimage",
    "Show the QR image of a transfer",
    """
The image that `qrCodeImageUrl` names, for as long as the transfer may be redeemed. The address is the secret, because browsers send no
key for an image: this call needs none.
""",
    tag="guests",
    access=Access.NONE,
    response=None,
    path=("image",),
    writes=False,
    throttled=False,
)
get_comfort = describe_operation(
    "getcomfortbasketsettings",
    "Get the comfort settings of a user",
    """
Returns what is stored for one-click purchases. Every key, a server key too, needs the bearer token of the user, from an issuer of the
partner; guests have no comfort settings.
""",
    tag="comfort",
    access=Access.KNOWN_USER,
    path=USER_PATH,
    response=responses.Comfort,
    writes=False,
    refusals=["guest_not_allowed"],
)
change_comfort = describe_operation(
    "updatecomfortbasketsettings",
    "Change the comfort settings of a user",
    """
Stores a customer id and a payment token, encrypted, while the user consents. A field that is null is deleted, an absent one stays;
`"consent": false` deletes everything. Returns the basket. Every key, a server key too, needs the bearer token of the user, from an
issuer of the partner.
""",
    tag="comfort",
    access=Access.KNOWN_USER,
    path=USER_PATH,
    response=responses.Basket,
    body=requests.ChangeComfortRequest,
    body_examples=body_examples(
        store={"customerId": "cust-4711", "consent": True}, delete_one={"paymentToken": None}, delete_all={"consent": False}
    ),
    refusals=["guest_not_allowed", "consent_missing"],
)
get_keys = describe_operation(
    "getguestkeys",
    "Get the public keys of guests' tokens",
    """
The keys that verify the tokens of guests, as a JSON Web Key Set (RFC 7517) without the envelope: this is what JWT libraries read.
Cache it, and read it again when a token names an unknown `kid`. Needs no key.
""",
    tag="guests",
    access=Access.NONE,
    response=responses.KeySet,
    writes=False,
    throttled=False,
    has_envelope=False,
)
product_details = describe_operation(
    "getproductinformation",
    "Get products, with the stock that is available now",
    f"""
The body is a bare array of up to {conf.details_limit()} product ids. Products come in the order of the request, each once; `unknown`
lists the ids that name no listed product. Stock is shared by all partners: `currentStockCount` may be outdated when it arrives, and only
the start of a checkout reserves pieces. Where an operator limits the pieces of one checkout, or the share of one partner, a start
may find fewer: `out_of_stock` then has what was `available` to you.
""",
    tag="products",
    access=Access.KEY,
    response=responses.ProductDetails,
    writes=False,
    requires_body=True,
    body={
        "application/json": {
            "type": "array",
            "maxItems": conf.details_limit(),
            "items": PRODUCT_ID,
            "examples": [["demo-raincoat-m", "demo-poster"]],
        }
    },
)
