"""The admin for staff, inside Django's: it shows every table, changes data by named repairs only, and has no raw edit forms."""

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from baskets.admin import (
    api_keys,
    audit_log,
    baskets,
    checkouts,
    invariants,
    partners,
    products,
    signing_keys,
    timelines,
    token_issuers,
    user_data,
    webhooks,
)
from baskets.admin.auth import accounts
from baskets.admin.core import cells, display

__all__ = [
    "accounts",
    "api_keys",
    "audit_log",
    "baskets",
    "cells",
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

admin.site.site_header = cells.site_header
admin.site.site_title = _("Basket desk")
admin.site.site_url = None  # There is no site beside the admin.
admin.site.index_title = _("Overview")
admin.site.empty_value_display = display.NOTHING
