"""The refusals of operations: the `Error` component, and responses that operations share. Made from `exceptions.TABLE`."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from baskets.api.exceptions import MESSAGES, NO_BASKET_ERRORS, STATE_REFUSALS, TABLE
from baskets.api.schema.examples import ERROR_DETAILS, FULL_BASKET
from baskets.models import CheckoutSession

Kind = tuple[int, int]

# Reasons that follow from the kind of a call. Those of the domain are listed with each operation.
COMMON_REASONS = (
    "bad_request", "not_found", "method_not_allowed", "version_unsupported", "not_acceptable",
    "internal_error", "busy", "database_unavailable", "outcome_unknown", "overloaded", "request_timeout", "uri_too_long",
    "header_too_large",
)  # fmt: skip
API_KEY_REASONS = ("api_key_missing", "api_key_invalid", "token_invalid", "token_expired", "token_keys_unavailable", "validation_failed")
USER_TOKEN_REASONS = ("token_missing", "token_user_mismatch")
BODY_REASONS = ("body_too_large", "unsupported_media_type")
IDEMPOTENCY_REASONS = ("idempotency_key_reused",)
# Only an installation with several cells answers this.
ROUTED_REASONS = ("wrong_cell",)
RATE_LIMIT_REASONS = ("throttled",)

# The responses that several operations have, by the reasons for them. A response of one operation only stands in that operation.
SHARED_RESPONSES: dict[frozenset[str], str] = {
    frozenset(reasons): name
    for name, reasons in {
        "BadRequest": ["bad_request"],
        "Unauthorized": ["api_key_missing", "api_key_invalid", "token_invalid", "token_expired"],
        "UserUnauthorized": [
            "api_key_missing", "api_key_invalid", "token_invalid", "token_expired", "token_missing", "token_user_mismatch",
        ],
        "ServerKeyRequired": ["server_key_required"],
        "GuestNotAllowed": ["guest_not_allowed"],
        "NotFound": ["not_found"],
        "BasketNotFound": ["not_found", "basket_not_found"],
        "WebhookNotFound": ["not_found", "webhook_unknown"],
        "ProductNotInBasket": ["not_found", "product_not_in_basket"],
        "MethodNotAllowed": ["method_not_allowed"],
        "NotAcceptable": ["version_unsupported", "not_acceptable"],
        "RequestTimeout": ["request_timeout"],
        "ContentTooLarge": ["body_too_large"],
        "UriTooLong": ["uri_too_long"],
        "UnsupportedMediaType": ["unsupported_media_type"],
        "ValidationFailed": ["validation_failed"],
        "WriteRefused": ["validation_failed", "idempotency_key_reused"],
        "ItemRefused": ["validation_failed", "idempotency_key_reused", "cart_full", "saved_full"],
        "WrongCell": ["wrong_cell"],
        "CheckoutActive": ["checkout_active"],
        "Throttled": ["throttled"],
        "HeaderTooLarge": ["header_too_large"],
        "InternalError": ["internal_error"],
        "Unavailable": ["busy", "database_unavailable", "outcome_unknown", "overloaded"],
        "AuthenticatedUnavailable": ["busy", "database_unavailable", "outcome_unknown", "overloaded", "token_keys_unavailable"],
    }.items()
}  # fmt: skip
# The headers of a refusal by its status, beside those of every response.
ERROR_HEADERS = {401: "WWW-Authenticate", 405: "Allow", 429: "Retry-After", 503: "Retry-After"}


def _text(description: str, **more: Any) -> dict[str, Any]:
    return {"type": "string", "description": description, **more}


def _object(description: str, properties: Mapping[str, Any], *, optional: Iterable[str] = ()) -> dict[str, Any]:
    required = [name for name in properties if name not in set(optional)]
    return {"type": "object", "description": description, "required": required, "properties": dict(properties)}


def reference(section: str, name: str) -> dict[str, str]:
    """Return a reference to a component.

    :param section: such as `schemas`.
    """
    return {"$ref": f"#/components/{section}/{name}"}


ORDER_NO = _text("The order number of the checkout.")


def error_schemas(reasons: Collection[str]) -> dict[str, Any]:
    """Return the components of a refusal.

    :param reasons: every reason that an operation may get.
    """
    known = [reason for reason in TABLE if reason in reasons]
    details = {
        "reason": reference("schemas", "ErrorReason"),
        "fields": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": "`validation_failed`: the rule that each invalid field breaks, by the path of the field.",
        },
        "items": {
            "type": "array",
            "items": reference("schemas", "Shortage"),
            "description": "`out_of_stock`: the products of which too little is in stock.",
        },
        "activeCheckout": reference("schemas", "ActiveCheckout"),
        "lastCheckout": reference("schemas", "LastCheckout"),
    }
    return {
        "Error": _object(
            "A refused or failed call.",
            {
                "error": reference("schemas", "ErrorBody"),
                "data": {
                    **reference("schemas", "Basket"),
                    "description": "The unchanged basket, where the state of a basket is the reason (422 with code 422, and 423).",
                },
            },
            optional=["data"],
        ),
        "ErrorBody": _object(
            "What went wrong. Programs decide by `details.reason`.",
            {
                "code": reference("schemas", "ErrorCode"),
                "message": _text("One sentence for people; it may change."),
                "details": _object("The reason, and what a program needs to continue.", details, optional=set(details) - {"reason"}),
            },
        ),
        "ErrorCode": {
            "type": "integer",
            "format": "int32",
            "enum": sorted({code for _, code in TABLE.values()}),
            "description": "The code of the published API. Several reasons share one.",
        },
        "ErrorReason": {
            "type": "string",
            "enum": known,
            "description": "Why, as a stable slug. The responses of each operation name those that it may get.",
        },
        "Shortage": _object(
            "A product of which too little is in stock.",
            {
                "productId": _text("The product identifier."),
                "wanted": {"type": "integer", "description": "Wanted pieces."},
                "available": {"type": "integer", "description": "Available pieces."},
            },
        ),
        "ActiveCheckout": _object(
            "`checkout_active`: the checkout to resume or to abort.",
            {"orderNo": ORDER_NO, "expires": _text("The end of its hold.", format="date-time")},
        ),
        "LastCheckout": _object(
            "`no_active_checkout`: the checkout that ended last, if there was one.",
            {
                "orderNo": ORDER_NO,
                "status": {"type": "string", "enum": list(CheckoutSession.Status.values)},
                "finishedAt": {"type": ["string", "null"], "format": "date-time", "description": "When it ended."},
            },
        ),
    }


def reasons_by_status(reasons: Iterable[str], overrides: Mapping[str, Kind]) -> dict[int, dict[str, int]]:
    """Group the reasons of an operation.

    :param overrides: status and code of the reasons that differ from `exceptions.TABLE`.
    :returns: the code of each reason, by status.
    """
    by_status: dict[int, dict[str, int]] = defaultdict(dict)
    for reason in dict.fromkeys(reasons):
        status, code = overrides.get(reason, TABLE[reason])
        by_status[status][reason] = code
    return dict(sorted(by_status.items()))


def error_example(reason: str, status: int, code: int) -> dict[str, Any]:
    """Return an example of a refusal, as the service answers it."""
    value: dict[str, Any] = {
        "error": {"code": code, "message": MESSAGES[reason], "details": {"reason": reason, **ERROR_DETAILS.get(reason, {})}}
    }
    # Only refusals by the state of a basket carry it: their code equals their status.
    if status in STATE_REFUSALS and code == status and reason not in NO_BASKET_ERRORS:
        value["data"] = FULL_BASKET
    return {"value": value}


def example_name(reason: str, status: int, code: int) -> str:
    """Return the component name of an example; a reason with another status than usual has two."""
    return reason if (status, code) == TABLE[reason] else f"{reason}_{status}"


def error_response(status: int, codes: Mapping[str, int], headers: Mapping[str, Any]) -> dict[str, Any]:
    """Return the response object of a status.

    :param codes: the codes by reason.
    :param headers: the headers of every response.
    """
    own = {ERROR_HEADERS[status]: reference("headers", ERROR_HEADERS[status])} if status in ERROR_HEADERS else {}
    examples = {reason: reference("examples", example_name(reason, status, code)) for reason, code in codes.items()}
    return {
        "description": "\n".join(f"- `{reason}`: {MESSAGES[reason]}" for reason in codes),
        "headers": {**headers, **own},
        "content": {"application/json": {"schema": reference("schemas", "Error"), "examples": examples}},
    }
