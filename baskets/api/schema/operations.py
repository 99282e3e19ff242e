"""What the schema says of each call. What calls have in common: `schema_parts`; how refusals look: `schema_answers`."""

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter

from baskets.api.exceptions import BASKET_NOT_FOUND_ON_FINISH, ORDER_NOT_FOUND, SERVER_KEY_REQUIRED_ON_FINISH
from baskets.api.lists.filters import (
    BasketFilterSet,
    EventFilterSet,
    IdentifierFilter,
    ListFilterSet,
    ProductIdFilter,
    SessionFilterSet,
    TimestampFilter,
    WordFilter,
)
from baskets.api.lists.pagination import DEFAULT_LIMIT, MAX_LIMIT
from baskets.api.protocol.identifiers import PUBLIC_NAMES
from baskets.api.schema.components import (
    COUNT_EXAMPLES,
    IDENTIFIER,
    PRODUCT_ID,
    TEST_MODE,
    USER_AND_PRODUCT_PATH,
    USER_PATH,
    body_examples,
    describe_operation,
    flag_parameter,
)
from baskets.api.schema.examples import EXAMPLE_ORDER_NO
from baskets.api.serializers import requests, responses

# Which refusals a call can meet is known from the domain function that it calls: the docstring there lists them.

get_basket = describe_operation("getbasket", tag="basket", shape=responses.Basket, path=USER_PATH, writes=False)
delete_basket = describe_operation(
    "deletebasket", tag="basket", shape=responses.Basket, path=USER_PATH, refusals=["basket_not_found", "checkout_active"]
)
place_item = describe_operation(
    "assignproducttobasket",
    tag="items",
    shape=responses.Basket,
    path=USER_AND_PRODUCT_PATH,
    body=requests.PlaceItemRequest,
    body_examples=COUNT_EXAMPLES,
    refusals=["product_unknown", "product_not_in_basket", "cart_full", "saved_full"],
)
change_item = describe_operation(
    "updateproductinbasket",
    tag="items",
    shape=responses.Basket,
    path=USER_AND_PRODUCT_PATH,
    body=requests.ChangeItemRequest,
    body_examples=COUNT_EXAMPLES,
    refusals=["product_not_in_basket", "cart_full", "saved_full"],
)
remove_item = describe_operation(
    "deleteproductfrombasket",
    tag="items",
    shape=responses.Basket,
    path=USER_AND_PRODUCT_PATH,
    refusals=["product_not_in_basket"],
)
start_checkout = describe_operation(
    "checkoutbasket",
    tag="checkout",
    shape=responses.StartedCheckout,
    path=USER_PATH,
    body=requests.StartCheckoutRequest,
    body_examples=body_examples(german={"language": "de", "country": "DE", "stripeUsingSdk": False}),
    query=[TEST_MODE],
    refusals=["cart_empty", "out_of_stock", "checkout_active"],
)
finish_active = describe_operation(
    "finishactivecheckout",
    tag="checkout",
    shape=responses.Basket,
    path=USER_PATH,
    throttled=False,
    body=requests.FinishCheckoutRequest,
    body_examples=body_examples(
        ordered={"ordered": True}, aborted={"ordered": False}, named={"ordered": True, "orderNo": EXAMPLE_ORDER_NO}
    ),
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
    kinds={"basket_not_found": BASKET_NOT_FOUND_ON_FINISH, "server_key_required": SERVER_KEY_REQUIRED_ON_FINISH},
)
get_session = describe_operation(
    "getcheckout",
    tag="checkout",
    shape=responses.Session,
    path=("user_id", "order_no"),
    throttled=False,
    writes=False,
    refusals=["order_unknown"],
    kinds={"order_unknown": ORDER_NOT_FOUND},
)
create_guest = describe_operation(
    "createguestbasket",
    tag="guests",
    shape=responses.Guest,
    repeatable=False,
    body=requests.CreateGuestRequest,
    body_examples=body_examples(empty={}, with_products={"products": [{"productId": "prod-123", "count": 2}, {"productId": "prod-456"}]}),
    query=[
        OpenApiParameter(
            "jayToken",
            OpenApiTypes.STR,
            OpenApiParameter.QUERY,
            description="Of a transfer: gives access to that very basket. No `products` then.",
        )
    ],
    refusals=["product_unknown", "cart_full", "saved_full", "signing_key_unreadable"],
)
transfer_basket = describe_operation(
    "transferbasket",
    tag="guests",
    path=USER_PATH,
    shape=responses.Transfer,
    repeatable=False,
    body=requests.TransferBasketRequest,
    body_examples=body_examples(empty={}, with_address={"url": "https://shop.example.com/?lang=de"}),
    query=[flag_parameter("qr", "Whether an image of the address is made, for the other device to look at.")],
    refusals=["basket_not_found", "transfer_not_allowed"],
)
list_devices = describe_operation("listdevices", tag="back end", path=USER_PATH, shape=responses.Devices, writes=False, for_back_ends=True)
revoke_device = describe_operation(
    "revokedevice",
    tag="back end",
    path=("user_id", "device_id"),
    shape=responses.Devices,
    for_back_ends=True,
    refusals=["basket_not_found", "device_unknown"],
)
get_transfer_image = describe_operation(
    "gettransferimage",
    tag="guests",
    shape=None,
    path=("image",),
    keyed=False,
    writes=False,
    throttled=False,
)
get_comfort = describe_operation(
    "getcomfortbasketsettings",
    tag="comfort",
    path=USER_PATH,
    shape=responses.Comfort,
    writes=False,
    refusals=["guest_not_allowed"],
)
change_comfort = describe_operation(
    "updatecomfortbasketsettings",
    tag="comfort",
    path=USER_PATH,
    shape=responses.Basket,
    body=requests.ChangeComfortRequest,
    body_examples=body_examples(
        store={"customerId": "cust-4711", "consent": True}, delete_one={"paymentToken": None}, delete_all={"consent": False}
    ),
    refusals=["guest_not_allowed", "consent_missing"],
)
get_keys = describe_operation(
    "getguestkeys",
    tag="guests",
    shape=responses.KeySet,
    keyed=False,
    writes=False,
    throttled=False,
    enveloped=False,
)
product_details = describe_operation(
    "getproductinformation",
    tag="products",
    shape=responses.Products,
    writes=False,
    body={
        "application/json": {
            "type": "array",
            "maxItems": 100,
            "items": PRODUCT_ID,
            "example": ["prod-123", "prod-000"],
        }
    },
)


