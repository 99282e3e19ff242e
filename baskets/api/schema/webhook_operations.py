"""Describes the operations on webhooks for the schema."""

from functools import partial

from baskets.api.schema.components import Access, body_examples, describe_operation, link_to
from baskets.api.serializers import webhooks

# Of all webhooks of a partner, and of one.
describe_webhooks_operation = partial(describe_operation, tag="webhooks", access=Access.SERVER_KEY)
describe_webhook_operation = partial(describe_webhooks_operation, path=("webhook_id",))

list_webhooks = describe_webhooks_operation(
    "listwebhooks",
    "List webhooks",
    """
Lists all webhooks of the partner, with their state and the last failure. Secrets are not shown. For back ends.
""",
    response=webhooks.WebhookList,
    writes=False,
)
create_webhook = describe_webhooks_operation(
    "createwebhook",
    "Create a webhook",
    """
Begins to post events to a URL: those from now on, or all that the feed still has. Returns the `secret` that verifies them, once. The
response is a secret and is stored for no Idempotency-Key: after a lost response, look for the URL in the list, and rotate the secret of
that webhook or delete it. A partner has 16 webhooks at most, unless the operator has set another number. For back ends.
""",
    response=webhooks.WebhookWithSecret,
    takes_idempotency_key=False,
    body=webhooks.CreateWebhookRequest,
    body_examples=body_examples(
        all={"url": "https://shop.example.com/hooks/baskets"},
        some={"url": "https://shop.example.com/hooks/orders", "kinds": ["checkout_ordered", "checkout_ordered_late"], "label": "orders"},
    ),
    requires_body=True,
    refusals=["webhooks_full"],
    links={"test": link_to("testwebhook", "Send a test message to it.", webhookId="$response.body#/data/webhookId")},
)
get_webhook = describe_webhook_operation(
    "getwebhook",
    "Get a webhook",
    """
Returns one webhook of the partner with its state and the last failure, but without its secret. For back ends.
""",
    response=webhooks.Webhook,
    writes=False,
    refusals=["webhook_unknown"],
)
change_webhook = describe_webhook_operation(
    "updatewebhook",
    "Change, pause or resume a webhook",
    """
Changes the members that are present. Deliveries follow within seconds; until then, an event may still go to the former URL. A new URL
ends the wait after failures. `active` pauses the webhook, or resumes it after a pause, after it was given up, and while it waits. The
events of the time in between are delivered then. For back ends.
""",
    response=webhooks.Webhook,
    body=webhooks.ChangeWebhookRequest,
    body_examples=body_examples(
        move={"url": "https://shop.example.com/hooks/new"}, pause={"active": False}, resume={"active": True}, all_kinds={"kinds": []}
    ),
    refusals=["webhook_unknown"],
)
delete_webhook = describe_webhook_operation(
    "deletewebhook",
    "Delete a webhook",
    """
Ends a webhook for good, with its secrets, and returns those that are left. Deliveries end within seconds. A second call gets
`webhook_unknown`, unless it repeats the Idempotency-Key of the first. For back ends.
""",
    response=webhooks.WebhookList,
    refusals=["webhook_unknown"],
)
rotate_webhook_secret = describe_webhook_operation(
    "rotatewebhooksecret",
    "Give a webhook a new secret",
    """
Returns a new `secret`, once. For the time of the overlap, each message has one signature by the new secret and one by each of the last
four before it, so a receiver may change over at any moment. After a lost response, call again: the secret that your receiver knows still
signs. The response is a secret and is stored for no Idempotency-Key. Messages have the new signature within seconds. For back ends.
""",
    response=webhooks.WebhookWithSecret,
    takes_idempotency_key=False,
    body=webhooks.RotateSecretRequest,
    body_examples=body_examples(overlap_of_a_day={}, overlap_of_an_hour={"overlapSeconds": 3600}, leaked={"overlapSeconds": 0}),
    refusals=["webhook_unknown"],
)
test_webhook = describe_webhook_operation(
    "testwebhook",
    "Send a test message",
    """
Posts a signed message of the type `webhook_test` to the URL within seconds, also if the webhook is paused or was given up. It is sent
once, whatever the response; the list of deliveries shows the outcome. For back ends.
""",
    response=webhooks.Webhook,
    refusals=["webhook_unknown"],
    links={"outcome": link_to("listdeliveries", "Read the outcome after some seconds.", webhookId="$request.path.webhookId")},
)
replay_webhook = describe_webhook_operation(
    "replaywebhook",
    "Deliver events again",
    """
Delivers all events since a time again, each with the same `webhook-id`, and makes the webhook active. Events that were purged do not come
again. Use it after your receiver has lost data. For back ends.
""",
    response=webhooks.Webhook,
    body=webhooks.ReplayWebhookRequest,
    body_examples=body_examples(since_noon={"since": "2026-11-24T12:00:00Z"}),
    requires_body=True,
    refusals=["webhook_unknown", "nothing_to_replay"],
)
list_deliveries = describe_webhook_operation(
    "listdeliveries",
    "List the latest deliveries of a webhook",
    """
Lists the latest requests to the URL with their status and time, the newest first: up to 50 that were acknowledged, and up to 50 that were
not, so that a failure stays visible among many successes. For back ends.
""",
    response=webhooks.DeliveryList,
    writes=False,
    refusals=["webhook_unknown"],
)
