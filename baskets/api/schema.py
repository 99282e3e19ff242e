"""What the schema says of each call: parameters, body, and which answers can come. How they look: `schema_answers`."""

from collections.abc import Callable, Sequence
from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import (
    OpenApiExample,
    OpenApiParameter,
    OpenApiResponse,
    extend_schema,
)

from baskets.api import serializers, shapes
from baskets.api.errors import BASKET_NOT_FOUND_ON_FINISH, ORDER_NOT_FOUND
from baskets.api.filters import BasketFilters, ChosenFilter, EventFilters, IdFilter, ListFilters, MomentFilter, SessionFilters
from baskets.api.identifiers import LONGEST, PATTERN, PUBLISHED
from baskets.api.lists import DEFAULT_LIMIT, LARGEST_LIMIT
from baskets.api.schema_answers import EXAMPLES, NEXT_TOKEN, ORDER_NO, refusals_by_status
from baskets.api.versioning import DEFAULT, KNOWN

# What any call may be told, and what a call with a body may be told besides.
ANY = (
    "bad_request", "not_found", "method_not_allowed", "version_unsupported", "not_acceptable",
    "internal_error", "busy", "database_unavailable",
)  # fmt: skip
KEYED = ("api_key_missing", "api_key_invalid", "token_invalid", "token_expired", "validation_failed")
OF_A_USER = ("token_missing", "token_user_mismatch")
WITH_BODY = ("body_too_large", "unsupported_media_type")
WITH_KEY = ("idempotency_key_reused",)
LIMITED = ("throttled",)


class ApiKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # drf-spectacular has no types here
    """How the schema names the ways to say who is calling."""

    target_class = "baskets.api.authentication.ApiKeyAuthentication"
    name = ["ApiKey", "Bearer"]

    def get_security_definition(self, auto_schema: Any) -> list[dict[str, Any]]:
        """Describe the key and the token."""
        del auto_schema
        return [
            {
                "type": "apiKey",
                "in": "header",
                "name": "X-API-Key",
                "description": "The key of a partner. A client key ships inside apps and comes with the user's token.",
            },
            {
                "type": "http",
                "scheme": "bearer",
                "bearerFormat": "JWT",
                "description": "The user's own token, or the `jwt` of a guest; its `sub` is the `userId` of the path.",
            },
        ]

    def get_security_requirement(self, auto_schema: Any) -> list[dict[str, list[Any]]]:
        """Say what is needed: the key alone, or both."""
        del auto_schema
        return [{"ApiKey": []}, {"ApiKey": [], "Bearer": []}]


def _header(name: str, text: str, **more: Any) -> OpenApiParameter:
    return OpenApiParameter(name, more.pop("type", OpenApiTypes.STR), OpenApiParameter.HEADER, description=text, **more)