def _list_parameters(chosen: type[ListFilterSet]) -> list[OpenApiParameter]:
    """Describe what the query of a list may say, from its filters."""
    described = []
    for name, each in chosen.base_filters.items():
        shape: dict[str, Any] = {"type": "string"}
        match each:
            case WordFilter():
                shape["enum"] = list(each.extra["words"])
            case TimestampFilter():
                shape["format"] = "date-time"
            case IdentifierFilter():
                shape = IDENTIFIER
            case ProductIdFilter():
                shape = PRODUCT_ID
        described.append(OpenApiParameter(name, shape, OpenApiParameter.QUERY, description=str(each.label)))
    limit = {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT}
    return [
        *described,
        OpenApiParameter("limit", limit, OpenApiParameter.QUERY, description="How many at most."),
        OpenApiParameter(
            "nextToken", OpenApiTypes.STR, OpenApiParameter.QUERY, description="Of the last answer, with the same filters: reads on there."
        ),
    ]


list_baskets = describe_operation(
    "listbaskets",
    tag="back end",
    shape=responses.ListedBasket,
    pages="some",
    writes=False,
    for_back_ends=True,
    query=_list_parameters(BasketFilterSet),
)
list_sessions = describe_operation(
    "listcheckouts",
    tag="back end",
    shape=responses.ListedSession,
    pages="some",
    writes=False,
    for_back_ends=True,
    query=_list_parameters(SessionFilterSet),
)
read_events = describe_operation(
    "readevents",
    tag="back end",
    shape=responses.Event,
    pages="for ever",
    writes=False,
    for_back_ends=True,
    query=_list_parameters(EventFilterSet),
    refusals=["events_purged", "events_rewound"],
)


def exclude_v2_paths(endpoints: list[tuple[str, str, str, Any]]) -> list[tuple[str, str, str, Any]]:
    """Describe each call once: the addresses under `/v2` are the same calls, and the schema names them as a server."""
    return [endpoint for endpoint in endpoints if not endpoint[0].startswith("/v2/")]


def finish_schema(result: Any, **_: Any) -> Any:
    """Finish the schema: a summary for each call, the reference's names in the path, and bare arrays that are never absent."""
    paths = {}
    for path, operations in result["paths"].items():
        for operation in operations.values():
            operation["summary"] = operation["description"].partition("\n")[0].rstrip(".")
            for parameter in operation["parameters"]:
                parameter["name"] = PUBLIC_NAMES.get(parameter["name"], parameter["name"])
            body = operation.get("requestBody")
            if body and body["content"]["application/json"]["schema"].get("type") == "array":
                body["required"] = True
        for name, shown in PUBLIC_NAMES.items():
            path = path.replace(f"{{{name}}}", f"{{{shown}}}")  # noqa: PLW2901 (the path is being renamed)
        paths[path] = operations
    result["paths"] = paths
    return result
