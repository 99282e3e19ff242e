"""The base of all API viewsets: the way from a request to one unit of work, and back to a response."""

import functools
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any, ParamSpec, TypeVar, cast

from django.http import HttpResponse
from rest_framework.exceptions import ValidationError

from baskets import conf
from baskets.api.exceptions import ApiError, invalid
from baskets.api.idempotency import REPLAYED, RULE, fingerprint_of, is_key, key_of
from baskets.api.parsers import parse_json, read_body
from baskets.api.protocol.envelope import json_response, success_body
from baskets.api.protocol.identifiers import path_errors
from baskets.api.serializers.requests import RequestSerializer
from baskets.api.serializers.validation import errors_by_path, validate_body
from baskets.api.views.authenticated import AuthenticatedViewSet
from baskets.domain import runner
from baskets.domain.access.client_limits import ClientLimits
from baskets.domain.idempotency import IdempotencyKey, StoredResponse
from baskets.net.client_address import client_source

P = ParamSpec("P")
T = TypeVar("T")

# Longer bodies differ from call to call.
MAX_RECURRING_BYTES = 40
FLAG_VALUES: tuple[list[str], ...] = ([], ["false"], ["true"])


class ApiViewSet(AuthenticatedViewSet):
    """The base of all viewsets. An action validates, executes or reads, and responds. See Note [Order of checks]."""

    # Responses with secrets are stored for no key.
    takes_idempotency_key = True
    # The JSON value of the body, once it was read.
    content: Any = None

    def query_flag(self, name: str) -> bool:
        """Return a field of the query that is `true` or `false`; an absent one is false."""
        return self.query(name) == ["true"]

    def validated(self, serializer: type[RequestSerializer] | None = None, *, flag: str | None = None) -> Mapping[str, Any]:
        """Check the content of the call, count it against the limit of its key, and return the fields of the body.

        One response names everything that is invalid.

        :param serializer: checks the body; None for a call whose body is not read.
        :param flag: the name of a field of the query that must be `true` or `false`.
        :raises ApiError: `unsupported_media_type`, `body_too_large`, `validation_failed`.
        :raises Throttled: the limit of the key is reached.
        """
        raw = b"" if serializer is None else read_body(self.request)
        wrong = path_errors(self.kwargs)
        if flag is not None and self.query(flag) not in FLAG_VALUES:
            wrong[flag] = "Must be true or false."
        data: Mapping[str, Any] = {}
        if serializer is not None:
            if self.takes_idempotency_key and (key := key_of(self.request)) is not None and not is_key(key):
                wrong["Idempotency-Key"] = RULE
            data, wrong_in_body = self._validated_body(serializer, raw)
            wrong |= wrong_in_body
        if wrong:
            raise invalid(wrong)
        self.count_call()
        return data

    def _validated_body(self, serializer: type[RequestSerializer], raw: bytes) -> tuple[Mapping[str, Any], dict[str, str]]:
        """Return the fields of the body, and the rules that it breaks by the path of the field."""
        read = _read_recurring if serializer.recurs and len(raw) <= MAX_RECURRING_BYTES else _read_object
        try:
            self.content, data = read(serializer, raw, conf.piece_limit())
        except ApiError as error:
            return {}, dict((error.details or {})["fields"])
        except ValidationError as wrong:
            return {}, dict(errors_by_path(cast("dict[str, Any]", wrong.detail)))
        return data, {}

    def read(self, query: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a query outside of any transaction, and verify the cached key in the same round trip.

        :param query: reads `self.owner` itself if it needs the owner: the owner may change with the key.
        """
        return runner.read(partial(query, *args, **kwargs), guard=self.key_guard)

    def execute(
        self,
        operation: Callable[..., T],
        *,
        render: Callable[[T], Any],
        shortcut: Callable[..., runner.PendingShortcut[T]] | None = None,
        counts_for_client: bool = False,
        **arguments: Any,
    ) -> StoredResponse:
        """Run a domain operation as one unit of work, once per Idempotency-Key.

        :param operation: called with `owner`, `actor` and the arguments, in each attempt. An Idempotency-Key is bound to the
            argument `test_mode` as well, because that comes from the query.
        :param render: converts the result into the `data` of the response. It runs after COMMIT, unless the response is stored.
        :param shortcut: called with `owner` and `actor` before the operation, without an Idempotency-Key. See `runner.run_with_shortcut`.
        :param counts_for_client: whether operation and shortcut take `limits`: what a client key counts against, or None.
        :returns: the response of this call, or the stored response of the call that this one repeats.
        :raises Refusal: the operation refused.
        """
        limits = ClientLimits(key=self.caller.prefix, source=partial(client_source, self.request)) if counts_for_client else None
        call = partial(self._call, operation, arguments, limits)
        with limits.returned_on_failure() if limits else nullcontext():
            if not self.takes_idempotency_key or key_of(self.request) is None:
                if shortcut:
                    result = runner.run_with_shortcut(partial(self._call, shortcut, {}, limits), call, guard=self.key_guard)
                else:
                    result = runner.run_guarded(call, guard=self.key_guard)
                return StoredResponse(status=200, body=success_body(render(result)))
            test_mode = bool(arguments.get("test_mode"))
            key = partial(self._idempotency_key, fingerprint_of(self.request, content=self.content, test_mode=test_mode))
            response = runner.run_once(partial(_rendered, call, render), key=key, guard=self.key_guard)
            if limits and response.replayed:
                limits.return_counts()  # An earlier attempt was counted before another call with the same Idempotency-Key won.
            return response

    def _call(self, operation: Callable[..., T], arguments: Mapping[str, Any], limits: ClientLimits | None, **more: Any) -> T:
        if limits:
            # In each attempt: the kind of the key may change with the caller.
            arguments = {**arguments, "limits": limits if self.caller.is_client_key else None}
        return operation(owner=self.owner, actor=self.actor, **arguments, **more)

    def _idempotency_key(self, fingerprint: bytes) -> IdempotencyKey:
        return IdempotencyKey(basket_id=self.owner.basket_id, key=key_of(self.request) or "", fingerprint=fingerprint)

    def respond(self, content: Any, *, next_token: str | None = None) -> HttpResponse:
        """Return the response of a call that was done.

        :param content: the result of `execute`, or the `data` of a read.
        :param next_token: the token of the next page, if there is one.
        """
        self.verify_key()
        if isinstance(content, StoredResponse):
            headers = {REPLAYED: "true"} if content.replayed else None
            return json_response(content.body, status=content.status, headers=headers)
        return json_response(success_body(content, next_token=next_token))


def _read_object(serializer: type[RequestSerializer], raw: bytes, piece_limit: int) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """Read a body, which must be a JSON object; an empty one is an empty object.

    :param piece_limit: the setting that rules of fields depend on.
    :returns: the object, and its fields.
    :raises ApiError: `validation_failed`: it is something else.
    :raises ValidationError: a field breaks its rule.
    """
    content = parse_json(raw) if raw else {}
    if not isinstance(content, dict):
        raise invalid({"body": "Must be an object."})
    return content, validate_body(serializer, content, piece_limit)


_read_recurring = functools.lru_cache(maxsize=256)(_read_object)


def _rendered(call: Callable[[], T], render: Callable[[T], Any]) -> str:
    return success_body(render(call()))
