"""Routes URLs to the admin and the API, and unknown URLs to the error pages."""

from django.contrib import admin
from django.urls import include, path, re_path

from baskets.api.views import error_pages

urlpatterns = [
    path("admin/", include("baskets.admin.urls")),
    path("admin/", admin.site.urls),
    path("", include("baskets.api.urls")),
    # Django's debug page for unknown URLs must never appear, so the last route matches everything.
    re_path("", error_pages.not_found),
]

handler400 = error_pages.handler400
handler403 = error_pages.handler403
handler404 = error_pages.handler404
handler500 = error_pages.handler500
