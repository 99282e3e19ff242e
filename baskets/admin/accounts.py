"""Accounts of staff and their groups at the desk: Django's own pages, for superusers to change, and with no look-ups but theirs."""

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User
from django.http import HttpRequest

admin.site.unregister([User, Group])


class Guarded(admin.ModelAdmin):  # type: ignore[type-arg]  # Django's class takes no parameter at run time.
    """What Django leaves open: whoever may change accounts could make themselves a superuser."""

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """Take from the address what the filters on the page put there, and nothing else."""
        return lookup in {f"{name}{ending}" for name in self.list_filter for ending in ("__exact", "__id__exact", "__isnull")}

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Superusers make accounts."""
        return bool(request.user.is_superuser) and super().has_add_permission(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Superusers say who may do what."""
        return bool(request.user.is_superuser) and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Superusers remove accounts."""
        return bool(request.user.is_superuser) and super().has_delete_permission(request, obj)


@admin.register(User)
class AccountAdmin(Guarded, UserAdmin):  # type: ignore[type-arg]  # As above.
    """Accounts of staff."""


@admin.register(Group)
class RoleAdmin(Guarded, GroupAdmin):
    """Groups: roles, and what belongs to them."""
