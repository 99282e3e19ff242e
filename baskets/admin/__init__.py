"""The staff desk inside Django admin: everything can be looked at, and nothing is edited as raw fields."""

from django.contrib import admin

from baskets.admin import baskets, checkouts, invariants, partners, products, signing_keys, timelines, token_issuers, user_data, webhooks
from baskets.admin.auth import accounts
from baskets.admin.core import display

__all__ = [
    "accounts",
    "baskets",
    "checkouts",
    "display",
    "invariants",
    "partners",
    "products",
    "signing_keys",
    "timelines",
    "token_issuers",
    "user_data",
    "webhooks",
]

admin.site.site_header = "Baskets"
admin.site.site_title = "Baskets"
admin.site.index_title = "The desk"
admin.site.empty_value_display = display.NOTHING
