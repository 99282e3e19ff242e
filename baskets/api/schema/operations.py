"""Describes each operation for the schema. The shared parts are in `components`, the examples in `examples`.

The refusals of an operation are those of the domain function that it calls: the docstring there lists them.
"""

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
    Paging,
    body_examples,
    describe_operation,
    flag_parameter,
)
from baskets.api.schema.examples import EXAMPLE_ORDER_NO
from baskets.api.serializers import requests, responses

get_basket = describe_operation("getbasket", tag="basket", response=responses.Basket, path=USER_PATH, writes=False)
delete_basket = describe_operation(
    "deletebasket", tag="basket", response=responses.Basket, path=USER_PATH, refusals=["basket_not_found", "checkout_active"]
)
place_item = describe_operation(
    "assignproducttobasket",
    tag="items",
    response=responses.Basket,
    path=USER_AND_PRODUCT_PATH,
    body=requests.PlaceItemRequest,
    body_examples=COUNT_EXAMPLES,
    refusals=["product_unknown", "product_not_in_basket", "cart_full", "saved_full"],
)
change_item = describe_operation(
    "updateproductinbasket",
    tag="items",
    response=responses.Basket,
    path=USER_AND_PRODUCT_PATH,
    body=requests.ChangeItemRequest,
    body_examples=COUNT_EXAMPLES,
    refusals=["product_not_in_basket", "cart_full", "saved_full"],
)
remove_item = describe_operation(
    "deleteproductfrombasket",
    tag="items",
    response=responses.Basket,
    path=USER_AND_PRODUCT_PATH,
    refusals=["product_not_in_basket"],
)
start_checkout = describe_operation(
    "checkoutbasket",
    tag="checkout",
    response=responses.StartedCheckout,
    path=USER_PATH,
    body=requests.StartCheckoutRequest,
    body_examples=body_examples(german={"language": "de", "country": "DE", "stripeUsingSdk": False}),
    query=[TEST_MODE],
    refusals=["cart_empty", "out_of_stock", "checkout_active"],
)
finish_active = describe_operation(
    "finishactivecheckout",
    tag="checkout",
    response=responses.Basket,
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
    overrides={"basket_not_found": BASKET_NOT_FOUND_ON_FINISH, "server_key_required": SERVER_KEY_REQUIRED_ON_FINISH},
)
get_session = describe_operation(
    "getcheckout",
    tag="checkout",
    response=responses.Session,
    path=("user_id", "order_no"),
    throttled=False,
    writes=False,
    refusals=["order_unknown"],
    overrides={"order_unknown": ORDER_NOT_FOUND},
)
create_guest = describe_operation(
    "createguestbasket",
    tag="guests",
    response=responses.Guest,
    takes_idempotency_key=False,
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
    response=responses.Transfer,
    takes_idempotency_key=False,
    body=requests.TransferBasketRequest,
    body_examples=body_examples(empty={}, with_address={"url": "https://shop.example.com/?lang=de"}),
    query=[flag_parameter("qr", "Whether an image of the address is made, for the other device to look at.")],
    refusals=["basket_not_found", "transfer_not_allowed"],
)
list_devices = describe_operation(
    "listdevices", tag="back end", path=USER_PATH, response=responses.Devices, writes=False, server_key_only=True
)
revoke_device = describe_operation(
    "revokedevice",
    tag="back end",
    path=("user_id", "device_id"),
    response=responses.Devices,
    server_key_only=True,
    refusals=["basket_not_found", "device_unknown"],
)
get_transfer_image = describe_operation(
    "gettransferimage",
    tag="guests",
    response=None,
    path=("image",),
    needs_key=False,
    writes=False,
    throttled=False,
)
get_comfort = describe_operation(
    "getcomfortbasketsettings",
    tag="comfort",
    path=USER_PATH,
    response=responses.Comfort,
    writes=False,
    refusals=["guest_not_allowed"],
)
change_comfort = describe_operation(
    "updatecomfortbasketsettings",
    tag="comfort",
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
    tag="guests",
    response=responses.KeySet,
    needs_key=False,
    writes=False,
    throttled=False,
    has_envelope=False,
)
product_details = describe_operation(
    "getproductinformation",
    tag="products",
    response=responses.Products,
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


def _list_parameters(filter_set: type[ListFilterSet]) -> list[OpenApiParameter]:
    """Describe the parameters of a list call, in the order of its filters."""
    parameters = []
    for name, list_filter in filter_set.base_filters.items():
        schema: dict[str, Any] = {"type": "string"}
        match list_filter:
            case WordFilter():
                schema["enum"] = list(list_filter.extra["words"])
            case TimestampFilter():
                schema["format"] = "date-time"
            case IdentifierFilter():
                schema = IDENTIFIER
            case ProductIdFilter():
                schema = PRODUCT_ID
        parameters.append(OpenApiParameter(name, schema, OpenApiParameter.QUERY, description=str(list_filter.label)))
    limit = {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT}
    return [
        *parameters,
        OpenApiParameter("limit", limit, OpenApiParameter.QUERY, description="How many at most."),
        OpenApiParameter(
            "nextToken", OpenApiTypes.STR, OpenApiParameter.QUERY, description="Of the last answer, with the same filters: reads on there."
        ),
    ]


list_baskets = describe_operation(
    "listbaskets",
    tag="back end",
    response=responses.ListedBasket,
    paging=Paging.FINITE,
    writes=False,
    server_key_only=True,
    query=_list_parameters(BasketFilterSet),
)
list_sessions = describe_operation(
    "listcheckouts",
    tag="back end",
    response=responses.ListedSession,
    paging=Paging.FINITE,
    writes=False,
    server_key_only=True,
    query=_list_parameters(SessionFilterSet),
)
read_events = describe_operation(
    "readevents",
    tag="back end",
    response=responses.Event,
    paging=Paging.ENDLESS,
    writes=False,
    server_key_only=True,
    query=_list_parameters(EventFilterSet),
    refusals=["events_purged", "events_rewound"],
)


def exclude_v2_paths(endpoints: list[tuple[str, str, str, Any]]) -> list[tuple[str, str, str, Any]]:
    """Keep one path of each call: those under `/v2` are the same calls, and the schema names `/v2` as a server.

    :param endpoints: path, pattern, method and view, as drf-spectacular lists them.
    """
    return [endpoint for endpoint in endpoints if not endpoint[0].startswith("/v2/")]


def finish_schema(result: Any, **_: Any) -> Any:
    """Add summaries, use the published names of ids in paths, and require bodies that are bare arrays."""
    paths = {}
    for path, operations in result["paths"].items():
        for operation in operations.values():
            operation["summary"] = operation["description"].partition("\n")[0].rstrip(".")
            for parameter in operation["parameters"]:
                parameter["name"] = PUBLIC_NAMES.get(parameter["name"], parameter["name"])
            body = operation.get("requestBody")
            if body and body["content"]["application/json"]["schema"].get("type") == "array":
                body["required"] = True
        public_path = path
        for name, public_name in PUBLIC_NAMES.items():
            public_path = public_path.replace(f"{{{name}}}", f"{{{public_name}}}")
        paths[public_path] = operations
    result["paths"] = paths
    return result