VERSION = _header(
    "x-jay-api-version",
    f"The version of the API to use. Defaults to {DEFAULT}. `X-API-Version` is read as well; this one wins.",
    enum=sorted(KNOWN),
    default=DEFAULT,
)
REQUEST_ID = _header("X-Request-ID", "Names the call in logs; sent back. One is made up if it is missing.")
TRACKING = [
    _header("X-JAY-Tracking", "Base64 of JSON with `session_id`, `start_time` and `source`. Never fails a call."),
    OpenApiParameter(
        "provider_id",
        OpenApiTypes.STR,
        OpenApiParameter.QUERY,
        description="The provider, where the tracking header is missing or names none.",
        examples=[OpenApiExample("provider", value="netflix")],
    ),
]
IDEMPOTENCY_KEY = _header(
    "Idempotency-Key",
    "A repeat with the same key is answered with the first answer, for 24 hours, and is not done again.",
    type={"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
)


def _switch(name: str, text: str) -> OpenApiParameter:
    shape = {"type": "string", "enum": ["true", "false"], "default": "false"}
    return OpenApiParameter(name, shape, OpenApiParameter.QUERY, description=text)


TEST_MODE = _switch("testMode", "A checkout for trying things out: it holds and sells nothing.")


IDENTIFIER = {"type": "string", "minLength": 1, "maxLength": LONGEST, "pattern": PATTERN}


def _path(name: str, text: str) -> OpenApiParameter:
    return OpenApiParameter(name, IDENTIFIER, OpenApiParameter.PATH, description=text)


IN_PATH = {
    "user_id": _path("user_id", "The platform specific user identifier representing a user."),
    "product_id": _path("product_id", "The product identifier."),
    "order_no": _path("order_no", "The order number that the start of the checkout returned."),
    "image": OpenApiParameter("image", OpenApiTypes.STR, OpenApiParameter.PATH, description="As `qrCodeImageUrl` has it."),
}
ANSWER_HEADERS = [
    OpenApiParameter("X-API-Version", OpenApiTypes.STR, OpenApiParameter.HEADER, response=True, description="The version used."),
    OpenApiParameter("X-Request-ID", OpenApiTypes.STR, OpenApiParameter.HEADER, response=True, description="Names the call in logs."),
]


def _call(
    name: str,
    *,
    shape: type | None,
    path: Sequence[str] = (),
    body: Any = None,
    query: Sequence[OpenApiParameter] = (),
    writes: bool = True,
    throttled: bool = True,
    pages: str = "",
    for_back_ends: bool = False,
    refusals: Sequence[str] = (),
    kinds: dict[str, tuple[int, int]] | None = None,
    tag: str,
    body_examples: Sequence[OpenApiExample] = (),
    keyed: bool = True,
    repeatable: bool | None = None,
    enveloped: bool = True,
) -> Callable[[Any], Any]:
    """Describe a call.

    :param shape: what is answered; None for a picture.
    :param keyed: whether it needs a key.
    :param enveloped: whether its good answers stand in the envelope.
    :param repeatable: whether it takes an Idempotency-Key; None: as it writes.
    :param throttled: whether a key's limit of calls holds for this one.
    :param pages: `some` where the answer is a page of a list, `for ever` where the list never ends.
    :param for_back_ends: whether it needs a server key.
    :param refusals: the reasons of the domain that this call can be refused for.
    :param kinds: their status and code where they differ from those of the table.
    """
    parameters = [*(IN_PATH[name] for name in path), *query, VERSION, REQUEST_ID, *ANSWER_HEADERS]
    repeatable = writes if repeatable is None else repeatable
    reasons = [*ANY, *(KEYED if keyed else ()), *(OF_A_USER if "user_id" in path else ()), *(LIMITED if throttled else ())]
    if for_back_ends:
        reasons.append("server_key_required")
    if shape is None:
        reasons.remove("not_acceptable")
    if body is not None or writes:
        reasons += WITH_BODY
    if writes:
        parameters += TRACKING
    if repeatable:
        parameters.append(IDEMPOTENCY_KEY)
        reasons += WITH_KEY
        parameters.append(
            OpenApiParameter(
                "Idempotency-Replayed",
                {"type": "string", "enum": ["true"]},
                OpenApiParameter.HEADER,
                response=[200],
                description="This is the first answer to the Idempotency-Key, once more.",
            )
        )
    parameters += [
        OpenApiParameter("WWW-Authenticate", OpenApiTypes.STR, OpenApiParameter.HEADER, response=[401], description="What to send."),
        OpenApiParameter("Retry-After", OpenApiTypes.INT, OpenApiParameter.HEADER, response=[429, 503], description="Seconds to wait."),
        OpenApiParameter("Allow", OpenApiTypes.STR, OpenApiParameter.HEADER, response=[405], description="Methods to use."),
    ]
    reasons += [reason for reason in refusals if reason not in reasons]
    responses: dict[Any, Any] = refusals_by_status(reasons, kinds or {})
    if shape is None:
        responses[200, "image/png"] = OpenApiResponse(response=OpenApiTypes.BINARY, description="The image.")
    else:
        responses[200] = _success(shape, pages=pages, enveloped=enveloped)
    return extend_schema(
        operation_id=name,
        tags=[tag],
        request=body,
        parameters=parameters,
        responses=responses,
        examples=list(body_examples),
        auth=None if keyed else [],
    )


def _success(shape: type, *, pages: str, enveloped: bool) -> OpenApiResponse:
    answer = shapes.enveloped(shape) if enveloped else shape
    example = {"data": EXAMPLES[shape]} if enveloped else EXAMPLES[shape]
    if pages:
        answer, example = shapes.paged(shape, for_ever=pages == "for ever"), {"data": [EXAMPLES[shape]], "nextToken": NEXT_TOKEN}
    return OpenApiResponse(
        response=answer,
        description="Done.",
        examples=[OpenApiExample("done", value=example, response_only=True, status_codes=["200"])],
    )


def _body_examples(**values: Any) -> list[OpenApiExample]:
    return [OpenApiExample(name, value=value, request_only=True) for name, value in values.items()]


USER, USER_AND_PRODUCT = ("user_id",), ("user_id", "product_id")
COUNT_EXAMPLES = _body_examples(two={"count": 2}, save_for_later={"count": 0}, remove={"count": -1})
# Which refusals a call can meet is known from the domain function that it calls: the docstring there lists them.

get_basket = _call("getbasket", tag="basket", shape=shapes.Basket, path=USER, writes=False)
delete_basket = _call("deletebasket", tag="basket", shape=shapes.Basket, path=USER, refusals=["basket_not_found", "checkout_active"])
place_item = _call(
    "assignproducttobasket",
    tag="items",
    shape=shapes.Basket,
    path=USER_AND_PRODUCT,
    body=serializers.PlaceItem,
    body_examples=COUNT_EXAMPLES,
    refusals=["product_unknown", "product_not_in_basket", "cart_full", "saved_full"],
)
change_item = _call(
    "updateproductinbasket",
    tag="items",
    shape=shapes.Basket,
    path=USER_AND_PRODUCT,
    body=serializers.ChangeItem,
    body_examples=COUNT_EXAMPLES,
    refusals=["product_not_in_basket", "cart_full", "saved_full"],
)
remove_item = _call(
    "deleteproductfrombasket",
    tag="items",
    shape=shapes.Basket,
    path=USER_AND_PRODUCT,
    refusals=["product_not_in_basket"],
)
start_checkout = _call(
    "checkoutbasket",
    tag="checkout",
    shape=shapes.StartedCheckout,
    path=USER,
    body=serializers.StartCheckout,
    body_examples=_body_examples(german={"language": "de", "country": "DE", "stripeUsingSdk": False}),
    query=[TEST_MODE],
    refusals=["cart_empty", "out_of_stock", "checkout_active"],
)
finish_active = _call(
    "finishactivecheckout",
    tag="checkout",
    shape=shapes.Basket,
    path=USER,
    throttled=False,
    body=serializers.FinishCheckout,
    body_examples=_body_examples(ordered={"ordered": True}, aborted={"ordered": False}, named={"ordered": True, "orderNo": ORDER_NO}),
    refusals=[
        "basket_not_found",
        "no_active_checkout",
        "checkout_already_ordered",
        "checkout_aborted",
        "checkout_expired",
        "order_unknown",
        "out_of_stock",
    ],
    kinds={"basket_not_found": BASKET_NOT_FOUND_ON_FINISH},
)
get_session = _call(
    "getcheckout",
    tag="checkout",
    shape=shapes.Session,
    path=("user_id", "order_no"),
    throttled=False,
    writes=False,
    refusals=["order_unknown"],
    kinds={"order_unknown": ORDER_NOT_FOUND},
)
create_guest = _call(
    "createguestbasket",
    tag="guests",
    shape=shapes.Guest,
    repeatable=False,
    body=serializers.CreateGuest,
    body_examples=_body_examples(empty={}, with_products={"products": [{"productId": "prod-123", "count": 2}, {"productId": "prod-456"}]}),
    query=[
        OpenApiParameter(
            "jayToken",
            OpenApiTypes.STR,
            OpenApiParameter.QUERY,
            description="Of a transfer: gives access to that very basket. No `products` then.",
        )
    ],
    refusals=["product_unknown", "cart_full"],
)
transfer_basket = _call(
    "transferbasket",
    tag="guests",
    path=USER,
    shape=shapes.Transfer,
    repeatable=False,
    body=serializers.TransferBasket,
    body_examples=_body_examples(empty={}, with_address={"url": "https://shop.example.com/?lang=de"}),
    query=[_switch("qr", "Whether an image of the address is made, for the other device to look at.")],
    refusals=["basket_not_found"],
)
get_transfer_image = _call(
    "gettransferimage",
    tag="guests",
    shape=None,
    path=("image",),
    keyed=False,
    writes=False,
    throttled=False,
)
get_comfort = _call(
    "getcomfortbasketsettings",
    tag="comfort",
    path=USER,
    shape=shapes.Comfort,
    writes=False,
    refusals=["guest_not_allowed"],
)
change_comfort = _call(
    "updatecomfortbasketsettings",
    tag="comfort",
    path=USER,
    shape=shapes.Basket,
    body=serializers.ChangeComfort,
    body_examples=_body_examples(
        store={"customerId": "cust-4711", "consent": True}, delete_one={"paymentToken": None}, delete_all={"consent": False}
    ),
    refusals=["guest_not_allowed", "consent_missing"],
)
get_keys = _call(
    "getguestkeys",
    tag="guests",
    shape=shapes.KeySet,
    keyed=False,
    writes=False,
    throttled=False,
    enveloped=False,
)
product_details = _call(
    "getproductinformation",
    tag="products",
    shape=shapes.Products,
    writes=False,
    body={
        "application/json": {
            "type": "array",
            "maxItems": 100,
            "items": IDENTIFIER,
            "example": ["prod-123", "prod-000"],
        }
    },
)


def _of_list(chosen: type[ListFilters]) -> list[OpenApiParameter]:
    """Describe what the query of a list may say, from its filters."""
    described = []
    for name, each in chosen.base_filters.items():
        shape: dict[str, Any] = {"type": "string"}
        match each:
            case ChosenFilter():
                shape["enum"] = list(each.extra["words"])
            case MomentFilter():
                shape["format"] = "date-time"
            case IdFilter():
                shape = IDENTIFIER
        described.append(OpenApiParameter(name, shape, OpenApiParameter.QUERY, description=str(each.label)))
    limit = {"type": "integer", "minimum": 1, "maximum": LARGEST_LIMIT, "default": DEFAULT_LIMIT}
    return [
        *described,
        OpenApiParameter("limit", limit, OpenApiParameter.QUERY, description="How many at most."),
        OpenApiParameter(
            "nextToken", OpenApiTypes.STR, OpenApiParameter.QUERY, description="Of the last answer, with the same filters: reads on there."
        ),
    ]


list_baskets = _call(
    "listbaskets",
    tag="back end",
    shape=shapes.ListedBasket,
    pages="some",
    writes=False,
    for_back_ends=True,
    query=_of_list(BasketFilters),
)
list_sessions = _call(
    "listcheckouts",
    tag="back end",
    shape=shapes.ListedSession,
    pages="some",
    writes=False,
    for_back_ends=True,
    query=_of_list(SessionFilters),
)
read_events = _call(
    "readevents",
    tag="back end",
    shape=shapes.Event,
    pages="for ever",
    writes=False,
    for_back_ends=True,
    query=_of_list(EventFilters),
    refusals=["events_purged", "events_rewound"],
)


def without_v2(endpoints: list[tuple[str, str, str, Any]]) -> list[tuple[str, str, str, Any]]:
    """Describe each call once: the addresses under `/v2` are the same calls, and the schema names them as a server."""
    return [endpoint for endpoint in endpoints if not endpoint[0].startswith("/v2/")]


def as_published(result: Any, **_: Any) -> Any:
    """Finish the schema: a summary for each call, the reference's names in the path, and bare arrays that are never absent."""
    paths = {}
    for path, operations in result["paths"].items():
        for operation in operations.values():
            operation["summary"] = operation["description"].partition("\n")[0].rstrip(".")
            for parameter in operation["parameters"]:
                parameter["name"] = PUBLISHED.get(parameter["name"], parameter["name"])
            body = operation.get("requestBody")
            if body and body["content"]["application/json"]["schema"].get("type") == "array":
                body["required"] = True
        for name, shown in PUBLISHED.items():
            path = path.replace(f"{{{name}}}", f"{{{shown}}}")  # noqa: PLW2901 (the path is being renamed)
        paths[path] = operations
    result["paths"] = paths
    return result
