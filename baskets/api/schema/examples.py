"""Example values of the schema. Ids are those of the demo, so that every example works there as it stands."""

from typing import Any

from baskets.api.serializers import events, responses, webhooks
from baskets.domain.maintenance.demo_data import LEAVER_ID, ORDER_NO, SHOPPER_ID, USER_ID
from baskets.models import Event

BUYER, SHOPPER, LEAVER = USER_ID, SHOPPER_ID, LEAVER_ID
NEXT_TOKEN = "nV1tq0xkZB7mYw3hE9sCfA2uLr8dPj5o"  # noqa: S105 (an example)
STARTED, ENDED, HOLD_END = "2026-11-24T14:30:00Z", "2026-11-24T14:36:09Z", "2026-11-24T15:00:00Z"
JAY_TOKEN = "Xk3vQ0b9mW5sT2yJ7cR8eL1uF6hN4pZaVdGgKoMiBtE"  # noqa: S105 (an example)
DEVICE_ID = "0b1d1a52-2f0c-4c0e-9d55-6a3f6a1d2c77"

MUGS = {"productId": "demo-mug", "count": 2}
SOUNDTRACK = {"productId": "demo-soundtrack", "count": 1}
FULL_BASKET = {
    "expires": "2026-12-24T14:36:09Z",
    "lastChanged": ENDED,
    "cart": [MUGS, {"productId": "demo-raincoat-m", "count": 1, "variant": "M", "mainProductIdentifier": "demo-raincoat"}],
    "saved": [{"productId": "demo-scarf", "count": 1}],
    "checkout": [],
}
SESSION = {
    "orderNo": ORDER_NO,
    "status": "ORDERED",
    "startedAt": STARTED,
    "expires": HOLD_END,
    "finishedAt": ENDED,
    "reversedAt": None,
    "late": False,
    "testMode": False,
    "items": [
        {**MUGS, "stocked": 2, "held": 2, "sold": 2, "released": 0, "short": 0, "ordered": 2, "reversed": 0},
        {**SOUNDTRACK, "stocked": None, "held": None, "sold": 0, "released": 0, "short": 0, "ordered": 1, "reversed": 0},
    ],
}
PRICES = {"currency": "EUR", "fullPrice": 3979, "fullTax": None, "shippingCost": None}

EVENT_DATA: dict[str, dict[str, Any]] = {
    Event.Kind.GUEST_CREATED: {"cart": [MUGS], "saved": []},
    Event.Kind.ITEM_PLACED: {**MUGS, "list": "cart"},
    Event.Kind.ITEM_REMOVED: {"productId": "demo-mug"},
    Event.Kind.CHECKOUT_STARTED: {
        "orderNo": ORDER_NO, "testMode": False, "items": [{**MUGS, "stocked": 2}, {**SOUNDTRACK, "stocked": None}],
    },
    Event.Kind.CHECKOUT_ORDERED: {"orderNo": ORDER_NO, "items": [MUGS, SOUNDTRACK], "failed": []},
    Event.Kind.CHECKOUT_ABORTED: {"orderNo": ORDER_NO, "items": [MUGS, SOUNDTRACK], "released": {"demo-mug": 2}},
    Event.Kind.CHECKOUT_EXPIRED: {"orderNo": ORDER_NO, "items": [MUGS, SOUNDTRACK], "released": {"demo-mug": 2}},
    Event.Kind.CHECKOUT_ORDERED_LATE: {"orderNo": ORDER_NO, "items": [MUGS, SOUNDTRACK], "short": {"demo-mug": 1}},
    Event.Kind.CHECKOUT_REVERSED: {"orderNo": ORDER_NO, "items": [MUGS, SOUNDTRACK], "returned": {"demo-mug": 2}},
    Event.Kind.ATTENTION_NEEDED: {
        "orderNo": ORDER_NO, "reason": "checkout_aborted", "orderNoReported": False,
        "candidates": [{"orderNo": ORDER_NO, "status": "ABORTED", "finishedAt": ENDED}],
    },
    Event.Kind.ATTENTION_SETTLED: {"orderNo": ORDER_NO, "reasons": ["checkout_aborted"], "cause": "ordered"},
    Event.Kind.BASKET_DELETED: {"cart": [MUGS], "saved": []},
    Event.Kind.BASKET_EXPIRED: {"cart": [MUGS], "saved": []},
    Event.Kind.TRANSFER_OFFERED: {},
    Event.Kind.TRANSFER_REDEEMED: {},
    Event.Kind.DEVICE_REVOKED: {"deviceId": DEVICE_ID},
    Event.Kind.REPAIRED: {"repair": "order_late", "orderNo": ORDER_NO, "acceptShort": True},
}  # fmt: skip


def event_example(kind: str) -> dict[str, Any]:
    """Return an event of a kind, as the feed and a webhook show it."""
    data = EVENT_DATA[kind]
    return {
        "id": "evt-3f0c8a94d5b6417e9a2c71e05d8b6f42",
        "kind": kind,
        "at": ENDED,
        "userId": BUYER,
        "orderNo": data.get("orderNo"),
        "number": 3,
        "revision": 3,
        "actor": {"kind": "staff", "key": None} if kind == Event.Kind.REPAIRED else {"kind": "key", "key": "yhdv859n50jj"},
        "requestId": None if kind == Event.Kind.REPAIRED else "call-17",
        "tracking": {},
        "data": data,
    }


