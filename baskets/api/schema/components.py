"""The parts of the schema that operations share: authentication, parameters, headers, and the reasons that any call may get."""

from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import (
    OpenApiExample,
    OpenApiParameter,
    OpenApiResponse,
    extend_schema,
)
from rest_framework.serializers import Serializer

from baskets.api.protocol.identifiers import IDENTIFIER_PATTERN, MAX_LENGTH, PRODUCT_PATTERN
from baskets.api.protocol.versioning import DEFAULT_VERSION, SUPPORTED_VERSIONS
from baskets.api.schema.examples import EXAMPLE_NEXT_TOKEN, RESPONSE_EXAMPLES, refusal_responses
from baskets.api.serializers.responses import enveloped, paged

# Reasons that follow from the kind of a call. Those of the domain are listed with each operation.
COMMON_REASONS = (
    "bad_request", "not_found", "method_not_allowed", "version_unsupported", "not_acceptable",
    "internal_error", "busy", "database_unavailable", "overloaded", "request_timeout", "uri_too_long", "header_too_large",
)  # fmt: skip
API_KEY_REASONS = ("api_key_missing", "api_key_invalid", "token_invalid", "token_expired", "token_keys_unavailable", "validation_failed")
USER_TOKEN_REASONS = ("token_missing", "token_user_mismatch")
BODY_REASONS = ("body_too_large", "unsupported_media_type")
IDEMPOTENCY_REASONS = ("idempotency_key_reused",)
RATE_LIMIT_REASONS = ("throttled",)


class Paging(Enum):
    """Whether a list ends: every page of an endless list has a `nextToken`."""

    FINITE = auto()
    ENDLESS = auto()


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
        """Require the key alone, or both."""
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
    """Describe a parameter of the query that is `true` or `false`."""
    schema = {"type": "string", "enum": ["true", "false"], "default": "false"}
    return OpenApiParameter(name, schema, OpenApiParameter.QUERY, description=text)


TEST_MODE = flag_parameter("testMode", "A checkout for trying things out: it holds and sells nothing.")


IDENTIFIER = {"type": "string", "minLength": 1, "maxLength": MAX_LENGTH, "pattern": IDENTIFIER_PATTERN}
PRODUCT_ID = IDENTIFIER | {"pattern": PRODUCT_PATTERN}


def _path_parameter(name: str, text: str, schema: dict[str, Any] = IDENTIFIER) -> OpenApiParameter:
    return OpenApiParameter(name, schema, OpenApiParameter.PATH, description=text)


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
REPLAYED = OpenApiParameter(
    "Idempotency-Replayed",
    {"type": "string", "enum": ["true"]},
    OpenApiParameter.HEADER,
    response=[200],
    description="This is the first answer to the Idempotency-Key, once more.",
)
ERROR_HEADERS = [
    OpenApiParameter("WWW-Authenticate", OpenApiTypes.STR, OpenApiParameter.HEADER, response=[401], description="What to send."),
    OpenApiParameter("Retry-After", OpenApiTypes.INT, OpenApiParameter.HEADER, response=[429, 503], description="Seconds to wait."),
    OpenApiParameter("Allow", OpenApiTypes.STR, OpenApiParameter.HEADER, response=[405], description="Methods to use."),
]


def describe_operation(
    name: str,
    *,
    tag: str,
    response: type[Serializer[Any]] | None,
    path: Sequence[str] = (),
    query: Sequence[OpenApiParameter] = (),
    body: Any = None,
    body_examples: Sequence[OpenApiExample] = (),
    refusals: Sequence[str] = (),
    overrides: Mapping[str, tuple[int, int]] | None = None,
    writes: bool = True,
    throttled: bool = True,
    needs_key: bool = True,
    server_key_only: bool = False,
    takes_idempotency_key: bool | None = None,
    has_envelope: bool = True,
    paging: Paging | None = None,
) -> Callable[[Any], Any]:
    """Return the decorator that describes the view of one operation.

    :param name: the operation id of the reference.
    :param response: the body of a success, or one item of it where `paging` is set; None: an image.
    :param path: the names of the ids in the path.
    :param body: the serializer of the request body, or its schema by media type.
    :param refusals: the reasons of the domain that this operation may get.
    :param overrides: status and code of the refusals that differ here from `exceptions.TABLE`.
    :param throttled: whether the limit of calls per key applies.
    :param server_key_only: whether a client key is refused.
    :param takes_idempotency_key: None: every operation that writes does.
    :param has_envelope: whether a success stands in the envelope.
    :param paging: set where the success is one page of a list.
    """
    parameters = [*(PATH_PARAMETERS[part] for part in path), *query, VERSION, REQUEST_ID, *RESPONSE_HEADERS]
    reasons = [
        *COMMON_REASONS,
        *(API_KEY_REASONS if needs_key else ()),
        *(USER_TOKEN_REASONS if "user_id" in path else ()),
        *(RATE_LIMIT_REASONS if throttled else ()),
    ]
    if server_key_only:
        # These calls accept the parameters that are named here, and no others.
        parameters.append(PROVIDER_ID)
        reasons.append("server_key_required")
    if response is None:
        reasons.remove("not_acceptable")
    if body is not None or writes:
        reasons += BODY_REASONS
    if writes:
        parameters += TRACKING
    if writes if takes_idempotency_key is None else takes_idempotency_key:
        parameters += [IDEMPOTENCY_KEY, REPLAYED]
        reasons += IDEMPOTENCY_REASONS
    parameters += ERROR_HEADERS
    reasons += [reason for reason in refusals if reason not in reasons]
    responses: dict[Any, Any] = refusal_responses(reasons, overrides or {})
    if response is None:
        responses[200, "image/png"] = OpenApiResponse(response=OpenApiTypes.BINARY, description="The image.")
    else:
        responses[200] = _success_response(response, has_envelope=has_envelope, paging=paging)
    return extend_schema(
        operation_id=name,
        tags=[tag],
        request=body,
        parameters=parameters,
        responses=responses,
        examples=list(body_examples),
        auth=None if needs_key else [],
    )


def _success_response(body: type[Serializer[Any]], *, has_envelope: bool, paging: Paging | None) -> OpenApiResponse:
    example = RESPONSE_EXAMPLES[body]
    described: Any = body
    if paging is not None:
        described = paged(body, is_endless=paging is Paging.ENDLESS)
        example = {"data": [example], "nextToken": EXAMPLE_NEXT_TOKEN}
    elif has_envelope:
        described = enveloped(body)
        example = {"data": example}
    return OpenApiResponse(
        response=described,
        description="Done.",
        examples=[OpenApiExample("done", value=example, response_only=True, status_codes=["200"])],
    )


def body_examples(**values: Any) -> list[OpenApiExample]:
    """Return examples of request bodies. Each keyword is the name of an example, and says what its body does."""
    return [OpenApiExample(name, value=value, request_only=True) for name, value in values.items()]


USER_PATH, USER_AND_PRODUCT_PATH = ("user_id",), ("user_id", "product_id")
COUNT_EXAMPLES = body_examples(two={"count": 2}, save_for_later={"count": 0}, remove={"count": -1})
