"""The staff desk inside Django admin: everything can be looked at, and nothing is edited as raw fields."""

from django.contrib import admin

from baskets.admin import accounts, baskets, checkouts, devices, display, issuers, partners, products, rules, signing, timelines, webhooks

__all__ = [
    "accounts",
    "baskets",
    "checkouts",
    "devices",
    "display",
    "issuers",
    "partners",
    "products",
    "rules",
    "signing",
    "timelines",
    "webhooks",
]

admin.site.site_header = "Baskets"
admin.site.site_title = "Baskets"
admin.site.index_title = "The desk"
admin.site.empty_value_display = display.NOTHING
