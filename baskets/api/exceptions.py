"""Maps every exception to its error response. Holds the one table of statuses, codes and messages.

The domain decides what is refused, and knows nothing of HTTP.
"""

import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import structlog
from django.core.exceptions import (
    BadRequest,
    PermissionDenied,
    RequestDataTooBig,
    SuspiciousOperation,
)
from django.http import Http404, HttpResponse, UnreadablePostError
from rest_framework import exceptions as drf

from baskets.api.protocol.envelope import failure_response
from baskets.api.protocol.metrics import DATABASE_FAULTS
from baskets.api.serializers.representations import render_basket
from baskets.db.errors import Fault, OutcomeUnknown, constraint_of, fault_of, read_with_reconnect
from baskets.domain import errors as domain
from baskets.domain.slots import SLOT_CONSTRAINT
from baskets.domain.timestamps import format_timestamp
from baskets.error_summary import sqlstate_of, summarize_error
from baskets.models import CheckoutSession
from baskets.models.basket_snapshot import Owner, read_basket

log = structlog.get_logger("baskets.api")


class ErrorCode(NamedTuple):
    """The two numbers of an error response: the HTTP status and `error.code`."""

    status: int
    code: int


# Every reason, with its numbers.
TABLE: dict[str, ErrorCode] = {
    "bad_request": ErrorCode(400, 400),
    "api_key_missing": ErrorCode(401, 401),
    "api_key_invalid": ErrorCode(401, 401),
    "token_missing": ErrorCode(401, 2002),
    "token_invalid": ErrorCode(401, 2002),
    "token_expired": ErrorCode(401, 2002),
    "token_user_mismatch": ErrorCode(401, 2002),
    "server_key_required": ErrorCode(403, 403),
    "guest_not_allowed": ErrorCode(403, 403),
    "transfer_not_allowed": ErrorCode(403, 403),
    "forbidden": ErrorCode(403, 403),
    "not_found": ErrorCode(404, 404),
    "product_unknown": ErrorCode(404, 404),
    "device_unknown": ErrorCode(404, 404),
    "webhook_unknown": ErrorCode(404, 404),
    "basket_not_found": ErrorCode(404, 2005),
    "product_not_in_basket": ErrorCode(404, 2006),
    "method_not_allowed": ErrorCode(405, 405),
    "version_unsupported": ErrorCode(406, 406),
    "not_acceptable": ErrorCode(406, 406),
    "request_timeout": ErrorCode(408, 3002),
    "body_too_large": ErrorCode(413, 3002),
    "uri_too_long": ErrorCode(414, 3002),
    "unsupported_media_type": ErrorCode(415, 3002),
    "wrong_cell": ErrorCode(421, 404),
    "header_too_large": ErrorCode(431, 3002),
    "validation_failed": ErrorCode(422, 3002),
    "cart_empty": ErrorCode(422, 422),
    "cart_full": ErrorCode(422, 422),
    "saved_full": ErrorCode(422, 422),
    "out_of_stock": ErrorCode(422, 422),
    "no_active_checkout": ErrorCode(422, 422),
    "checkout_already_ordered": ErrorCode(422, 422),
    "checkout_aborted": ErrorCode(422, 422),
    "checkout_expired": ErrorCode(422, 422),
    "order_unknown": ErrorCode(422, 422),
    "consent_missing": ErrorCode(422, 422),
    "idempotency_key_reused": ErrorCode(422, 422),
    "events_purged": ErrorCode(422, 422),
    "events_rewound": ErrorCode(422, 422),
    "webhooks_full": ErrorCode(422, 422),
    "nothing_to_replay": ErrorCode(422, 422),
    "checkout_active": ErrorCode(423, 423),
    "throttled": ErrorCode(429, 503),
    "internal_error": ErrorCode(500, 3001),
    "busy": ErrorCode(503, 503),
    "database_unavailable": ErrorCode(503, 503),
    "outcome_unknown": ErrorCode(503, 503),
    "overloaded": ErrorCode(503, 503),
    "signing_key_unreadable": ErrorCode(503, 503),
    "token_keys_unavailable": ErrorCode(503, 503),
    "migrations_missing": ErrorCode(503, 503),
    "shutting_down": ErrorCode(503, 503),
}
# The reference prints 200, 401 and 422 for finish-active, so it answers no 404.
BASKET_NOT_FOUND_ON_FINISH = ErrorCode(422, 2005)
# The call is open to client keys, so this refusal is like those by the state: it carries the unchanged basket.
SERVER_KEY_REQUIRED_ON_FINISH = ErrorCode(422, 422)
# In a call that reads a session, an unknown order number is a missing resource.
ORDER_NOT_FOUND = ErrorCode(404, 404)

