"""What all API calls have in common: the order of their checks, and the way from a request to one domain call."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any, TypeVar, cast

from django.core.exceptions import TooManyFieldsSent
from django.http import HttpRequest, HttpResponse, QueryDict
from django.http.response import HttpResponseBase
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.viewsets import ViewSet

from baskets.api.auth.api_keys import Caller, KeyChanged, confirm, look_up
from baskets.api.auth.bearer import check_token, require_known_user
from baskets.api.auth.throttling import limit_of, slowed_down, take_turn
from baskets.api.exceptions import ApiError, invalid
from baskets.api.idempotency import (
    REPLAYED,
    RULE,
    fingerprint_of,
    is_key,
    key_of,
    perform,
)
from baskets.api.middleware import request_id_of
from baskets.api.parsers import parse_json, read_body
from baskets.api.protocol.envelope import json_response, success_body
from baskets.api.protocol.identifiers import path_errors
from baskets.api.protocol.negotiation import accepts_json
from baskets.api.protocol.versioning import requested_version
from baskets.api.serializers.validation import errors_by_path, validate_body
from baskets.api.tracking import read_tracking
from baskets.db.errors import read_with_reconnect
from baskets.db.pipeline import PendingResult, pipeline
from baskets.domain.access.bearer_tokens import BearerUser
from baskets.domain.access.client_limits import ClientLimits
from baskets.domain.actors import Actor, ActorKind
from baskets.models.basket_snapshot import Owner
from baskets.net.client_address import client_source

T = TypeVar("T")

SWITCH_VALUES: tuple[list[str], ...] = ([], ["false"], ["true"])


class ApiViewSet(ViewSet):
    """The base of all viewsets.

    # Note [Order of checks]
    # DRF looks at Accept before it knows who asks. Partners rely on: path (404, the resolver), method (405), version
    # (406), key (401), token (401), kind of key (403), Accept (406), then media type (415), size (413) and content (422), then
    # idempotency, throttle and state. `initial` goes as far as Accept; `read`, the first line of every action, does the
    # rest up to the throttle, for which a repeat whose answer is remembered does not count; the domain call says what
    # the state allows.
    """

    key_required = True
    token_required = True
    # Who is calling, where a key is required.
    caller: Caller
    # Whom the token of the call names, where one was sent.
    bearer: BearerUser | None = None
    # Answers that are secrets are stored for no key.
    takes_idempotency_key = True
    # Calls for back ends: no token opens them to a key inside an app, so none is asked for.
    server_only = False
    # Calls for users whom the partner itself knows: a token of its own issuers is needed with every key.
    known_users_only = False
    # What a browser shows as a picture is asked for as one.
    answers_json = True
    # Actions that are answered however often a key calls: whoever asks may hold a payment, or have lost an answer.
    never_throttled: frozenset[str] = frozenset()
    # Calls that ask for their key together with what they ask first; see Note [Presumed, then confirmed].
    confirms_late = False
    # Whether the key may still turn out to be another than it was.
    may_presume = True
    _presumed: Caller | None = None
    _looked_up: PendingResult | None = None
    action_map: dict[str, str]
    # The JSON value of the body, once it was read.
    content: Any = None

    @property
    def allowed_methods(self) -> list[str]:
        """The methods this address takes. OPTIONS is none of them."""
        return sorted(method.upper() for method in self.action_map)

    @property
    def default_response_headers(self) -> dict[str, str]:
        """Nothing of DRF's: answers are JSON always, and `Allow` belongs to a 405."""
        return {}

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Answer a call; begin again where its key is not what was presumed of it."""
        try:
            response = super().dispatch(request, *args, **kwargs)
            # A failure says nothing to anybody; but where the key was found to have changed, that comes first.
            if response.status_code < 500 or (self._looked_up and self._looked_up.is_received):
                self._make_certain()
        except KeyChanged:
            self.may_presume, self._presumed = False, None
            request.user = None  # type: ignore[assignment] # As DRF has it for a caller who is not known.
            self.__dict__.pop("owner", None)
            return super().dispatch(request, *args, **kwargs)
        return response

    def handle_exception(self, exc: Exception) -> Response:
        """Answer what an action raised, but for a key that is not what was presumed of it."""
        if isinstance(exc, KeyChanged):
            raise exc
        return super().handle_exception(exc)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Check who is calling, and how. See Note [Order of checks]."""
        if (request.method or "").lower() not in self.action_map:
            raise ApiError("method_not_allowed", headers={"Allow": ", ".join(self.allowed_methods)})
        if requested_version(request) is None:
            raise ApiError("version_unsupported")
        if self.key_required:
            self._authenticate(request, user_id=kwargs.get("user_id"))
            if self.server_only and self.caller.in_an_app:
                raise ApiError("server_key_required")
            if self.known_users_only:
                require_known_user(self.bearer)
        if self.answers_json and not accepts_json(request.META.get("HTTP_ACCEPT")):
            raise ApiError("not_acceptable")

    def _authenticate(self, request: Request, *, user_id: str | None) -> None:
        try:
            self.perform_authentication(request)
            self.caller = cast("Caller", request.user)
            self._presumed = self.caller if self.caller.presumed else None
            # A body that comes in pieces cannot be read a second time, and no call may be counted twice.
            if not self.confirms_late or "HTTP_TRANSFER_ENCODING" in request.META or limit_of(self.caller):
                self._make_certain()
            self.bearer = check_token(request, caller=self.caller, user_id=user_id, required_of_apps=self.token_required)
        except ApiError as refusal:
            raise slowed_down(request, refusal, never=self.action in self.never_throttled) from None

    def _confirming(self, step: Callable[[], T]) -> T:
        """Do what asks the database for something, and look the key up together with that. See Note [Presumed, then confirmed].

        :raises KeyChanged: it is not what was presumed of it.
        """
        if self._presumed:
            self._looked_up = look_up(self._presumed.prefix)
        try:
            result = step()
        except Exception:
            # What is raised may be acted upon, as a refusal that flags a basket for staff is.
            if self._looked_up and self._looked_up.is_received:
                self._make_certain()
            raise
        self._make_certain()
        return result

    def _make_certain(self) -> None:
        """Confirm the key, unless that is done; look it up now, if nothing that was asked has done so.

        :raises KeyChanged: it is not what was presumed of it.
        """
        if presumed := self._presumed:
            if self._looked_up is None or not self._looked_up.is_received:
                self._looked_up = read_with_reconnect(lambda: look_up(presumed.prefix))
            confirm(presumed, self._looked_up)
            self._presumed = None

    @cached_property
    def owner(self) -> Owner:
        """Whose basket the address names."""
        return Owner(partner_id=self.caller.partner_id, user_id=self.kwargs["user_id"])

    @property
    def actor(self) -> Actor:
        """The caller, as the timeline will name it."""
        return Actor(
            kind=ActorKind.KEY,
            name=self.caller.prefix,
            request_id=request_id_of(self.request),
            tracking=read_tracking(self.request, provider_id=next(iter(self.query("provider_id")), None)),
        )

    @property
    def query_params(self) -> QueryDict:
        """The parameters of the query.

        :raises ApiError: `validation_failed`: they are more than Django reads.
        """
        try:
            return self.request.query_params
        except TooManyFieldsSent:
            raise invalid({"query": "Must not have so many fields."}) from None

    def query(self, name: str) -> list[str]:
        """Read a parameter of the query, as often as it is given."""
        return self.query_params.getlist(name)

    def switch(self, name: str) -> bool:
        """Read a field of the query that is `true` or `false` and nothing else; absent, it is off."""
        return self.query(name) == ["true"]

    def read(self, body: type[BaseSerializer[Any]] | None = None, *, switch: str | None = None) -> Mapping[str, Any]:
        """Check the content of a call, and return the fields of its body.

        Everything that is wrong is named in one answer.

        :param body: what the body must be like; None for a call that reads none.
        :param switch: the name of a field of the query that must be `true` or `false`.
        :raises ApiError: unsupported_media_type, body_too_large, validation_failed, throttled.
        """
        raw = b"" if body is None else read_body(self.request)
        wrong = path_errors(self.kwargs)
        if switch is not None and self.query(switch) not in SWITCH_VALUES:
            wrong[switch] = "Must be true or false."
        fields: Mapping[str, Any] = {}
        if body is not None:
            if self.takes_idempotency_key and (key := key_of(self.request)) is not None and not is_key(key):
                wrong["Idempotency-Key"] = RULE
            fields, in_body = self._fields(body, raw)
            wrong |= in_body
        if wrong:
            raise invalid(wrong)
        self.take_turn(may_be_a_repeat=body is not None and "user_id" in self.kwargs)
        return fields

    def take_turn(self, *, may_be_a_repeat: bool = False) -> None:
        """Count this call against the limit of its key: the last check before the state.

        :param may_be_a_repeat: whether an Idempotency-Key has a say in this call.
        :raises ApiError: throttled.
        """
        if self.key_required and self.action not in self.never_throttled:
            basket_id = self.owner.basket_id if may_be_a_repeat else None
            take_turn(self.request, caller=self.caller, basket_id=basket_id)

    @contextmanager
    def client_limits(self) -> Iterator[ClientLimits | None]:
        """What this call counts against, where its key is a client key; returned where the call is not done."""
        if not self.caller.in_an_app:
            yield None
            return
        with ClientLimits(key=self.caller.prefix, source=client_source(self.request)).returned_on_failure() as limits:
            yield limits

    def _fields(self, body: type[BaseSerializer[Any]], raw: bytes) -> tuple[Mapping[str, Any], dict[str, str]]:
        try:
            self.content = parse_json(raw) if raw else {}
        except ApiError as error:
            return {}, dict((error.details or {})["fields"])
        if not isinstance(self.content, dict):
            return {}, {"body": "Must be an object."}
        try:
            return validate_body(body, self.content), {}
        except ValidationError as wrong:
            return {}, dict(errors_by_path(cast("dict[str, Any]", wrong.detail)))

    def ask(self, question: Callable[[], T]) -> T:
        """Ask the database for something, outside of any transaction."""

        def asked() -> T:
            with pipeline():
                return self._confirming(question)

        return read_with_reconnect(asked)

    def perform(self, operation: Callable[[], Any], *, switched: bool = False) -> HttpResponse:
        """Do one domain call in its transaction and answer with what it returns, once per Idempotency-Key.

        :param operation: makes the domain call and shows its result.
        :param switched: the value of the call's switch, to which an Idempotency-Key is bound as well.
        """
        request = self.request
        done = perform(
            lambda: success_body(self._confirming(operation)),
            basket_id=self.owner.basket_id,
            key=key_of(request),
            fingerprint=lambda: fingerprint_of(request, content=self.content, test_mode=switched),
        )
        return json_response(done.body, status=done.status, headers={REPLAYED: "true"} if done.replayed else None)
