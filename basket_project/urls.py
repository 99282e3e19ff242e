"""Which part of the service answers an address, and what answers where none does."""

from django.contrib import admin
from django.urls import include, path, re_path

from baskets.api import handlers

urlpatterns = [
    path("admin/", include("baskets.admin.urls")),
    path("admin/", admin.site.urls),
    path("", include("baskets.api.urls")),
    # In debug mode Django would answer an unknown address with a page of its own; this one never reaches it.
    re_path("", handlers.not_found),
]

handler400 = handlers.handler400
handler403 = handlers.handler403
handler404 = handlers.handler404
handler500 = handlers.handler500