MESSAGES: dict[str, str] = {
    "bad_request": "The request is not well-formed HTTP, or names a host that is not served here.",
    "api_key_missing": "Send your API key in the X-API-Key header.",
    "api_key_invalid": "The API key is not valid.",
    "token_missing": "This key is used with the user's own token: send Authorization: Bearer.",
    "token_invalid": "The bearer token is not valid.",
    "token_expired": "The bearer token has expired.",
    "token_keys_unavailable": "The keys of the token's issuer cannot be had now. Nothing has changed; call again.",
    "token_user_mismatch": "The bearer token belongs to another user.",
    "guest_not_allowed": "This call is for users whom the partner itself knows, and not for guests.",
    "transfer_not_allowed": "This device took the basket over from another one, and may not pass it on.",
    "forbidden": "This is not allowed.",
    "not_found": "There is nothing at this address.",
    "method_not_allowed": "This address does not take this method.",
    "version_unsupported": "This version of the API is not known.",
    "not_acceptable": "Answers are JSON: accept application/json.",
    "request_timeout": "The request did not arrive in time.",
    "body_too_large": "The body is too large.",
    "uri_too_long": "The address is too long.",
    "header_too_large": "A header is too large, or all of them together.",
    "unsupported_media_type": "Send the body as application/json in UTF-8, not compressed.",
    "validation_failed": "The request has fields that are not as they must be.",
    "events_purged": "Events after this token have been purged. Read on without a token, from the oldest event there is.",
    "events_rewound": "This token is of a later moment than the backup that was restored. Read again without a token.",
    "internal_error": "Something went wrong on our side.",
    "database_unavailable": "The service is not available now. Nothing has changed; call again.",
    "outcome_unknown": "The connection to the database was lost: the change may be made or not. Call again: it is safe to repeat.",
    "overloaded": "More calls arrive than can be answered in time. Nothing has changed; call again.",
    "migrations_missing": "The service is being set up.",
    "shutting_down": "This process is about to end. It still answers calls.",
}
MESSAGES |= {refusal.reason: refusal.message for refusal in domain.Refusal.__subclasses__() if refusal.reason in TABLE}

STATE_REFUSALS = frozenset({422, 423})
# Refusals of calls that are about no basket, and carry none.
NO_BASKET_ERRORS = frozenset({"events_purged", "events_rewound", "webhooks_full", "nothing_to_replay"})
RETRY_AFTER_SECONDS = "1"


