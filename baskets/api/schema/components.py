"""The parts of the schema that operations share, and the decorator that describes an operation: its parameters and its refusals."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension, OpenApiSerializerExtension
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.serializers import Serializer

from baskets.api.lists.pagination import DEFAULT_LIMIT, MAX_LIMIT
from baskets.api.protocol.identifiers import IDENTIFIER_PATTERN, MAX_LENGTH, PRODUCT_PATTERN
from baskets.api.protocol.versioning import DEFAULT_VERSION, SUPPORTED_VERSIONS
from baskets.api.schema import refusals as reasons_of
from baskets.api.schema.examples import NEXT_TOKEN, RESPONSES, SHOPPER
from baskets.api.schema.refusals import Kind, reference
from baskets.api.serializers.events import EVENTS
from baskets.api.serializers.responses import enveloped, paged
from baskets.domain.maintenance.demo_data import ORDER_NO

# The key of an operation under which `describe_operation` leaves what `document.finish_schema` completes.
OPERATION_KEY = "x-operation"
Parameter = dict[str, Any]


class Paging(Enum):
    """Whether a list ends: every page of an endless list has a `nextToken`."""

    FINITE = auto()
    ENDLESS = auto()


class Access(Enum):
    """The credentials of an operation."""

    NONE = auto()
    # For every key. A token is optional.
    KEY = auto()
    # For the basket of a user: a client key comes with the user's token.
    USER = auto()
    # For users whom the partner knows: every key comes with the user's token.
    KNOWN_USER = auto()
    SERVER_KEY = auto()


KEY_ONLY: dict[str, list[str]] = {"ApiKey": []}
KEY_AND_TOKEN: dict[str, list[str]] = {"ApiKey": [], "Bearer": []}
SECURITY = {
    Access.NONE: [],
    Access.KEY: [KEY_ONLY, KEY_AND_TOKEN],
    Access.USER: [KEY_ONLY, KEY_AND_TOKEN],
    Access.KNOWN_USER: [KEY_AND_TOKEN],
    Access.SERVER_KEY: [KEY_ONLY],
}


class ApiKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # drf-spectacular has no types here
    """The security schemes of the schema: the key of the partner, and the token of the user."""

    target_class = "baskets.api.auth.api_keys.ApiKeyAuthentication"
    name = ["ApiKey", "Bearer"]

    def get_security_definition(self, auto_schema: Any) -> list[dict[str, Any]]:
        """Describe the key and the token."""
        del auto_schema
        return [
            {
                "type": "apiKey",
                "in": "header",
                "name": "X-API-Key",
                "description": (
                    "The key of a partner. A server key is held by a back end and may act for any user. A client key ships inside apps "
                    "and comes with the user's token. A revoked or expired key is refused from its next call on."
                ),
            },
            {
                "type": "http",
                "scheme": "bearer",
                "bearerFormat": "JWT",
                "description": (
                    "The user's own token, signed by an issuer of the partner, or the `jwt` of a guest. Its `sub` is the `userId` of the "
                    "path. A token that is sent is checked, whatever the key. After an issuer removes a key from its published set, "
                    "tokens of that key are refused after 5 minutes, or after 15 at most where calls are rare."
                ),
            },
        ]


class EventExtension(OpenApiSerializerExtension):  # type: ignore[no-untyped-call]  # drf-spectacular has no types here
    """An event is one of several shapes; its `kind` says which."""

    target_class = "baskets.api.serializers.events.Event"

    def map_serializer(self, auto_schema: Any, direction: Any) -> dict[str, Any]:
        """Describe the union, and register the shapes."""
        refs = {kind: auto_schema.resolve_serializer(event, direction).ref for kind, event in EVENTS.items()}
        mapping = {kind: ref["$ref"] for kind, ref in refs.items()}
        return {
            "description": "A change of a basket. Its `kind` says which shape it has. Kinds and members may be added: ignore unknown ones.",
            "oneOf": list(refs.values()),
            "discriminator": {"propertyName": "kind", "mapping": mapping},
        }


# --- Parameters and headers -------------------------------------------------------


IDENTIFIER = {"type": "string", "minLength": 1, "maxLength": MAX_LENGTH, "pattern": IDENTIFIER_PATTERN}
PRODUCT_ID = IDENTIFIER | {"pattern": PRODUCT_PATTERN}
TEXT = {"type": "string"}


def query_parameter(name: str, description: str, schema: Mapping[str, Any] = TEXT) -> Parameter:
    """Describe an optional parameter of the query."""
    return {"name": name, "in": "query", "description": description, "schema": dict(schema)}


def flag_parameter(name: str, description: str) -> Parameter:
    """Describe a parameter of the query that is `true` or `false`."""
    return query_parameter(name, f"{description} Absent: `false`.", {"type": "string", "enum": ["true", "false"]})


def _header_parameter(name: str, description: str, schema: Mapping[str, Any] = TEXT) -> Parameter:
    return {"name": name, "in": "header", "description": description, "schema": dict(schema)}


# The shared parameters by their component name. The examples of `/docs` send all that have one, so attribution has none.
PARAMETERS: dict[str, Parameter] = {
    "ApiVersion": _header_parameter(
        "x-jay-api-version",
        f"The version of the API to use. Absent: {DEFAULT_VERSION}. `X-API-Version` is read as well; this one takes precedence.",
        {"type": "string", "enum": sorted(SUPPORTED_VERSIONS)},
    ),
    "RequestId": _header_parameter(
        "X-Request-ID",
        "Identifies the call in logs; the response repeats it. A UUID, or 1 to 64 ASCII letters, digits and dashes. "
        "Any other value is replaced by a random one.",
    ),
    "Tracking": _header_parameter(
        "X-JAY-Tracking",
        "Attribution: base64 of a JSON object with `session_id`, `start_time`, `source` and optionally `provider_id`. "
        "Every call accepts it, and changes store it in their event. A value that cannot be read is dropped, and never fails a call.",
    ),
    "ProviderId": query_parameter(
        "provider_id", "Attribution: the provider, where `X-JAY-Tracking` is missing or names none. Never fails a call."
    ),
    "IdempotencyKey": _header_parameter(
        "Idempotency-Key",
        "Makes a repeat safe: for 24 hours the same call with the same key gets the first response again, and nothing is done twice.",
        {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
    ),
    "Limit": query_parameter(
        "limit",
        f"The maximum number of rows on a page. Absent: {DEFAULT_LIMIT}.",
        {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT},
    ),
    "NextToken": query_parameter(
        "nextToken", "The `nextToken` of the previous response, with the same filters: continues after its last row."
    ),
}
HEADERS: dict[str, dict[str, Any]] = {
    "X-API-Version": {
        "description": "The version that was used.",
        "required": True,
        "schema": {"type": "string", "enum": sorted(SUPPORTED_VERSIONS)},
    },
    "X-Request-ID": {"description": "Identifies the call in logs.", "required": True, "schema": TEXT},
    "Idempotency-Replayed": {
        "description": "Present if this is the stored response of an earlier call with the same Idempotency-Key.",
        "schema": {"type": "string", "enum": ["true"]},
    },
    "WWW-Authenticate": {"description": "The credentials to send.", "required": True, "schema": TEXT},
    "Retry-After": {
        "description": "The seconds to wait before the call is sent again.",
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
    },
    "Allow": {"description": "The methods of this address.", "required": True, "schema": TEXT},
}
COMMON_HEADERS = {name: reference("headers", name) for name in ("X-API-Version", "X-Request-ID")}
# Name in the URL pattern: name in the reference, description, rule.
PATH_PARAMETERS: dict[str, tuple[str, str, Mapping[str, Any]]] = {
    "user_id": ("userId", "The user, by the platform's own identifier.", IDENTIFIER),
    "product_id": ("productId", "The product identifier.", PRODUCT_ID),
    "order_no": (
        "orderNo",
        "The order number that the start of the checkout returned, in any letter case, with or without its dashes.",
        IDENTIFIER,
    ),
    "device_id": ("deviceId", "The `deviceId` of the list of devices.", IDENTIFIER),
    "webhook_id": ("webhookId", "The `webhookId` of the list of webhooks.", IDENTIFIER),
    "image": ("image", "The last part of `qrCodeImageUrl`, the address that the call for a transfer returned.", TEXT),
}


def _path_parameter(name: str, examples: Mapping[str, str]) -> Parameter:
    public_name, description, schema = PATH_PARAMETERS[name]
    example = {"example": examples[name]} if name in examples else {}
    return {"name": public_name, "in": "path", "required": True, "description": description, "schema": dict(schema), **example}


# --- Operations -------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Operation:
    """What `document.finish_schema` adds to an operation.

    :param parameters: whole, or references to `PARAMETERS`; those of the path first and in its order.
    :param reasons: the codes of all reasons, by status.
    :param success_headers: of a success, beside those of every response.
    :param links: of a success, by name.
    """

    summary: str
    parameters: Sequence[Parameter]
    reasons: Mapping[int, Mapping[str, int]]
    security: Sequence[Mapping[str, Sequence[str]]]
    success_headers: Sequence[str]
    links: Mapping[str, Any]
    requires_body: bool


def describe_operation(
    name: str,
    summary: str,
    description: str,
    *,
    tag: str,
    access: Access,
    response: type[Serializer[Any]] | None,
    path: Sequence[str] = (),
    query: Sequence[Parameter] = (),
    body: Any = None,
    body_examples: Sequence[OpenApiExample] = (),
    refusals: Sequence[str] = (),
    overrides: Mapping[str, Kind] | None = None,
    writes: bool = True,
    throttled: bool = True,
    takes_idempotency_key: bool | None = None,
    requires_body: bool = False,
    has_envelope: bool = True,
    paging: Paging | None = None,
    links: Mapping[str, Any] | None = None,
    **path_examples: str,
) -> Callable[[Any], Any]:
    """Return the decorator that describes the view of one operation.

    :param name: the operation id of the reference.
    :param description: what a partner must know beyond the summary, in Markdown.
    :param response: the body of a success, or one item of it where `paging` is set; None: an image.
    :param path: the names of the ids in the path, in its order.
    :param body: the serializer of the request body, or its schema by media type.
    :param refusals: the reasons of the domain that this operation may get.
    :param overrides: status and code of the refusals that differ here from `exceptions.TABLE`.
    :param throttled: whether the limit of calls per key applies.
    :param takes_idempotency_key: None: every operation that writes does.
    :param requires_body: whether an empty body is invalid.
    :param has_envelope: whether a success stands in the envelope.
    :param paging: set where the success is one page of a list.
    :param links: OpenAPI links of the success, by name.
    :param path_examples: ids for the example, in place of the usual ones. With them, the call works on the demo.
    """
    ids = {"user_id": SHOPPER, "order_no": ORDER_NO} | path_examples
    needs_key = access is not Access.NONE
    parameters = [*(_path_parameter(part, ids) for part in path), *query]
    reasons = [
        *reasons_of.COMMON_REASONS,
        *(reasons_of.API_KEY_REASONS if needs_key else ()),
        *(reasons_of.USER_TOKEN_REASONS if "user_id" in path else ()),
        *(reasons_of.ROUTED_REASONS if {"user_id", "image"} & set(path) else ()),
        *(reasons_of.RATE_LIMIT_REASONS if throttled else ()),
        *(["server_key_required"] if access is Access.SERVER_KEY else ()),
        *(reasons_of.BODY_REASONS if body is not None or writes else ()),
    ]
    if response is None:
        reasons.remove("not_acceptable")
    takes_key = writes if takes_idempotency_key is None else takes_idempotency_key
    if needs_key:
        parameters.append(reference("parameters", "ProviderId"))
        parameters.append(reference("parameters", "Tracking"))
    if takes_key:
        parameters.append(reference("parameters", "IdempotencyKey"))
        reasons += reasons_of.IDEMPOTENCY_REASONS
    parameters += [reference("parameters", "ApiVersion"), reference("parameters", "RequestId")]
    operation = Operation(
        summary=summary,
        parameters=parameters,
        reasons=reasons_of.reasons_by_status([*reasons, *refusals], overrides or {}),
        security=SECURITY[access],
        success_headers=["Idempotency-Replayed"] if takes_key else [],
        links=links or {},
        requires_body=requires_body,
    )
    return extend_schema(
        operation_id=name,
        summary=summary,
        description=description.strip(),
        tags=[tag],
        request=body,
        # Named here so that drf-spectacular does not guess them; `document` replaces them.
        parameters=[OpenApiParameter(part, OpenApiTypes.STR, OpenApiParameter.PATH) for part in path],
        responses=_success_response(response, has_envelope=has_envelope, paging=paging),
        examples=list(body_examples),
        extensions={OPERATION_KEY: operation},
    )


def _success_response(body: type[Serializer[Any]] | None, *, has_envelope: bool, paging: Paging | None) -> dict[Any, OpenApiResponse]:
    if body is None:
        return {(200, "image/png"): OpenApiResponse(response=OpenApiTypes.BINARY, description="The image.")}
    example = RESPONSES[body]
    described: Any = body
    if paging is not None:
        described = paged(body, is_endless=paging is Paging.ENDLESS)
        example = {"data": example if isinstance(example, list) else [example], "nextToken": NEXT_TOKEN}
    elif has_envelope:
        described = enveloped(body)
        example = {"data": example}
    examples = [OpenApiExample("success", value=example, response_only=True, status_codes=["200"])]
    return {200: OpenApiResponse(response=described, description=(body.__doc__ or "").partition("\n")[0], examples=examples)}


def body_examples(**values: Any) -> list[OpenApiExample]:
    """Return examples of request bodies. Each keyword is the name of an example, and says what its body does."""
    return [OpenApiExample(name, value=value, request_only=True) for name, value in values.items()]


def link_to(operation: str, description: str, **parameters: str) -> dict[str, Any]:
    """Describe a call that continues after a success.

    :param parameters: runtime expressions by the name of the parameter.
    """
    return {"operationId": operation, "description": description, "parameters": parameters}


USER_PATH, USER_AND_PRODUCT_PATH = ("user_id",), ("user_id", "product_id")
COUNT_EXAMPLES = body_examples(two={"count": 2}, save_for_later={"count": 0}, remove={"count": -1})