WEBHOOK = {
    "webhookId": "wh-7c1f0f3e5b9a4d02a8c64be1f2093d55",
    "url": "https://shop.example.com/hooks/baskets",
    "kinds": [],
    "label": "",
    "strict": False,
    "state": "active",
    "createdAt": STARTED,
    "deliveredAt": ENDED,
    "failingSince": None,
    "nextTryAt": None,
    "problem": None,
    "previousSecretUntil": None,
}

# Bodies of successes by their serializer; of a list that is read page by page, all rows.
RESPONSES: dict[type, Any] = {
    responses.Basket: FULL_BASKET,
    responses.StartedCheckout: {
        "orderNo": ORDER_NO,
        "expires": HOLD_END,
        **PRICES,
        "testMode": False,
        "basket": {
            "expires": "2026-12-24T14:30:00Z",
            "lastChanged": STARTED,
            "cart": [],
            "saved": [],
            "checkout": [{**MUGS, "stocked": 2}, {**SOUNDTRACK, "stocked": None}],
        },
    },
    responses.Session: SESSION,
    responses.ListedSession: SESSION | {
        "userId": BUYER, **PRICES, "late": True,
        "attention": [{"reason": "checkout_expired", "createdAt": STARTED, "settledAt": ENDED, "candidates": None}],
    },
    responses.ListedBasket: {"userId": SHOPPER} | FULL_BASKET,
    events.Event: [event_example(Event.Kind.ITEM_PLACED), event_example(Event.Kind.CHECKOUT_ORDERED)],
    responses.Guest: {
        "userId": "guest-5f0c2a9be1d34c7788a1f6d2c3b4a596",
        "jwt": "eyJhbGciOiJFUzI1NiIsImtpZCI6Ijh2Q2pRM2dLWmJfNTV0MnEiLCJ0eXAiOiJKV1QifQ.eyJpc3MiOiJ1cm46YmFza2V0czpndWVzdHMiLCJhdWQi"
        "OiJ1cm46YmFza2V0czpwYXJ0bmVyOjEiLCJzdWIiOiJndWVzdC01ZjBjMmE5YmUxZDM0Yzc3ODhhMWY2ZDJjM2I0YTU5NiJ9.c2lnbmF0dXJl",
        "expires": "2026-12-24T14:36:09Z",
        "basket": FULL_BASKET | {"saved": []},
    },
    responses.Transfer: {
        "expires": "2026-11-24T14:37:09Z",
        "jaySource": "demo",
        "jayToken": JAY_TOKEN,
        "url": f"https://shop.example.com/?lang=de&jaySource=demo&jayToken={JAY_TOKEN}",
    },
    responses.DeviceList: {
        "devices": [
            {"deviceId": DEVICE_ID, "transferred": True, "createdAt": STARTED, "expires": "2026-12-24T14:30:00Z", "revokedAt": None}
        ]
    },
    webhooks.Webhook: WEBHOOK,
    webhooks.WebhookList: {"webhooks": [WEBHOOK]},
    webhooks.WebhookWithSecret: WEBHOOK | {"secret": "whsec_Jm9hd0Z1eW5qY2VwUmt0VnM4b0xhRzVxTjJ4VzZiSDA="},
    webhooks.DeliveryList: {
        "deliveries": [
            {
                "eventId": "evt-3f0c8a94d5b6417e9a2c71e05d8b6f42", "kind": "checkout_ordered", "test": False, "acknowledged": False,
                "status": 503, "durationMs": 118, "problem": "It answered with status 503.", "endedAt": ENDED,
            }
        ]
    },
    responses.Comfort: {"customerId": "cust-4711", "paymentToken": None, "consentedAt": STARTED},
    responses.KeySet: {
        "keys": [
            {
                "kty": "EC", "crv": "P-256", "kid": "8vCjQ3gKZb_55t2q", "use": "sig", "alg": "ES256",
                "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
            }
        ],
    },
    responses.ProductDetails: {
        "products": [
            {
                "productId": "demo-raincoat-m", "name": "Yellow raincoat", "brand": "Nordwind", "variant": "M",
                "mainProductIdentifier": "demo-raincoat", "price": 8900, "currency": "EUR", "currentStockCount": 120, "outOfStock": False,
            }
        ],
        "unknown": ["demo-poster"],
    },
}  # fmt: skip
# The members of `error.details` beside `reason`, by reason.
ERROR_DETAILS: dict[str, Any] = {
    "validation_failed": {"fields": {"count": "Must be a whole number."}},
    "out_of_stock": {"items": [{"productId": "demo-jacket", "wanted": 2, "available": 0}]},
    "checkout_active": {"activeCheckout": {"orderNo": ORDER_NO, "expires": HOLD_END}},
    "no_active_checkout": {"lastCheckout": {"orderNo": ORDER_NO, "status": "ORDERED", "finishedAt": ENDED}},
}