class ApiError(Exception):
    """A call that the API itself refuses, before or without the domain.

    :param override: the numbers, if they differ from `TABLE`.
    """

    def __init__(
        self,
        reason: str,
        *,
        override: ErrorCode | None = None,
        details: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.override = override
        self.details = details
        self.headers = headers


def invalid(fields: Mapping[str, str]) -> ApiError:
    """Return the refusal of invalid fields.

    :param fields: the rule that each wrong field breaks, by its path.
    """
    return ApiError("validation_failed", details={"fields": dict(fields)})


def error_response(
    reason: str,
    *,
    override: ErrorCode | None = None,
    details: Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> HttpResponse:
    """Return the response for a reason.

    :param override: the numbers, if they differ from `TABLE`.
    :param details: the members of `error.details` beside `reason`.
    :param extra: members beside `error`.
    """
    status, code = override or TABLE[reason]
    if status in {429, 503}:
        headers = {"Retry-After": RETRY_AFTER_SECONDS, **(headers or {})}
    return failure_response(
        status=status,
        code=code,
        reason=reason,
        message=MESSAGES[reason],
        details=details,
        extra=extra,
        headers=headers,
    )


def exception_handler(error: Exception, context: Mapping[str, Any]) -> HttpResponse:
    """Return the response for any exception of a view. DRF calls this."""
    try:
        if isinstance(error, domain.Refusal):
            return response_for_refusal(error, owner=context["view"].owner_or_none)
    except Exception as later:  # noqa: BLE001 (the database may fail while the basket is read for the refusal)
        return response_for_exception(later)
    return response_for_exception(error)


def response_for_refusal(refusal: domain.Refusal, *, owner: Owner | None) -> HttpResponse:
    """Return the response for a refusal of the domain.

    A refusal by the state of the basket carries the basket, which is read after the rollback.

    :param owner: the user whose basket the address names; None where it names none, and the basket is shown as empty.
    """
    override = SERVER_KEY_REQUIRED_ON_FINISH if isinstance(refusal, domain.ServerKeyRequired) else TABLE[refusal.reason]
    extra = None
    if override.status in STATE_REFUSALS and refusal.reason not in NO_BASKET_ERRORS:
        snapshot = read_with_reconnect(lambda: read_basket(owner.basket_id)) if owner else None
        extra = {"data": render_basket(snapshot)}
    headers = {"Retry-After": str(refusal.seconds)} if isinstance(refusal, domain.Throttled) else None
    return error_response(refusal.reason, override=override, details=refusal_details(refusal), extra=extra, headers=headers)


def refusal_details(refusal: domain.Refusal) -> dict[str, Any]:
    """Return the members of `error.details` that a program needs to continue.

    :returns: `items` of too little stock, `activeCheckout` or `lastCheckout`; empty for all other refusals.
    """
    match refusal:
        case domain.OutOfStock(shortages=shortages):
            return {"items": [{"productId": item.product_id, "wanted": item.wanted, "available": item.available} for item in shortages]}
        case domain.CheckoutActive(active=active):
            return {"activeCheckout": {"orderNo": active.order_no, "expires": format_timestamp(active.expires_at)}}
        case domain.NoActiveCheckout(last=CheckoutSession() as last):
            return {
                "lastCheckout": {
                    "orderNo": last.order_no,
                    "status": last.status,
                    "finishedAt": format_timestamp(last.finished_at),
                }
            }
    return {}


# The reasons for exceptions of Django and DRF. The first match counts.
FRAMEWORK_ERRORS: tuple[tuple[tuple[type[Exception], ...], str], ...] = (
    ((Http404, drf.NotFound), "not_found"),
    ((RequestDataTooBig,), "body_too_large"),
    ((SuspiciousOperation, BadRequest, UnreadablePostError, drf.ParseError), "bad_request"),
    ((PermissionDenied, drf.PermissionDenied), "forbidden"),
)


def response_for_exception(error: BaseException) -> HttpResponse:
    """Return the response for any exception except a refusal of the domain."""
    if isinstance(error, ApiError):
        return error_response(error.reason, override=error.override, details=error.details, headers=error.headers)
    if isinstance(error, drf.Throttled):
        wait: float | None = getattr(error, "wait", None)
        return error_response("throttled", headers=None if wait is None else {"Retry-After": str(max(1, round(wait)))})
    for kinds, reason in FRAMEWORK_ERRORS:
        if isinstance(error, kinds):
            return error_response(reason)
    return response_for_db_error(error)


def response_for_db_error(error: BaseException) -> HttpResponse:
    """Return 503 for a failing database and 500 for any unexpected error. The response reveals no internals."""
    if constraint_of(error) == SLOT_CONSTRAINT:
        return error_response("wrong_cell")  # The slot has moved since this process read the slot map.
    fault = fault_of(error)
    if fault is Fault.INTERNAL:
        log.error("unforeseen_error", sqlstate=sqlstate_of(error), **summarize_error(error, sys.exc_info()[2]))
        return error_response("internal_error")
    DATABASE_FAULTS.labels(fault.name.lower()).inc()
    log.warning("database_fault", fault=fault.name, sqlstate=sqlstate_of(error), error=type(error).__qualname__)
    if isinstance(error, OutcomeUnknown):
        return error_response("outcome_unknown")
    return error_response("database_unavailable" if fault is Fault.UNAVAILABLE else "busy")
