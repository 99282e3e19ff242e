"""Reads pages of the admin: searches of a list, and the page of a record."""

from django.test import Client
from django.urls import reverse


def search(client: Client, model: str, term: str, **more: str) -> str:
    response = client.get(reverse(f"admin:baskets_{model}_changelist"), {"q": term, **more})
    assert response.status_code == 200
    return response.content.decode()


def page(client: Client, model: str, pk: object) -> str:
    response = client.get(reverse(f"admin:baskets_{model}_change", args=[pk]))
    assert response.status_code == 200
    return response.content.decode()


def users_in(body: str) -> set[str]:
    return {user for user in ("ann", "ben", "cid") if f'<bdi class="given">{user}</bdi></a>' in body}
