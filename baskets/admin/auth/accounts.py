"""Accounts of staff and their groups: Django's own pages, for superusers to change, with no look-ups but theirs. Changes are recorded."""

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, Permission, User
from django.db.models import Exists, OuterRef, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from baskets.admin.core import display
from baskets.admin.core.actors import staff_actor
from baskets.admin.core.columns import column
from baskets.domain.staff import rights
from baskets.models import SecondFactor

admin.site.unregister([User, Group])
# Of a request: the rights before the change.
RIGHTS_BEFORE = "rights_before"
NAMES_BEFORE = "names_before"


VERBS = {"add": _("Can add"), "change": _("Can change"), "delete": _("Can delete"), "view": _("Can view")}


def permission_label(permission: Any) -> str:
    """Name a permission in the language of the page: Django stores the English one."""
    verb, _rest, model = permission.codename.partition("_")
    is_own = verb not in VERBS or model != permission.content_type.model
    words = gettext(permission.name) if is_own else str(VERBS[verb])
    return f"{permission.content_type.name}: {words}"


class SuperuserAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # Django's class takes no parameter at run time.
    """What Django leaves open: an account that may change accounts could make itself a superuser. Every change is recorded."""

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """Take from the address what the filters on the page put there, and nothing else."""
        return lookup in {f"{name}{ending}" for name in self.list_filter for ending in ("__exact", "__id__exact", "__isnull")}

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Name permissions in the language of the page."""
        field: Any = super().formfield_for_manytomany(db_field, request, **kwargs)
        if db_field.related_model is Permission:
            field.label_from_instance = permission_label
        return field

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Superusers make accounts."""
        return bool(request.user.is_superuser) and super().has_add_permission(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Superusers say who may do what."""
        return bool(request.user.is_superuser) and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Superusers remove accounts."""
        return bool(request.user.is_superuser) and super().has_delete_permission(request, obj)

    def save_form(self, request: HttpRequest, form: Any, change: Any) -> Any:
        """Take what the form says; nothing is stored yet, so the rights before the change are remembered."""
        stored = self.model.objects.get(pk=form.instance.pk) if change else None
        request.META[RIGHTS_BEFORE] = rights.list_rights(stored) if stored else []
        request.META[NAMES_BEFORE] = rights.list_names(stored) if stored else None
        return super().save_form(request, form, change)

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        """Record what a new account or role may do."""
        self._record(request, obj)
        return super().log_addition(request, obj, message)

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        """Record a change of rights, or of a password: Django calls this for both, and has remembered no rights for the latter."""
        if RIGHTS_BEFORE in request.META:
            self._record(request, obj)
        else:
            rights.record_password(account=obj, session_key=str(request.session.session_key), actor=staff_actor(request))
        return super().log_change(request, obj, message)

    def log_deletions(self, request: HttpRequest, queryset: QuerySet[Any]) -> Any:
        """Record what is removed."""
        for obj in queryset:
            rights.record_removal(subject=obj, actor=staff_actor(request))
        return super().log_deletions(request, queryset)

    @staticmethod
    def _record(request: HttpRequest, obj: Any) -> None:
        key, names = str(request.session.session_key), request.META[NAMES_BEFORE]
        before = request.META[RIGHTS_BEFORE]
        rights.record_change(subject=obj, before=before, names_before=names, session_key=key, actor=staff_actor(request))


@admin.register(User)
class AccountAdmin(SuperuserAdmin, UserAdmin):  # type: ignore[type-arg]  # As above.
    """Accounts of staff."""

    list_display = ("username", "first_name", "last_name", "is_active", "is_staff", "is_superuser", "factor", "access")
    # What Django records is not typed.
    readonly_fields = ("last_login", "date_joined")

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        """Annotate whether each account has a second factor."""
        accounts: QuerySet[User] = super().get_queryset(request)
        return accounts.annotate(has_factor=Exists(SecondFactor.objects.filter(pk=OuterRef("pk"))))

    factor = column(_("second factor"), "has_factor", display.yes_no)

    @admin.display(description=_("sessions"))
    def access(self, account: User) -> SafeString:
        """Link to its sessions."""
        return format_html('<a href="{}">{}</a>', reverse("staff:account_of", args=[account.pk]), gettext("Sessions"))


@admin.register(Group)
class RoleAdmin(SuperuserAdmin, GroupAdmin):  # type: ignore[misc]  # The parameters that Django passes by name are the same.
    """Groups: roles, and what belongs to them."""
