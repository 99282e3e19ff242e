"""Sign in as staff, and look at what a browser may see then."""

from typing import Any

from django.test import Client

from baskets.models import DeskEntry
from tests.admin.conftest import post

LOGIN = "/admin/login/"
INDEX = "/admin/"
PASSWORD = "correct horse battery"
FORM_TOKEN = "a" * 32  # As a page sets it, without a request for one.


def sign_in(name: str, password: str, *, address: str = "192.0.2.1", client: Client | None = None) -> str:
    """Try to sign in. Returns the message of the page, or an empty text after a successful sign-in."""
    client = client or Client(enforce_csrf_checks=True)
    client.cookies["csrftoken"] = FORM_TOKEN
    client.defaults["REMOTE_ADDR"] = address
    response = post(client, LOGIN, {"username": name, "password": password, "next": INDEX})
    return "" if response.status_code == 302 else response.content.decode()


def journal() -> list[tuple[str, str, str, Any]]:
    return list(DeskEntry.objects.order_by("pk").values_list("kind", "subject", "actor", "data"))


def inside(client: Client) -> bool:
    return bool(client.get(INDEX).status_code == 200)


def explanation(client: Client) -> str:
    """What the page says to which an ended session leads."""
    return client.get(INDEX, follow=True).content.decode()
