"""Fills in and confirms the forms of repairs, as a browser does."""

import html
import re
from typing import Any

from django.test import Client
from django.urls import reverse

from baskets.admin.repairs.basket_forms import EraseForm, NoteForm
from baskets.admin.repairs.forms import AssignmentForm, OrderReasonForm, RepairForm
from baskets.admin.repairs.invariants import FindingForm
from baskets.admin.repairs.registry import ALL_REPAIRS
from baskets.admin.repairs.webhook_forms import WebhookForm
from tests.admin.conftest import token
from tests.admin.repairs.repair_cases import Case
from tests.admin.repairs.repair_states import (
    REASON,
)


def address_of(record: Any, slug: str) -> str:
    return reverse(f"admin:baskets_{record._meta.model_name}_repair", args=[record.pk, slug])


def hidden_fields(body: str) -> dict[str, str]:
    """The hidden fields of the form of a page."""
    found = re.findall(r'<input type="hidden" name="(seen|opened_at|outcome|confirm)" value="([^"]*)"', body)
    return {name: html.unescape(value) for name, value in found}


def form_of(client: Client, address: str, case: Case, **more: Any) -> dict[str, Any]:
    form = {"csrfmiddlewaretoken": token(client, address), "reason": REASON} | hidden_fields(client.get(address).content.decode())
    assert "seen" in form, "the page offers no form"
    return confirmed(client, address, form | case.values | more)


def confirmed(client: Client, address: str, form: dict[str, Any]) -> dict[str, Any]:
    """Look at what a form would do, as the page asks for it, and confirm that."""
    if not asks(address) or "confirm" in form:
        return form
    shown = hidden_fields(client.post(address, form).content.decode())
    return form | {name: value for name, value in shown.items() if name in ("confirm", "outcome")}


FORMS_WITHOUT_DETAILS = (RepairForm, AssignmentForm, EraseForm, FindingForm, NoteForm, OrderReasonForm, WebhookForm)


def asks(address: str) -> bool:
    return next(repair.form_class not in FORMS_WITHOUT_DETAILS for repair in ALL_REPAIRS if f"/{repair.slug}/" in address)
