"""Who may do what at which address, from the admin's own table of addresses: a new one fails here until it is listed."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib import admin
from django.urls import NoReverseMatch, URLPattern, URLResolver, reverse

from baskets.admin.repairs.admin import RepairAdmin
from tests.admin.auth.test_access import MODELS, name_of
from tests.admin.conftest import Shop

pytestmark = pytest.mark.django_db
TOKEN = "a" * 32
SHARED = {f"{name_of(model)}_{page}" for model in MODELS for page in ("changelist", "change", "export")}
DESKS = {name_of(model) for model in MODELS if isinstance(admin.site.get_model_admin(model), RepairAdmin)}
REPAIRS = {f"{desk}_{page}" for desk in DESKS for page in ("repair", "repair_many")}
OWN = {
    *("baskets_worklist", "baskets_product_stock_take", "baskets_privacy"),
    *("baskets_apikey_limit", "baskets_apikey_revoke"),
    *("baskets_partner_add", "baskets_partner_issue_key", "baskets_partner_sandbox"),
    *("baskets_tokenissuer_add", "baskets_tokenissuer_remove", "baskets_tokenissuer_fetch", "baskets_webhookendpoint_make"),
}


def patterns(found: list[Any]) -> Iterator[URLPattern]:
    for each in found:
        if isinstance(each, URLResolver):
            yield from patterns(each.url_patterns)
        else:
            yield each


NAMES = sorted({str(each.name) for each in patterns(admin.site.urls[0]) if str(each.name).startswith("baskets_")})


def addresses() -> Iterator[tuple[str, str]]:
    """Every address of the desk, with a record there is, and every repair of it."""
    for name in NAMES:
        model = next((each for each in MODELS if name.startswith(f"{name_of(each)}_")), None)
        row = model.objects.order_by("pk").first() if model else None
        model_admin = admin.site.get_model_admin(model) if model else None
        slugs = [repair.slug for repair in model_admin.repairs] if isinstance(model_admin, RepairAdmin) else []
        tries = [[], [row.pk] if row else [], *[[row.pk, slug] if row else [] for slug in slugs], *[[slug] for slug in slugs]]
        done = set()
        for arguments in tries:
            try:
                address = reverse(f"admin:{name}", args=arguments)
            except NoReverseMatch:
                continue
            if address not in done:
                done.add(address)
                yield name, address


def test_every_address_is_listed() -> None:
    assert set(NAMES) == SHARED | REPAIRS | OWN


@pytest.mark.parametrize("who", ["root", "staff_without_rights", "anonymous", "viewer"])
def test_nothing_changes_without_the_right_or_the_token(
    who: str, plain_errors: None, shop_with_all_rows: Shop, request: pytest.FixtureRequest, stored_rows: Callable[[], Any]
) -> None:
    client: Any = request.getfixturevalue(who)
    client.cookies["csrftoken"] = TOKEN
    before = stored_rows()
    tried = list(addresses())
    assert {name for name, _ in tried} == set(NAMES)
    for _name, address in tried:
        form = {"reason": "because", "seen": "1", "confirm": "{}", "action": "abort", "_selected_action": "1", "index": "0"}
        if who != "root":  # A superuser is refused only because the token is missing.
            answer = client.post(address, form | {"csrfmiddlewaretoken": TOKEN})
            assert answer.status_code in (302, 403, 404, 405), (address, answer.status_code)
        assert client.post(address, form).status_code in (302, 403, 404, 405), address
        answer = client.get(address)
        if who in ("staff_without_rights", "anonymous"):
            assert answer.status_code == {"staff_without_rights": 403, "anonymous": 302}[who] or answer.status_code in (404, 405), address
    assert stored_rows() == before
