"""Baskets at the desk: found by one search box, each on one page with its lists, sessions, holds and timeline."""

from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import SEARCH_VAR
from django.core.exceptions import PermissionDenied
from django.db.models import Prefetch, Q, QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.urls import URLPattern, path
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.csrf import csrf_protect

from baskets.admin import privacy
from baskets.admin.basket_detail import basket_page
from baskets.admin.core import display, filters
from baskets.admin.core.columns import column
from baskets.admin.core.search import any_term, baskets_found
from baskets.admin.repairs.admin import METHODS, RepairAdmin
from baskets.admin.repairs.registry import BASKET_REPAIRS
from baskets.models import Basket, BasketItem, CheckoutSession


@admin.register(Basket)
class BasketAdmin(RepairAdmin):
    """Baskets, those that last longest first, which are those changed last."""

    list_display = ("user", "partner_name", "state", "in_cart", "in_saved", "checkout", "changed", "expires")
    list_display_links = ("user",)
    list_select_related = ("partner",)
    list_filter = (
        filters.Shown,
        filters.of_partner("partner"),
        filters.InCheckout,
        filters.NeedsAttention,
        filters.past(_("changed"), "last_changed_at"),
        filters.coming(_("expires"), "expires_at"),
        filters.between(_("change between"), "last_changed_at"),
        filters.between(_("expiry between"), "expires_at"),
    )
    search_fields = ("user_id",)
    search_help_text = _(
        "A user id, an order number or a partner's name, or the beginning of it; a whole product id or key prefix."
        " Deleted, expired and erased baskets are found as well, unless you choose otherwise."
    )
    page_template = "admin/baskets/basket.html"
    repairs = BASKET_REPAIRS

    def more_urls(self) -> list[URLPattern]:
        """Add the privacy desk."""
        return [path("privacy/", self.admin_site.admin_view(self.privacy), name="baskets_privacy"), *super().more_urls()]

    @method_decorator(csrf_protect)
    def privacy(self, request: HttpRequest) -> HttpResponse:
        """Show, export or erase what is stored of a user id."""
        step = privacy.step_of(request)
        needed = [privacy.STEPS[step]] if step else privacy.STEPS.values()
        if not (self.has_view_permission(request) and any(map(request.user.has_perm, needed))):
            raise PermissionDenied
        if request.method not in METHODS:
            return HttpResponseNotAllowed(METHODS)
        return privacy.PrivacyView(model_admin=self, request=request).respond()

    def get_ordering(self, request: HttpRequest) -> tuple[str, ...]:
        """Follow the index there is: of shown baskets by their end, of all of them by partner and user.

        What a search has found is sorted by its users: an index in that order would be read to its end for a few baskets.
        """
        if request.GET.get(SEARCH_VAR):
            return ("user_id", "partner_id")
        return ("-expires_at", "-pk") if filters.Shown.chosen_in(request) == "shown" else ("partner_id", "user_id")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Basket]:
        """Read the items and the active sessions of the listed baskets, in one query each."""
        sessions = CheckoutSession.objects.active().annotate(lapsed=Q(expires_at__lte=Now()))
        active = Prefetch("sessions", sessions, to_attr="active_sessions")
        return super().get_queryset(request).prefetch_related("items", active)

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Basket], search_term: str) -> tuple[QuerySet[Basket], bool]:
        """Search for the whole term, spaces and all: ids may hold some."""
        return queryset.filter(any_term(search_term, baskets_found)), False

    def page_context(self, request: HttpRequest, record: Basket) -> dict[str, Any]:
        """Say what the page of a basket shows."""
        shown = basket_page(request, record)
        recommended = [address for address, _label in shown.get("next_steps", ())]
        return {
            **shown,
            "tools": [(address, label) for address, label in self.tools(request, record) if address not in recommended],
            "copy": display.copy_button(record.user_id, gettext("user id")),
        }

    user = column(_("user"), "user_id", display.visible, limit=60)
    partner_name = column(_("partner"), "partner.name", display.visible)
    state = column(_("state"), None, display.basket_state)

    @admin.display(description=_("cart"))
    def in_cart(self, basket: Basket) -> int:
        """Items in the cart."""
        return sum(item.list == BasketItem.List.CART for item in basket.items.all())

    @admin.display(description=_("saved"))
    def in_saved(self, basket: Basket) -> int:
        """Items in the saved list."""
        return sum(item.list == BasketItem.List.SAVED for item in basket.items.all())

    @admin.display(description=_("checkout"))
    def checkout(self, basket: Basket) -> SafeString | str:
        """The active session, if there is one."""
        for session in basket.active_sessions:  # type: ignore[attr-defined]
            state = display.badge(gettext("lapsed"), "bad") if session.lapsed else display.badge(gettext("active"), "busy")
            return format_html("{} {}", state, display.order_no(session.order_no))
        return display.NOTHING

    changed = column(_("changed"), "last_changed_at", display.moment)
    expires = column(_("expires"), "expires_at", display.moment)
