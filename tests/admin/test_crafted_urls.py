"""Addresses that staff make up themselves: no look-up, field or page leads to what the desk does not show them.

Generated over all registered models, Django's own included, so that a new one is tried as well.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, Permission, User
from django.db.models import Field, ForeignKey, Model
from django.test import Client
from django.urls import URLPattern, URLResolver, reverse

from tests.admin.conftest import Shop

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("plain_errors")]
ADMINS = sorted(admin.site._registry.items(), key=lambda pair: pair[0].__name__)
SECRET = ("password", "digest", "secret", "token", "private")
ENDINGS = ("__startswith", "__regex", "__gt", "__isnull", "")
# What every member of staff may see, with no right at all.
FOR_ALL_STAFF = {"index", "login", "logout", "password_change", "password_change_done", "jsi18n"}


def list_of(model: type[Model]) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")


def paths(model: type[Model], depth: int = 2) -> Iterator[str]:
    """The ways from a model to other models, along and against foreign keys, and to its own secrets."""
    for field in model._meta.get_fields():
        name = field.name
        if isinstance(field, Field) and not field.is_relation:
            if any(word in name for word in SECRET):
                yield name
            continue
        if field.related_model is None or depth == 0 or isinstance(field.related_model, str):
            continue
        for inner in field.related_model._meta.get_fields():
            if isinstance(inner, Field) and not inner.is_relation:
                yield f"{name}__{inner.name}"
        for further in paths(field.related_model, depth - 1):
            yield f"{name}__{further}"


@pytest.fixture
def superuser(shop_with_all_rows: Shop, root: Client) -> Client:
    """The browser of a superuser, before a shop with something in it."""
    return root


@pytest.mark.parametrize(("model", "model_admin"), ADMINS, ids=lambda part: getattr(part, "__name__", ""))
def test_no_look_up_of_the_address_goes_beyond_the_list(model: type[Model], model_admin: Any, superuser: Client) -> None:
    offered = {spec for spec in model_admin.list_filter if isinstance(spec, str)}
    tried = 0
    for path in dict.fromkeys(paths(model)):
        for ending in ENDINGS:
            if path.split("__")[0] in offered and not any(word in path for word in SECRET):
                continue  # A filter of Django's own, which looks at what its list shows.
            assert not model_admin.lookup_allowed(f"{path}{ending}", "x", None), f"{path}{ending}"  # type: ignore[arg-type]
            tried += 1
        if any(word in path for word in SECRET):
            assert superuser.get(f"{list_of(model)}?{path}__startswith=x").status_code in {302, 400}, path
    assert tried or not list(paths(model))


@pytest.mark.parametrize(
    "lookup",
    [
        "partner__name__startswith",
        "api_keys__digest__startswith",
        "user__password__startswith",
        "groups__user__password__startswith",
        "logentry__user__password__regex",
        "password__startswith",
    ],
)
@pytest.mark.parametrize("model", [model for model, _ in ADMINS], ids=lambda model: model.__name__)
def test_well_known_look_ups_are_refused_everywhere(model: type[Model], lookup: str, superuser: Client) -> None:
    assert superuser.get(f"{list_of(model)}?{lookup}=x").status_code in {302, 400}


@pytest.mark.parametrize("model", [model for model, _ in ADMINS], ids=lambda model: model.__name__)
def test_crafted_pop_up_reads_no_field(model: type[Model], superuser: Client) -> None:
    for field in ("password", "digest", "user_id", "email", "nothing", "pk__in"):
        assert superuser.get(f"{list_of(model)}?_to_field={field}&_popup=1").status_code == 400
    for strange in ("_popup=2", "e=1", "_facets=True", "all=", "o=-1.99", "p=-1", "q=%FF"):
        assert superuser.get(f"{list_of(model)}?{strange}", follow=True).status_code in {200, 400}, strange


def test_nothing_is_completed_for_who_may_not_look(
    superuser: Client, viewer: Client, staff_without_rights: Client, anonymous: Client
) -> None:
    for model, _ in ADMINS:
        for field in model._meta.fields:
            if isinstance(field, ForeignKey):
                query = f"app_label={model._meta.app_label}&model_name={model._meta.model_name}&field_name={field.name}&term=a"
                assert [client.get(f"/admin/autocomplete/?{query}").status_code for client in (staff_without_rights, anonymous)] == [
                    403,
                    302,
                ]
    for client in (superuser, viewer, staff_without_rights):
        assert client.get("/admin/autocomplete/?app_label=auth&model_name=user&field_name=password").status_code == 403
        assert client.get("/admin/r/1/1/").status_code == 404


def addresses() -> Iterator[tuple[str, str]]:
    """Every address of the admin, by its name, with something that is there filled in."""

    def walk(patterns: list[Any], before: str) -> Iterator[tuple[str, str]]:
        for pattern in patterns:
            route = before + str(pattern.pattern)
            if isinstance(pattern, URLResolver):
                yield from walk(pattern.url_patterns, route)
            elif isinstance(pattern, URLPattern):
                yield pattern.name or "", "/admin/" + route

    return walk(admin.site.get_urls(), "")


def test_staff_without_rights_get_nowhere(superuser: Client, staff_without_rights: Client) -> None:
    Group.objects.get_or_create(name="some")
    open_to_all = set()
    for name, route in addresses():
        row = User.objects.get(username="root").pk if "/auth/" in route else 1
        path = route.replace("<path:object_id>", str(row)).replace("<id>", str(row))
        if "<" in path or "(?P" in path or path.endswith("$"):
            continue
        if staff_without_rights.get(path).status_code not in {301, 302, 403, 404, 405}:
            open_to_all.add(name)
        if "/auth/" in path or "/baskets/" in path:
            assert staff_without_rights.post(path, {}).status_code in {302, 403, 404, 405}, path
    assert open_to_all <= FOR_ALL_STAFF


def test_who_may_look_at_staff_may_not_make_themselves_more(sign_in: Any, stored_rows: Any) -> None:
    client = sign_in("vera", permissions="view_")
    staff_user = User.objects.get(username="vera")
    for path in (f"/admin/auth/user/{staff_user.pk}/change/", f"/admin/auth/user/{staff_user.pk}/password/", "/admin/auth/user/add/",
                 f"/admin/auth/user/{staff_user.pk}/history/", "/admin/auth/group/add/"):  # fmt: skip
        assert client.get(path).status_code == 403
        assert client.post(path, {"is_superuser": "on", "username": "vera", "password": "x"}).status_code == 403
    staff_user.refresh_from_db()
    assert not staff_user.is_superuser


def test_who_may_change_accounts_may_not_make_themselves_more(sign_in: Any) -> None:
    """Django gives a superuser's rights away with the permission to change accounts; here it gives nothing."""
    client = sign_in("cara")
    cara = User.objects.get(username="cara")
    cara.user_permissions.set(Permission.objects.filter(content_type__app_label="auth"))
    page = f"/admin/auth/user/{cara.pk}/change/"
    assert client.get(page).status_code == 200
    client.cookies["csrftoken"] = "a" * 32
    for path in (page, f"/admin/auth/user/{cara.pk}/password/", f"/admin/auth/user/{cara.pk}/delete/", "/admin/auth/user/add/"):
        values = {"csrfmiddlewaretoken": "a" * 32, "username": "cara", "is_superuser": "on", "is_staff": "on", "is_active": "on"}
        assert client.post(path, values).status_code == 403
    cara.refresh_from_db()
    assert not cara.is_superuser
