"""The addresses of the API, and the views that serve them. The guides print the same calls under `/v2`."""

from django.urls import include, path

from baskets.api.views import api_docs, guests, guides, health, metrics, transfers
from baskets.api.views.baskets import BasketViewSet, ProductViewSet
from baskets.api.views.comfort import ComfortViewSet
from baskets.api.views.devices import DeviceViewSet
from baskets.api.views.reporting import BackendViewSet
from baskets.api.views.webhooks import WebhookSecretViewSet, WebhookViewSet

api_patterns = [
    # Django tries them in this order: what a crowd calls comes first.
    path("baskets/users/<user_id>/checkout/sessions/finish-active", BasketViewSet.as_view({"post": "finish_active"})),
    path("baskets/users/<user_id>/checkout/sessions", BasketViewSet.as_view({"post": "start"})),
    path(
        "baskets/users/<user_id>/products/<product_id>",
        BasketViewSet.as_view({"post": "place", "patch": "change", "delete": "remove"}),
    ),
    path("baskets/users/<user_id>", BasketViewSet.as_view({"get": "retrieve", "delete": "destroy"})),
    path("baskets/users/<user_id>/checkout/sessions/<order_no>", BasketViewSet.as_view({"get": "session"})),
    path("baskets/users/<user_id>/transfer", transfers.TransferViewSet.as_view({"post": "create"})),
    path("baskets/users/<user_id>/devices", DeviceViewSet.as_view({"get": "show"})),
    path("baskets/users/<user_id>/devices/<device_id>", DeviceViewSet.as_view({"delete": "revoke"})),
    path("baskets/users/<user_id>/comfort", ComfortViewSet.as_view({"get": "show", "patch": "change"})),
    path("baskets/transfers/<image>", transfers.TransferImageViewSet.as_view({"get": "show"})),
    path("baskets/guests", guests.GuestViewSet.as_view({"post": "create"})),
    path("baskets/.well-known/jwks.json", guests.KeyViewSet.as_view({"get": "show"})),
    path("baskets", BackendViewSet.as_view({"get": "baskets"})),
    path("baskets/checkout/sessions", BackendViewSet.as_view({"get": "sessions"})),
    path("baskets/events", BackendViewSet.as_view({"get": "events"})),
    path("baskets/webhooks", WebhookSecretViewSet.as_view({"get": "index", "post": "create"})),
    path("baskets/webhooks/<webhook_id>", WebhookViewSet.as_view({"get": "show", "patch": "change", "delete": "destroy"})),
    path("baskets/webhooks/<webhook_id>/deliveries", WebhookViewSet.as_view({"get": "deliveries"})),
    path("baskets/webhooks/<webhook_id>/replay", WebhookViewSet.as_view({"post": "replay"})),
    path("baskets/webhooks/<webhook_id>/rotate-secret", WebhookSecretViewSet.as_view({"post": "rotate"})),
    path("baskets/webhooks/<webhook_id>/test", WebhookViewSet.as_view({"post": "test"})),
    path("baskets/products/details", ProductViewSet.as_view({"post": "details"})),
]

urlpatterns = [
    *api_patterns,
    path("v2/", include(api_patterns)),
    path("", api_docs.other_spelling, {"path": "/docs"}),
    path("livez", health.livez),
    path("readyz", health.readyz),
    path("metrics", metrics.metrics),
    path("schema", api_docs.schema, name="schema"),
    path("docs", guides.guide, name="guides"),
    path("docs/try-it", api_docs.docs, name="try-it"),
    path("docs/", guides.guide, {"name": "start/"}),
    path("docs/try-it/", api_docs.other_spelling, {"path": "/docs/try-it"}),
    path("docs/<path:name>", guides.guide),
    path("redoc", api_docs.redoc, name="redoc"),
    path("redoc/", api_docs.other_spelling, {"path": "/redoc"}),
    path("admin", api_docs.other_spelling, {"path": "/admin/"}),
]
