"""Authenticates the caller of an API viewset and checks everything that does not depend on the content of the call."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

from django.core.exceptions import TooManyFieldsSent
from django.http import HttpRequest, QueryDict
from django.http.response import HttpResponseBase
from django.utils.functional import cached_property
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.viewsets import ViewSet

from baskets import conf, tracing
from baskets.api.auth.api_keys import CachedKeyGuard, CachedKeyStale, Caller, authenticate_key
from baskets.api.auth.permissions import BearerTokenOfClientKeys
from baskets.api.auth.throttling import ApiKeyThrottle, rate_limit_of, throttle_failure
from baskets.api.exceptions import ApiError, exception_handler, invalid
from baskets.api.long_polling import suspension_of
from baskets.api.middleware import request_id_of
from baskets.api.protocol.negotiation import accepts_json
from baskets.api.protocol.versioning import requested_version
from baskets.api.tracking import read_tracking
from baskets.domain import slots
from baskets.domain.actors import Actor, ActorKind
from baskets.domain.errors import WrongCell
from baskets.models.basket_snapshot import Owner


class AuthenticatedViewSet(ViewSet):
    """Authenticates the caller by its API key, and checks what it may do. See Note [Cached keys] in `baskets.api.auth.api_keys`.

    # Note [Order of checks]
    # DRF checks Accept before it authenticates. Partners rely on this order: path (404, the resolver), method (405), version
    # (406), key (401), token (401), other permissions (403), Accept (406), then media type (415), size (413) and content (422),
    # then idempotency, throttle and state. `initial` goes as far as Accept, and then refuses a call
    # for another cell (421); `ApiViewSet.validated`, the first line of every action, goes as far as the throttle; the domain
    # operation refuses by the state.

    # Note [Dispatch]
    # DRF's own dispatch takes a tenth of the instructions of a call: for a second request object, and for a choice of parsers and
    # renderers where there is none. Here `request` is Django's request with two of the attributes that DRF's class has, `user` and
    # `auth`. Of DRF the viewsets use the routing to actions, authentication, permissions, throttles, serializers and the schema.
    """

    permission_classes: Sequence[type[BasePermission]] = (BearerTokenOfClientKeys,)
    throttle_classes = (ApiKeyThrottle,)
    # Whether the key check may wait for the first round trip of the action. See Note [Cached keys].
    defers_key_check = False
    # Pictures are requested with another Accept.
    answers_json = True
    # Actions exempt from rate limiting, because the caller may be retrying after a payment or a lost response.
    never_throttled: frozenset[str] = frozenset()
    action_map: dict[str, str]
    # None until the caller is authenticated, and for calls that need no key.
    key_guard: CachedKeyGuard | None = None
    # Whether this call was counted against the limit of its key, or need not be.
    _is_throttle_checked = False

    @classmethod
    def as_view(cls, actions: dict[str, Any], **attributes: Any) -> Callable[..., HttpResponseBase]:  # type: ignore[override]
        """Return the view of an address, with the marks of DRF's own.

        DRF's would store each action in the object a second time, as a bound method: a cycle, which only the garbage collector frees.

        :param actions: the names of the actions by their methods in lower case; GET answers HEAD as well.
        """
        actions = {**actions, "head": actions["get"]} if "get" in actions else actions

        @functools.wraps(super().as_view(actions, **attributes))
        def view(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            self = cls(**attributes)
            self.action_map = actions
            self.request, self.args, self.kwargs = request, args, kwargs  # type: ignore[assignment] # See Note [Dispatch].
            return self.dispatch(request, *args, **kwargs)

        return view

    @property
    def allowed_methods(self) -> list[str]:
        """The methods of this address. OPTIONS is not one of them."""
        return sorted(method.upper() for method in self.action_map)

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Check the call and run its action. See Note [Dispatch]."""
        call: Request = request  # type: ignore[assignment] # See Note [Dispatch].
        call.user, call.auth = None, None  # type: ignore[assignment] # Before the key is known, and for calls that need none.
        self.action = self.action_map.get((request.method or "").lower(), "")
        try:
            self.initial(call, *args, **kwargs)
            response: HttpResponseBase = getattr(self, self.action)(call, *args, **kwargs)
        except Exception as error:  # noqa: BLE001 (every exception has a response)
            response = self.handle_exception(error)
        finally:
            self.key_guard = None  # It refers to this object: a cycle, too.
        return response

    def perform_authentication(self, request: Request) -> None:
        """Authenticate the caller, where the call needs a key."""
        for authenticator in self.get_authenticators():
            request.user, request.auth = authenticator.authenticate(request)  # type: ignore[misc] # It raises where there is no caller.

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Check everything that does not depend on the content. See Note [Order of checks].

        :raises ApiError: `method_not_allowed`, `version_unsupported`, `not_acceptable`, or a refusal of the key or the token.
        """
        if not self.action:
            raise ApiError("method_not_allowed", headers={"Allow": ", ".join(self.allowed_methods)})
        if requested_version(request) is None:
            raise ApiError("version_unsupported")
        self.perform_authentication(request)
        if isinstance(request.user, Caller):
            self._check_caller()
        if self.answers_json and not accepts_json(request.META.get("HTTP_ACCEPT")):
            raise ApiError("not_acceptable")
        if conf.cell() and (key := self.routing_key) is not None:
            partner_id = self.caller.partner_id if isinstance(request.user, Caller) else None
            if not slots.is_in_this_cell(key, partner_id=partner_id):
                raise WrongCell

    def _check_caller(self) -> None:
        self.key_guard = CachedKeyGuard(self.caller, refresh=self._authenticate_without_cache)
        try:
            # A call that counts must be counted for its true key.
            if not self.defers_key_check or rate_limit_of(self.caller):
                self.key_guard.verify()
            try:
                self.check_permissions(self.request)
            except ApiError:
                self.key_guard.verify()
                raise
        except CachedKeyStale as stale:
            stale.prepare()

    def verify_key(self) -> None:
        """Verify the cached key, if no unit of work has done so.

        :raises ApiError: the key is not valid any more, or the caller that it names now may not make this call.
        """
        try:
            if self.key_guard:
                self.key_guard.verify()
        except CachedKeyStale as stale:
            stale.prepare()

    def _authenticate_without_cache(self) -> None:
        """Replace the caller by the one that the database knows now, and check what the new caller may do.

        :raises ApiError: the key is not valid any more, or the new caller may not make this call.
        """
        request = self.request
        request.user = None  # type: ignore[assignment] # The log names no caller whose key is not valid.
        request.user = authenticate_key(request, use_cache=False)  # type: ignore[assignment]
        self.__dict__.pop("owner", None)
        self.__dict__.pop("actor", None)
        self.check_permissions(request)
        if self._is_throttle_checked:
            self.check_throttles(request)

    def handle_exception(self, exc: Exception) -> HttpResponseBase:  # type: ignore[override] # DRF's is a subclass.
        """Convert an exception into its response, but verify the cached key first: nothing is revealed to a revoked key.

        A failure of the database (5xx) reveals nothing, so the key is not looked up for it: that might fail as well.
        """
        response = self._exception_response(exc)
        if self.key_guard and (response.status_code < 500 or self.key_guard.is_received):
            try:
                self.verify_key()
            except Exception as refusal:  # noqa: BLE001 (the key is refused, or its lookup failed)
                return self._exception_response(refusal)
        return response

    def _exception_response(self, exc: Exception) -> HttpResponseBase:
        if isinstance(exc, ApiError):
            exc = throttle_failure(self.request, exc, exempt=self.action in self.never_throttled)
        return exception_handler(exc, {"view": self})

    @property
    def routing_key(self) -> str | None:
        """What a proxy chooses the cell of the call by; None where each cell can answer. See ADR 56."""
        return self.kwargs.get("user_id") or self.kwargs.get("image")

    # --- The caller ---

    @property
    def caller(self) -> Caller:
        """The caller, where the call needs a key."""
        caller: Caller = self.request.user  # type: ignore[assignment] # The views of people are elsewhere.
        return caller

    @cached_property
    def owner(self) -> Owner:
        """The user whose basket the address names."""
        return Owner(partner_id=self.caller.partner_id, user_id=self.kwargs["user_id"])

    @property
    def owner_or_none(self) -> Owner | None:
        """The user whose basket the address names, where it names one."""
        return self.owner if "user_id" in self.kwargs else None

    @cached_property
    def actor(self) -> Actor:
        """The caller as the author of events."""
        return Actor(
            kind=ActorKind.KEY,
            name=self.caller.prefix,
            request_id=request_id_of(self.request),
            tracking=read_tracking(self.request, provider_id=next(iter(self.query("provider_id")), None)) | tracing.event_context(),
            may_order=self.caller.may_order,
        )

    @property
    def query_params(self) -> QueryDict:
        """The query of the call.

        :raises ApiError: `validation_failed`: it has too many fields.
        """
        try:
            return self.request.GET
        except TooManyFieldsSent:
            raise invalid({"query": "Must not have so many fields."}) from None

    def query(self, name: str) -> list[str]:
        """Return all values of a field of the query."""
        return self.query_params.getlist(name) if self.request.META.get("QUERY_STRING") else []

    def count_call(self) -> None:
        """Count the call against the limit of its key: the last check before the state.

        :raises Throttled: the limit of the key is reached.
        """
        suspension = suspension_of(self.request)
        if suspension and suspension.was_suspended:
            return  # It was counted before it waited.
        self.check_throttles(self.request)
        self._is_throttle_checked = True
