"""The `webhooks` section of the schema: the message of each kind of event. Messages carry the events of the feed."""

from typing import Any

from baskets.api.schema.examples import ENDED, WEBHOOK, event_example
from baskets.api.schema.refusals import reference
from baskets.api.serializers.events import EVENTS, MEANINGS, event_name
from baskets.domain.events.webhook_requests import TEST_TYPE

RULES = (
    "Sent by POST to the address of your webhook: at least once, and the events of one basket in their order. Verify "
    "`webhook-signature` with the secret of the webhook before you trust the message, acknowledge at once, and ignore a `webhook-id` "
    "that you have seen."
)
PARAMETERS = {
    "WebhookId": ("webhook-id", "The `id` of the event: stays the same in every attempt.", {"type": "string"}),
    "WebhookTimestamp": ("webhook-timestamp", "The time of the attempt, in seconds since 1970. Refuse an old one.", {"type": "integer"}),
    "WebhookSignature": (
        "webhook-signature",
        "Signatures of id, time, body by [Standard Webhooks](https://www.standardwebhooks.com/), separated by blanks. One must be valid.",
        {"type": "string"},
    ),
}
RESPONSES = {
    "Acknowledged": "The event has arrived. Any status from 200 to 299 will do; the body is not read.",
    "NoMoreEvents": "Nothing more is sent until the webhook is resumed.",
    "TryAgain": "The event is sent again, first after seconds, finally every hour, for three days. `Retry-After` is respected.",
}


def webhook_components() -> dict[str, dict[str, Any]]:
    """Return the components of webhooks, by section and name."""
    parameters = {
        component: {"name": name, "in": "header", "required": True, "description": description, "schema": schema}
        for component, (name, description, schema) in PARAMETERS.items()
    }
    return {"parameters": parameters, "responses": {name: {"description": text} for name, text in RESPONSES.items()}}


def describe_webhooks() -> dict[str, Any]:
    """Return the `webhooks` section: one message for each kind of event."""
    return {kind: {"post": _describe_message(kind)} for kind in EVENTS} | {TEST_TYPE: {"post": _describe_test()}}


def _describe_message(kind: str) -> dict[str, Any]:
    event = event_example(kind)
    return _describe(kind, MEANINGS[kind], data=reference("schemas", event_name(kind)), example=event, at=event["at"])


def _describe_test() -> dict[str, Any]:
    data = {
        "type": "object",
        "required": ["webhookId"],
        "properties": {"webhookId": {"type": "string", "description": "The webhook that is tested."}},
    }
    meaning = "A test message: your back end has requested it. It is of no event and is sent once, whatever you answer."
    return _describe(TEST_TYPE, meaning, data=data, example={"webhookId": WEBHOOK["webhookId"]}, at=ENDED)


def _describe(kind: str, meaning: str, *, data: dict[str, Any], example: dict[str, Any], at: str) -> dict[str, Any]:
    """Return the description of one message.

    :param data: the schema of its `data`.
    :param example: of its `data`.
    :param at: of its `timestamp`.
    """
    message = {
        "type": "object",
        "required": ["type", "timestamp", "data"],
        "properties": {
            "type": {"type": "string", "const": kind, "description": "The kind of the event."},
            "timestamp": {"type": "string", "format": "date-time", "description": "The time of the change."},
            "data": data,
        },
    }
    return {
        "operationId": f"on_{kind}",
        "summary": meaning.partition(":")[0].rstrip("."),
        "description": f"{meaning} {RULES}",
        "tags": ["events"],
        "security": [],
        "parameters": [reference("parameters", name) for name in PARAMETERS],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": message,
                    "examples": {"message": {"value": {"type": kind, "timestamp": at, "data": example}}},
                }
            },
        },
        "responses": {
            "2XX": reference("responses", "Acknowledged"),
            "410": reference("responses", "NoMoreEvents"),
            "4XX": reference("responses", "TryAgain"),
            "5XX": reference("responses", "TryAgain"),
        },
    }
