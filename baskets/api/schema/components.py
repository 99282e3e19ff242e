"""What calls have in common in the schema: who calls, what may be sent along, and which refusals can come to any of them."""

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

from baskets.api.protocol.identifiers import IDENTIFIER_PATTERN, MAX_LENGTH, PRODUCT_PATTERN
from baskets.api.protocol.versioning import DEFAULT_VERSION, SUPPORTED_VERSIONS
from baskets.api.schema.examples import EXAMPLE_NEXT_TOKEN, RESPONSE_EXAMPLES, refusal_responses
from baskets.api.serializers import responses as serializers_responses

# What any call may be told, and what a call with a body may be told besides.
COMMON_REASONS = (
    "bad_request", "not_found", "method_not_allowed", "version_unsupported", "not_acceptable",
    "internal_error", "busy", "database_unavailable", "overloaded", "request_timeout", "uri_too_long", "header_too_large",
)  # fmt: skip
API_KEY_REASONS = ("api_key_missing", "api_key_invalid", "token_invalid", "token_expired", "token_keys_unavailable", "validation_failed")
USER_TOKEN_REASONS = ("token_missing", "token_user_mismatch")
BODY_REASONS = ("body_too_large", "unsupported_media_type")
IDEMPOTENCY_REASONS = ("idempotency_key_reused",)
RATE_LIMIT_REASONS = ("throttled",)


class ApiKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # drf-spectacular has no types here
    """How the schema names the ways to say who is calling."""

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


def _header_parameter(name: str, text: str, **more: Any) -> OpenApiParameter:
    return OpenApiParameter(name, more.pop("type", OpenApiTypes.STR), OpenApiParameter.HEADER, description=text, **more)


VERSION = _header_parameter(
    "x-jay-api-version",
    f"The version of the API to use. Defaults to {DEFAULT_VERSION}. `X-API-Version` is read as well; this one wins.",
    enum=sorted(SUPPORTED_VERSIONS),
    default=DEFAULT_VERSION,
)
REQUEST_ID = _header_parameter(
    "X-Request-ID",
    "Names the call in logs; sent back. A UUID, or up to 64 letters of ASCII, digits and dashes; another one is replaced, as is none.",
)
PROVIDER_ID = OpenApiParameter(
    "provider_id",
    OpenApiTypes.STR,
    OpenApiParameter.QUERY,
    description="The provider, where the tracking header is missing or names none.",
    examples=[OpenApiExample("provider", value="netflix")],
)
TRACKING = [
    _header_parameter("X-JAY-Tracking", "Base64 of JSON with `session_id`, `start_time` and `source`. Never fails a call."),
    PROVIDER_ID,
]
IDEMPOTENCY_KEY = _header_parameter(
    "Idempotency-Key",
    "A repeat with the same key is answered with the first answer, for 24 hours, and is not done again.",
    type={"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
)


def flag_parameter(name: str, text: str) -> OpenApiParameter:
    """Describe a field of the query that is on or off."""
    shape = {"type": "string", "enum": ["true", "false"], "default": "false"}
    return OpenApiParameter(name, shape, OpenApiParameter.QUERY, description=text)


TEST_MODE = flag_parameter("testMode", "A checkout for trying things out: it holds and sells nothing.")


IDENTIFIER = {"type": "string", "minLength": 1, "maxLength": MAX_LENGTH, "pattern": IDENTIFIER_PATTERN}
PRODUCT_ID = IDENTIFIER | {"pattern": PRODUCT_PATTERN}


def _path_parameter(name: str, text: str, shape: dict[str, Any] = IDENTIFIER) -> OpenApiParameter:
    return OpenApiParameter(name, shape, OpenApiParameter.PATH, description=text)


PATH_PARAMETERS = {
    "user_id": _path_parameter("user_id", "The platform specific user identifier representing a user."),
    "product_id": _path_parameter("product_id", "The product identifier.", PRODUCT_ID),
    "order_no": _path_parameter(
        "order_no",
        "The order number that the start of the checkout returned; it may be typed in any letter case, with or without its dashes.",
    ),
    "device_id": _path_parameter("device_id", "The `deviceId` of the list of devices."),
    "image": OpenApiParameter("image", OpenApiTypes.STR, OpenApiParameter.PATH, description="As `qrCodeImageUrl` has it."),
}
RESPONSE_HEADERS = [
    OpenApiParameter("X-API-Version", OpenApiTypes.STR, OpenApiParameter.HEADER, response=True, description="The version used."),
    OpenApiParameter("X-Request-ID", OpenApiTypes.STR, OpenApiParameter.HEADER, response=True, description="Names the call in logs."),
]


def describe_operation(
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
    parameters = [*(PATH_PARAMETERS[name] for name in path), *query, VERSION, REQUEST_ID, *RESPONSE_HEADERS]
    repeatable = writes if repeatable is None else repeatable
    reasons = [
        *COMMON_REASONS,
        *(API_KEY_REASONS if keyed else ()),
        *(USER_TOKEN_REASONS if "user_id" in path else ()),
        *(RATE_LIMIT_REASONS if throttled else ()),
    ]
    if for_back_ends:
        # These calls take the parameters that are named here, and no others.
        parameters.append(PROVIDER_ID)
        reasons.append("server_key_required")
    if shape is None:
        reasons.remove("not_acceptable")
    if body is not None or writes:
        reasons += BODY_REASONS
    if writes:
        parameters += TRACKING
    if repeatable:
        parameters.append(IDEMPOTENCY_KEY)
        reasons += IDEMPOTENCY_REASONS
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
    responses: dict[Any, Any] = refusal_responses(reasons, kinds or {})
    if shape is None:
        responses[200, "image/png"] = OpenApiResponse(response=OpenApiTypes.BINARY, description="The image.")
    else:
        responses[200] = _success_response(shape, pages=pages, enveloped=enveloped)
    return extend_schema(
        operation_id=name,
        tags=[tag],
        request=body,
        parameters=parameters,
        responses=responses,
        examples=list(body_examples),
        auth=None if keyed else [],
    )


def _success_response(shape: type, *, pages: str, enveloped: bool) -> OpenApiResponse:
    answer = serializers_responses.enveloped(shape) if enveloped else shape
    example = {"data": RESPONSE_EXAMPLES[shape]} if enveloped else RESPONSE_EXAMPLES[shape]
    if pages:
        answer, example = (
            serializers_responses.paged(shape, for_ever=pages == "for ever"),
            {"data": [RESPONSE_EXAMPLES[shape]], "nextToken": EXAMPLE_NEXT_TOKEN},
        )
    return OpenApiResponse(
        response=answer,
        description="Done.",
        examples=[OpenApiExample("done", value=example, response_only=True, status_codes=["200"])],
    )


def body_examples(**values: Any) -> list[OpenApiExample]:
    """Show bodies, each under a name that says what it does."""
    return [OpenApiExample(name, value=value, request_only=True) for name, value in values.items()]


USER_PATH, USER_AND_PRODUCT_PATH = ("user_id",), ("user_id", "product_id")
COUNT_EXAMPLES = body_examples(two={"count": 2}, save_for_later={"count": 0}, remove={"count": -1})
