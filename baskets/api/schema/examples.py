"""Examples of responses for the schema, and the refusals of an operation by status, made from `exceptions.TABLE`."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from drf_spectacular.utils import OpenApiExample, OpenApiResponse

from baskets.api.exceptions import LIST_ERRORS, MESSAGES, STATE_REFUSALS, TABLE
from baskets.api.serializers import responses

EXAMPLE_BASKET = {
    "expires": "2025-07-04T12:34:56Z",
    "lastChanged": "2025-06-04T12:34:56Z",
    "cart": [{"productId": "prod-123", "count": 2}, {"productId": "prod-456", "count": 1}],
    "saved": [{"productId": "prod-789", "count": 1}],
    "checkout": [],
}
EXAMPLE_CHECKOUT = EXAMPLE_BASKET | {
    "cart": [],
    "checkout": [
        {"productId": "prod-123", "count": 2, "stocked": 2},
        {"productId": "prod-456", "count": 1, "stocked": None},
    ],
}
EXAMPLE_ORDER_NO = "7K3M-9QXT-2WBD-H4VA"
RESPONSE_EXAMPLES: dict[type, Any] = {
    responses.Basket: EXAMPLE_BASKET,
    responses.StartedCheckout: {
        "orderNo": EXAMPLE_ORDER_NO,
        "expires": "2025-06-04T13:04:56Z",
        "currency": "EUR",
        "fullPrice": 4997,
        "fullTax": None,
        "shippingCost": None,
        "testMode": False,
        "basket": EXAMPLE_CHECKOUT,
    },
    responses.Session: {
        "orderNo": EXAMPLE_ORDER_NO,
        "status": "ORDERED",
        "startedAt": "2025-06-04T12:34:56Z",
        "expires": "2025-06-04T13:04:56Z",
        "finishedAt": "2025-06-04T12:40:00Z",
        "reversedAt": None,
        "late": False,
        "testMode": False,
        "items": [
            {
                "productId": "prod-123", "count": 2, "stocked": 2, "held": 2,
                "sold": 2, "released": 0, "short": 0, "ordered": 2, "reversed": 0,
            }
        ],
    },
    responses.Guest: {
        "userId": "guest-5f0c2a9be1d34c7788a1f6d2c3b4a596",
        "jwt": "eyJhbGciOiJFUzI1NiIsImtpZCI6Ijh2Q2pRM2dLWmJfNTV0MnEiLCJ0eXAiOiJKV1QifQ.eyJpc3MiOiJ1cm46YmFza2V0czpndWVzdHMiLCJhdWQi"
        "OiJ1cm46YmFza2V0czpwYXJ0bmVyOjEiLCJzdWIiOiJndWVzdC01ZjBjMmE5YmUxZDM0Yzc3ODhhMWY2ZDJjM2I0YTU5NiJ9.c2lnbmF0dXJl",
        "expires": "2025-07-04T12:34:56Z",
        "basket": EXAMPLE_BASKET | {"saved": []},
    },
    responses.Transfer: {
        "expires": "2025-06-04T12:35:56Z",
        "jaySource": "Example TV",
        "jayToken": "Xk3vQ0b9mW5sT2yJ7cR8eL1uF6hN4pZaVdGgKoMiBtE",
        "url": "https://shop.example.com/?lang=de&jaySource=Example+TV&jayToken=Xk3vQ0b9mW5sT2yJ7cR8eL1uF6hN4pZaVdGgKoMiBtE",
    },
    responses.Devices: {
        "devices": [
            {
                "deviceId": "0b1d1a52-2f0c-4c0e-9d55-6a3f6a1d2c77", "transferred": True,
                "createdAt": "2025-06-04T12:34:56Z", "expires": "2025-07-04T12:34:56Z", "revokedAt": None,
            }
        ]
    },
    responses.Comfort: {"customerId": "cust-4711", "paymentToken": None, "consentedAt": "2025-06-04T12:34:56Z"},
    responses.KeySet: {
        "keys": [
            {
                "kty": "EC", "crv": "P-256", "kid": "8vCjQ3gKZb_55t2q", "use": "sig", "alg": "ES256",
                "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
            }
        ],
    },
    responses.Products: {
        "products": [
            {
                "productId": "prod-123", "name": "Shirt", "brand": "Jay", "variant": "M",
                "mainProductIdentifier": "prod-12", "price": 1999, "currency": "EUR",
                "currentStockCount": 7, "outOfStock": False,
            }
        ],
        "unknown": ["prod-000"],
    },
}  # fmt: skip
RESPONSE_EXAMPLES[responses.ListedBasket] = {"userId": "user-1"} | EXAMPLE_BASKET
RESPONSE_EXAMPLES[responses.ListedSession] = RESPONSE_EXAMPLES[responses.Session] | {
    "userId": "user-1", "currency": "EUR", "fullPrice": 3998, "fullTax": None, "shippingCost": None, "late": True,
    "attention": [{"reason": "checkout_expired", "createdAt": "2025-06-05T13:10:00Z", "settledAt": None, "candidates": None}],
}  # fmt: skip
RESPONSE_EXAMPLES[responses.Event] = {
    "id": "evt-3f0c8a94d5b6417e9a2c71e05d8b6f42", "kind": "checkout_ordered", "at": "2025-06-04T12:40:00Z",
    "userId": "user-1", "orderNo": EXAMPLE_ORDER_NO, "number": 3, "revision": 3,
    "actor": {"kind": "key", "key": "yhdv859n50jj"}, "requestId": "call-17", "tracking": {"provider_id": "netflix"},
    "data": {"orderNo": EXAMPLE_ORDER_NO, "items": [{"productId": "prod-123", "count": 2}], "failed": []},
}  # fmt: skip
EXAMPLE_NEXT_TOKEN = "nV1tq0xkZB7mYw3hE9sCfA2uLr8dPj5o"  # noqa: S105 (an example)
# The members of `error.details` beside `reason`, by reason.
DETAIL_SCHEMAS: dict[str, dict[str, Any]] = {
    "validation_failed": {"fields": {"type": "object", "additionalProperties": {"type": "string"}}},
    "out_of_stock": {
        "items": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["productId", "wanted", "available"],
                "properties": {
                    "productId": {"type": "string"},
                    "wanted": {"type": "integer"},
                    "available": {"type": "integer"},
                },
            },
        }
    },
    "checkout_active": {
        "activeCheckout": {
            "type": "object",
            "required": ["orderNo", "expires"],
            "properties": {"orderNo": {"type": "string"}, "expires": {"type": "string", "format": "date-time"}},
        }
    },
    "no_active_checkout": {
        "lastCheckout": {
            "type": "object",
            "required": ["orderNo", "status", "finishedAt"],
            "properties": {
                "orderNo": {"type": "string"},
                "status": {"type": "string"},
                "finishedAt": {"type": ["string", "null"], "format": "date-time"},
            },
        }
    },
}
EXAMPLE_DETAILS: dict[str, Any] = {
    "validation_failed": {"fields": {"count": "Must be a whole number."}},
    "out_of_stock": {"items": [{"productId": "prod-123", "wanted": 2, "available": 0}]},
    "checkout_active": {"activeCheckout": {"orderNo": EXAMPLE_ORDER_NO, "expires": "2025-06-04T13:04:56Z"}},
    "no_active_checkout": {"lastCheckout": {"orderNo": EXAMPLE_ORDER_NO, "status": "ORDERED", "finishedAt": "2025-06-04T12:40:00Z"}},
}


def refusal_responses(reasons: Sequence[str], overrides: Mapping[str, tuple[int, int]]) -> dict[int, OpenApiResponse]:
    """Describe the refusals of an operation, one response for each status.

    :param overrides: status and code of the reasons that differ from `exceptions.TABLE`.
    :returns: the responses by status.
    """
    by_status: dict[int, dict[str, int]] = defaultdict(dict)
    for reason in dict.fromkeys(reasons):
        status, code = overrides.get(reason, TABLE[reason])
        by_status[status][reason] = code
    return {
        status: OpenApiResponse(
            response=_refusal_schema(status, codes),
            description=" ".join(f"`{reason}`: {MESSAGES[reason]}" for reason in codes),
            examples=[_refusal_example(status, reason, code) for reason, code in codes.items()],
        )
        for status, codes in by_status.items()
    }


def _carries_basket(reason: str, status: int, code: int) -> bool:
    return status in STATE_REFUSALS and code == status and reason not in LIST_ERRORS


def _refusal_schema(status: int, codes: dict[str, int]) -> dict[str, Any]:
    details = {"reason": {"type": "string", "enum": list(codes)}}
    for reason in codes:
        details |= DETAIL_SCHEMAS.get(reason, {})
    schema: dict[str, Any] = {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["code", "message", "details"],
                "properties": {
                    "code": {"type": "integer", "enum": sorted(set(codes.values()))},
                    "message": {"type": "string"},
                    "details": {"type": "object", "required": ["reason"], "properties": details},
                },
            }
        },
    }
    if any(_carries_basket(reason, status, code) for reason, code in codes.items()):
        schema["properties"]["data"] = {"$ref": "#/components/schemas/Basket"}
    return schema


def _refusal_example(status: int, reason: str, code: int) -> OpenApiExample:
    details = {"reason": reason, **EXAMPLE_DETAILS.get(reason, {})}
    value: dict[str, Any] = {"error": {"code": code, "message": MESSAGES[reason], "details": details}}
    if _carries_basket(reason, status, code):
        value["data"] = EXAMPLE_BASKET
    return OpenApiExample(reason, value=value, response_only=True, status_codes=[str(status)])
