"""Keeps a form that was sent without a valid session, and shows it again after the sign-in. Sends nothing by itself.

Only a browser on which an account has signed in before keeps a form, and only the same account gets it back. It is in the session
until the next page, without passwords, codes and tokens.
"""

import json
import re
from typing import Any
from urllib.parse import urlsplit

from django.forms import BaseForm
from django.http import HttpRequest

from baskets.admin.core.search import has_secret

# In a session: the form that was not sent.
INTERRUPTED = "baskets_interrupted"
MAX_LENGTH = 32_000
SECRET_FIELD = re.compile(r"password|secret|token|code|nonce|key", re.IGNORECASE)
# What belongs to the page that was sent, and not to the user who typed.
PAGE_FIELDS = frozenset({"seen", "confirm", "outcome", "opened_at", "select_across", "index"})
# Fields that name rows: the form has them, the text for the user does not.
ROW_FIELDS = frozenset({"row", "_selected_action", "action"})


def keep(request: HttpRequest, *, account: int | None) -> bool:
    """Keep the form of a refused POST in the session.

    :param account: the primary key of the account that sent it; None where that is not known.
    :returns: whether it was kept.
    """
    fields = {
        name: values
        for name, values in request.POST.lists()
        if name not in PAGE_FIELDS and not SECRET_FIELD.search(name) and not any(map(has_secret, values))
    }
    if account is None or not fields or len(json.dumps(fields)) > MAX_LENGTH:
        return False
    referer = urlsplit(request.headers.get("Referer", ""))
    page = f"{referer.path}?{referer.query}" if referer.netloc == request.get_host() and referer.path.startswith("/admin/") else ""
    request.session[INTERRUPTED] = {"account": account, "path": request.path, "page": page, "fields": fields}
    return True


def take(request: HttpRequest) -> dict[str, Any] | None:
    """Take the kept form out of the session, for the first page after the sign-in.

    :returns: the form; None if there is none for this page and this account.
    """
    kept: dict[str, Any] | None = request.session.pop(INTERRUPTED, None)
    if kept is None or kept["path"] != request.path or kept["account"] != request.user.pk:
        return None
    kept["typed"] = [(name, ", ".join(values)) for name, values in kept["fields"].items() if name not in ROW_FIELDS and any(values)]
    return kept


def name_fields(request: HttpRequest, form: object) -> None:
    """Name what was typed as the form of this page does."""
    kept = getattr(request, "interrupted", None)
    if kept and isinstance(form, BaseForm):
        kept["typed"] = [(form[name].label if name in form.fields else name, text) for name, text in kept["typed"]]


def chosen_rows(request: HttpRequest) -> list[str]:
    """The keys of the rows that the form of this page named, when it was sent without a session."""
    kept = getattr(request, "interrupted", None) or {"fields": {}}
    return [str(row).rpartition(" ")[0] for row in kept["fields"].get("row", ())]


def move(request: HttpRequest, kept: dict[str, Any]) -> str:
    """Keep a form for the page on which it was typed, because its own address shows no page.

    :returns: the address of that page; empty where it is not known.
    """
    if kept["page"]:
        request.session[INTERRUPTED] = {**kept, "path": urlsplit(kept["page"]).path, "page": ""}
    return str(kept["page"])
