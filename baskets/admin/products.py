"""Products: the catalog, its stock, and every recorded change of supply."""

import operator
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.urls import URLPattern, path
from django.utils.decorators import method_decorator
from django.utils.translation import gettext_lazy as _
from django.views.decorators.csrf import csrf_protect

from baskets.admin.core import display, exports, filters
from baskets.admin.core.columns import column
from baskets.admin.core.readonly import ReadOnlyAdmin
from baskets.admin.core.search import products_found
from baskets.admin.product_detail import product_page
from baskets.admin.repairs.admin import METHODS, RepairAdmin
from baskets.admin.repairs.registry import PRODUCT_REPAIRS
from baskets.admin.stock_take import PERMISSION as MAY_TAKE_STOCK
from baskets.admin.stock_take import StockTakeView
from baskets.models import Product, Stock, StockAdjustment
from baskets.models.products import SANDBOX_PREFIX

CATALOG_COLUMNS = ("product_id", "name", "brand", "variant", "main_product_id", "price", "currency")


class OfProduct(ReadOnlyAdmin[Any]):
    """Rows found by a product's id, name, brand or variant."""

    search_fields = ("product_id",)
    search_help_text = _("A product id or its beginning, or words of name, brand and variant.")

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Any], search_term: str) -> tuple[QuerySet[Any], bool]:
        """Search for the whole term."""
        return queryset.filter(product_id__in=products_found(search_term)) if search_term else queryset, False

    product_shown = column(_("product"), "product_id", display.product)


@admin.register(Product)
class ProductAdmin(RepairAdmin, OfProduct):
    """The catalog."""

    list_display = ("id_shown", "name_shown", "brand_shown", "variant_shown", "cost", "listed", "available_pieces")
    list_select_related = ("stock",)
    list_filter = (
        filters.choices(_("listed"), "listed", {"yes": (_("listed"), Q(listed=True)), "no": (_("unlisted"), Q(listed=False))}),
        filters.choices(
            _("stock"),
            "stock",
            {
                "unlimited": (_("unlimited"), Q(stock__isnull=True) | Q(stock__limited=False)),
                "free": (_("pieces free"), Q(stock__limited=True, stock__available__gt=0)),
                "none": (_("no piece free"), Q(stock__limited=True, stock__available=0)),
                "shortfall": (_("shortfall"), Q(stock__shortfall__gt=0)),
            },
        ),
    )
    ordering = ("product_id",)
    page_template = "admin/baskets/product.html"
    repairs = PRODUCT_REPAIRS

    def exported_rows(self, rows: QuerySet[Product]) -> QuerySet[Product]:
        """Leave out the products of the sandbox, which an import refuses."""
        return rows.exclude(product_id__startswith=SANDBOX_PREFIX)

    def export_columns(self, request: HttpRequest) -> exports.Columns:
        """Choose the columns that `import_products` reads, so that a file can be imported again unchanged.

        There is no column `stock`: what was true when the file was written is not true when it is imported. What could be had
        then is in `available`, which the import does not read.
        """
        stored = {name: (name, operator.attrgetter(name)) for name in CATALOG_COLUMNS}
        return {
            **stored,
            "listed": ("listed", lambda product: "true" if product.listed else "false"),
            "available": ("available", self.available_pieces),
        }

    def more_urls(self) -> list[URLPattern]:
        """Add the stock take."""
        view = self.admin_site.admin_view(self.stock_take)
        return [path("stock-take/", view, name="baskets_product_stock_take"), *super().more_urls()]

    @method_decorator(csrf_protect)
    def stock_take(self, request: HttpRequest) -> HttpResponse:
        """Preview or apply the counts of many products."""
        if not (self.has_view_permission(request) and request.user.has_perm(MAY_TAKE_STOCK)):
            raise PermissionDenied
        if request.method not in METHODS:
            return HttpResponseNotAllowed(METHODS)
        return StockTakeView(model_admin=self, request=request).respond()

    def page_context(self, request: HttpRequest, record: Product) -> dict[str, Any]:
        """Say what the page of a product shows."""
        return {**product_page(request, record), "tools": self.tools(request, record)}

    id_shown = column(_("product id"), "product_id", display.visible, limit=60)
    name_shown = column(_("name"), "name", display.visible, limit=80)
    brand_shown = column(_("brand"), "brand", display.visible, limit=40)
    variant_shown = column(_("variant"), "variant", display.visible, limit=40)

    @admin.display(description=_("price"))
    def cost(self, product: Product) -> str:
        """The price."""
        return display.money(product.price, product.currency)

    available_pieces = column(_("available"), None, display.available)


@admin.register(Stock)
class StockAdmin(OfProduct):
    """The counters of products that are limited, or once were."""

    list_display = ("product_shown", "limited", "available", "shortfall")
    list_display_links = None
    list_filter = (
        filters.choices(
            _("state"),
            "state",
            {
                "free": (_("pieces free"), Q(available__gt=0)),
                "none": (_("no piece free"), Q(limited=True, available=0)),
                "shortfall": (_("shortfall"), Q(shortfall__gt=0)),
                "unlimited": (_("unlimited today"), Q(limited=False)),
            },
        ),
    )
    ordering = ("pk",)
    shown = ("product_shown", "limited", "available", "shortfall")


@admin.register(StockAdjustment)
class StockAdjustmentAdmin(OfProduct):
    """Every recorded change of supply, the newest first."""

    list_display = ("number", "product_shown", "kind", "change", "reported", "why", "who", "at")
    list_filter = (filters.choices(_("kind"), "kind", {value: (label, Q(kind=value)) for value, label in StockAdjustment.Kind.choices}),)
    ordering = ("-pk",)
    shown = ("product_shown", "kind", "change", "reported", "as_of", "why", "who", "at")

    number = column(_("number"), "pk", str)

    @admin.display(description=_("change"))
    def change(self, row: StockAdjustment) -> str:
        """By how many pieces."""
        return f"{row.delta:+d}"

    why = column(_("reason"), "reason", display.visible, limit=200)
    who = column(_("by"), "actor", display.actor_name)
    at = column(_("recorded"), "created_at", display.moment)
