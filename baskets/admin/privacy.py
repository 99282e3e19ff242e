"""The privacy desk: what is stored of one user id at all partners, as a file, and its erasure. The id is in no address."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from baskets.admin.core import display
from baskets.admin.core.actors import staff_actor
from baskets.admin.core.readonly import ReadOnlyAdmin
from baskets.admin.repairs import execution
from baskets.admin.repairs.baskets import EraseUser
from baskets.admin.repairs.definitions import make_operation
from baskets.domain import runner, validation
from baskets.domain.errors import Refusal
from baskets.domain.support import erasure, guards, user_data
from baskets.domain.support.user_data import StoredData

MAY_EXPORT, MAY_ERASE = "baskets.privacy_export", EraseUser().permission
# What the page does beside showing, by the name of its button, and the permission that it needs.
STEPS = {"export": MAY_EXPORT, "erase": MAY_ERASE}
STORED = {
    "items": _("items"),
    "checkouts": _("checkouts"),
    "events": _("events"),
    "devices": _("devices"),
    "transfers": _("transfers"),
    "stored responses": _("stored responses"),
    "comfort settings": _("comfort settings"),
}
MAX_USER_ID_LENGTH = 255


def step_of(request: HttpRequest) -> str:
    """Return the name of the button that was pressed; empty for none that changes or exports anything."""
    return next((step for step in STEPS if step in request.POST), "")


class UserForm(forms.Form):
    """The user id, as the partner gives it."""

    user_id = forms.CharField(max_length=MAX_USER_ID_LENGTH, strip=False, label=_("User id"))


class PrivacyForm(forms.Form):
    """What is done, with which baskets, and why."""

    reason = forms.CharField(
        max_length=validation.REASON_LIMIT,
        widget=forms.Textarea(attrs={"rows": 2, "cols": 60}),
        label=_("Reason"),
        help_text=_("Such as the number of the request. Stays in the journal, beside your name. No name of the user."),
    )
    means_user_elsewhere = forms.BooleanField(
        required=False,
        label=_("The user id means this user in the texts below too"),
        help_text=_("If it is not chosen, these texts stay: the user id may be a word, a name, a count, a ticket or a date."),
    )


@dataclass(frozen=True, kw_only=True)
class Row:
    """One partner's basket, with what is open.

    :param version: of the basket, as the page has shown it.
    """

    stored: StoredData
    version: int
    open_work: Sequence[str]
    outcome: str = ""

    @property
    def cells(self) -> Sequence[object]:
        """Partner, basket, state and what is stored."""
        basket = self.stored.basket
        counts = ", ".join(f"{STORED[name]}: {display.count(number)}" for name, number in sorted(self.stored.counts.items()))
        return [
            display.partner(basket.partner),
            display.basket(basket.pk, basket.user_id) if self.stored.has_basket else display.visible(basket.user_id, limit=60),
            display.basket_state(basket) if self.stored.has_basket else display.badge(gettext("no basket")),
            counts or display.NOTHING,
        ]


@dataclass(frozen=True, kw_only=True)
class PrivacyView:
    """One request to the privacy desk."""

    model_admin: ReadOnlyAdmin[Any]
    request: HttpRequest

    def respond(self) -> HttpResponse:
        """Ask for a user id; show what is stored of it; export or erase the chosen baskets."""
        if self.request.method != "POST":
            return self._render(UserForm())
        query = UserForm(self.request.POST)
        if not query.is_valid():
            return self._render(query)
        user_id = str(query.cleaned_data["user_id"])
        step = step_of(self.request)
        if step not in STEPS:
            return self._render(query, user_id=user_id, form=PrivacyForm())
        form = PrivacyForm(self.request.POST)
        chosen = dict(text.rpartition(" ")[::2] for text in self.request.POST.getlist("row"))
        rows = [row for row in self._rows(user_id) if str(row.stored.basket.pk) in chosen]
        if form.is_valid() and not rows:
            form.add_error(None, gettext("Choose at least one partner."))
        if not form.is_valid():
            return self._render(query, user_id=user_id, form=form)
        if step == "export":
            return self._export(user_id, rows, reason=form.cleaned_data["reason"])
        return self._erase(query, rows, form, versions=chosen)

    def _rows(self, user_id: str) -> list[Row]:
        return [
            Row(
                stored=stored,
                version=guards.basket_version(created_at=stored.basket.created_at, events=stored.basket.events),
                open_work=_open_work(stored),
            )
            for stored in user_data.find_stored_data(user_id)
        ]

    def _export(self, user_id: str, rows: Sequence[Row], *, reason: str) -> HttpResponse:
        """Respond with the file."""
        baskets, actor = [row.stored.basket for row in rows], staff_actor(self.request)
        document = runner.run(user_data.export_user, baskets=baskets, reason=reason, actor=actor)
        text = json.dumps({"userId": user_id, **document}, ensure_ascii=False, indent=2)
        response = HttpResponse(text.encode(), content_type="application/json")
        # Without the user id: file names end up in histories of browsers.
        response["Content-Disposition"] = 'attachment; filename="user-data.json"'
        return response

    def _erase(self, query: UserForm, rows: Sequence[Row], form: PrivacyForm, *, versions: dict[str, str]) -> HttpResponse:
        """Erase basket by basket: one that is refused does not stop the others."""
        results = []
        for row in rows:
            basket, version = row.stored.basket, versions[str(row.stored.basket.pk)]
            cleaned = {"means_user_elsewhere": form.cleaned_data["means_user_elsewhere"]}
            expected = int(version) if version.isascii() and version.isdigit() and len(version) < len(str(2**63)) else -1
            reason = form.cleaned_data["reason"]
            operation = make_operation(EraseUser(), self.request, basket, cleaned=cleaned, expected_version=expected, reason=reason)
            try:
                erased = execution.run(operation)
            except (Refusal, execution.DatabaseBusy) as problem:
                outcome, details = display.badge(gettext("not erased"), "bad"), execution.refusal_text(problem)
            else:
                outcome, details = display.badge(gettext("erased"), "good"), display.basket(erased.pk, erased.user_id) if erased else ""
            results.append((display.visible(basket.partner.name), outcome, details))
        return self._render(query, results=results)

    def _render(
        self,
        query: UserForm,
        *,
        user_id: str = "",
        form: PrivacyForm | None = None,
        results: Sequence[tuple[object, ...]] = (),
    ) -> HttpResponse:
        rows = self._rows(user_id) if form else []
        texts: list[str] = []
        if rows and erasure.is_ambiguous(user_id):
            texts = erasure.texts_elsewhere(*[row.stored.basket for row in rows], limit=erasure.MAX_SHOWN_TEXTS)
        if form and not texts:
            del form.fields["means_user_elsewhere"]
        context = {
            "title": gettext("Privacy desk"),
            "name": display.visible(user_id, limit=60) if user_id else "",
            "query": query,
            "user_id": user_id,
            "form": form if rows else None,
            "rows": rows,
            "is_searched": form is not None,
            "most_texts": erasure.MAX_SHOWN_TEXTS if len(texts) >= erasure.MAX_SHOWN_TEXTS else None,
            "texts": [display.visible(text) for text in dict.fromkeys(texts)],
            "results": results,
            "may_export": self.request.user.has_perm(MAY_EXPORT),
            "may_erase": self.request.user.has_perm(MAY_ERASE),
        }
        return self.model_admin.render(self.request, "admin/baskets/privacy.html", context)


def _open_work(stored: StoredData) -> list[str]:
    """Name what staff should settle before an erasure."""
    found = []
    if stored.is_in_checkout:
        found.append(gettext("A checkout is active. Finish or abort it first: until then nothing is erased."))
    if stored.open_flags:
        found.append(gettext("Open flags: the customer may have paid. After an erasure, the order cannot be found by the user id."))
    return found
