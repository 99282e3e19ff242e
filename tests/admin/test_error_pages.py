"""Refused requests of the admin: a page in words with the way home, without the database where that has failed."""

from typing import Any

import pytest
from django.db import InterfaceError, connection
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from baskets.admin.core import error_pages
from baskets.models import DeskEntry
from tests import seams
from tests.admin.conftest import Shop, post, token

pytestmark = pytest.mark.django_db
LIST = "/admin/baskets/basket/"


def expect_page(response: Any, status: int, heading: str) -> str:
    body: str = response.content.decode()
    assert response.status_code == status
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert f"<h1>{heading}</h1>" in body
    assert f"<title>{heading} - Basket desk</title>" in body
    assert "DEBUG" not in body
    assert 'href="/admin/"' in body
    return body


def test_refused_requests_say_what_that_means(full_shop: Shop, viewer: Client, staff_without_rights: Client) -> None:
    body = expect_page(staff_without_rights.get(LIST), 403, "You may not do this")
    assert "the attempt is in the journal" in body
    assert DeskEntry.objects.filter(kind="refused").count() == 1
    assert ">The list</a>" not in body
    body = expect_page(viewer.get("/admin/baskets/basket/no-such/change/"), 404, "This page does not exist")
    assert f'href="{LIST}">The list</a>' in body
    assert 'id="finder"' in body
    expect_page(viewer.get("/admin/no/such/page/"), 404, "This page does not exist")
    expect_page(viewer.get(f"{LIST}?_to_field=password&_popup=1"), 400, "This address cannot be read")
    response = viewer.put(LIST, headers={"X-CSRFToken": token(viewer, LIST)})
    expect_page(response, 405, "This page opens from its form only")
    assert response.headers["Allow"] == "GET, HEAD"


def test_an_outdated_form_says_so(full_shop: Shop, viewer: Client, root: Client) -> None:
    page = reverse("admin:baskets_basket_repair", args=[full_shop.buyer("ben").owner.basket_id, "extend"])
    token(root, page)
    sent = {"csrfmiddlewaretoken": "x" * 64, "days": "9", "reason": "typed before"}
    response = root.post(page, sent, headers={"Sec-Fetch-Site": "same-origin"})
    assert f'href="{page}">Open the page again</a>' in expect_page(response, 403, "This form is outdated")
    body = root.get(page).content.decode()
    assert "What you typed is in the form again" in body
    assert "typed before" in body
    assert "What you typed" not in root.get(page).content.decode()
    root.post(page, sent, headers={"Sec-Fetch-Site": "cross-site"})
    assert "What you typed" not in root.get(page).content.decode()


def test_an_error_of_the_database_has_a_page_without_it(full_shop: Shop, viewer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise InterfaceError("the connection is lost")

    seams.BADGE_ON_A_PAGE.replace(monkeypatch, fail)
    viewer.raise_request_exception = False
    response = viewer.get(LIST)
    assert 'id="finder"' not in expect_page(response, 503, "The database does not answer")
    assert response.headers["Retry-After"]
    request = RequestFactory().get(LIST)
    with CaptureQueriesContext(connection) as queries:
        error_pages.render_error(request, 503)
    assert len(queries) == 0


def test_a_defect_has_a_page_with_the_number_of_the_request(full_shop: Shop, viewer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    seams.BADGE_ON_A_PAGE.replace(monkeypatch, lambda *_: 1 / 0)
    viewer.raise_request_exception = False
    response = viewer.get(LIST, headers={"X-Request-ID": "request-77"})
    assert "give the request: request-77" in expect_page(response, 500, "Something went wrong")


def test_a_form_that_is_too_large_has_a_page(viewer: Client, settings: Any) -> None:
    response = post(viewer, LIST, {"x": "y" * (settings.DATA_UPLOAD_MAX_MEMORY_SIZE + 1)})
    expect_page(response, 413, "This form is too large")


def test_every_status_has_words() -> None:
    assert set(error_pages.WORDS) == {400, 403, 404, 405, 413, 500, 503}


@pytest.mark.parametrize("parameter", ["password", "partner__name", "user_id__startswith", "no_such"])
def test_a_filter_that_a_list_does_not_know_is_named(viewer: Client, full_shop: Shop, parameter: str) -> None:
    response = viewer.get(LIST, {parameter: "x", "q": "ann", "basket": "hidden"})
    assert (response.status_code, response["Location"]) == (302, f"{LIST}?q=ann&basket=hidden")
    assert f"does not know the filter “{parameter}”" in viewer.get(response["Location"]).content.decode()


@pytest.mark.parametrize(("parameter", "value"), [("checkout", "none at all"), ("partner", "0x1"), ("basket", "gone"), ("attention", "x")])
def test_a_value_that_a_filter_does_not_know_is_named(viewer: Client, full_shop: Shop, parameter: str, value: str) -> None:
    assert f"does not know the value “{value}”" in viewer.get(LIST, {parameter: value}).content.decode()
    assert "does not know" not in viewer.get(LIST, {"checkout": "active", "basket": "all"}).content.decode()


def test_pages_of_the_api_keep_their_envelope(client: Client) -> None:
    response = client.get("/no-such")
    assert response.json()["error"]["details"]["reason"] == "not_found"
