"""Which part of the service answers an address, and what answers where none does."""

from django.contrib import admin
from django.urls import include, path, re_path

from baskets.api.views import error_pages

urlpatterns = [
    path("admin/", include("baskets.admin.urls")),
    path("admin/", admin.site.urls),
    path("", include("baskets.api.urls")),
    # In debug mode Django would answer an unknown address with a page of its own; this one never reaches it.
    re_path("", error_pages.not_found),
]

handler400 = error_pages.handler400
handler403 = error_pages.handler403
handler404 = error_pages.handler404
handler500 = error_pages.handler500
