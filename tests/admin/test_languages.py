"""The admin in German: the catalog is complete, pages have no English word of the sources, and nothing else changes its language."""

import ast
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from babel.messages.extract import extract
from babel.messages.pofile import read_po
from django.conf import settings
from django.contrib.auth.models import User
from django.forms import BaseForm
from django.test import Client
from django.urls import reverse
from django.utils import translation
from django.utils.translation.template import templatize

from baskets.admin.core.labels import call_reason, flag_comment, value_name
from baskets.admin.core.languages import load_catalogs
from baskets.admin.core.refusals import translated
from baskets.admin.repairs.forms import RepairForm
from baskets.domain.access import api_keys
from baskets.domain.actors import ActorKind
from baskets.domain.checkout import attention
from baskets.domain.wording import sentence
from baskets.models import Attention, Basket, CheckoutSession, Event, Partner, Product
from baskets.models.basket_snapshot import read_basket
from tests.admin.conftest import Shop, token
from tests.factories import TESTER

GERMAN = {"headers": {"accept-language": "de-DE,de;q=0.9,en;q=0.5"}}
PLURAL = (1, 2)
MARKS: dict[str, Any] = {"ngettext": PLURAL, "ngettext_lazy": PLURAL} | dict.fromkeys(
    ("gettext", "gettext_lazy", "gettext_noop", "_", "sentence"), None
)
# Those that a browser shows, or that the scripts write.
ATTRIBUTES = re.compile(r' (?:title|placeholder|aria-label|alt|submit" value|data-(?:head|left|over|reload|copied))="([^"]+)"')
PLACEHOLDER = re.compile(r"%\(\w+\)[.\d]*[sdf]|\{\w*\}|</?\w+>")
Message = str | tuple[str, str]


def extracted() -> set[Message]:
    """The messages of the sources: texts, and pairs of singular and plural."""
    modules = [path.open("rb") for path in Path("baskets").rglob("*.py") if "migrations" not in path.parts]
    templates = [io.BytesIO(templatize(path.read_text()).encode()) for path in Path("templates").rglob("*.html")]
    found: set[Message] = set()
    for file in [*modules, *templates]:
        with file:
            found |= {tuple(text[:2]) if isinstance(text, tuple) else text for _, text, _, _ in extract("python", file, MARKS)}
    return found


def catalog(language: str) -> dict[Message, Any]:
    """The texts of a language by message."""
    with Path(f"baskets/locale/{language}/LC_MESSAGES/django.po").open("rb") as file:
        return {entry.id: entry.string for entry in read_po(file, locale=language, abort_invalid=True) if entry.id}


def test_catalog_has_every_message_and_no_other() -> None:
    sources, german = extracted(), set(catalog("de"))
    assert sorted(map(str, sources - german)) == [], "messages without a German text"
    assert sorted(map(str, german - sources)) == [], "German texts that no source has any more"


def test_no_mark_is_inside_an_f_string() -> None:
    """Neither Babel nor GNU gettext finds it there."""
    for path in Path("baskets").rglob("*.py"):
        parts = [part for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)]
        calls = {ast.unparse(part.func) for part in parts if isinstance(part, ast.Call)}
        assert not calls & set(MARKS), path


def test_every_field_of_a_form_has_a_label_of_the_catalog() -> None:
    """Django makes an English label of the name of a field that has none."""
    missing = []
    forms = [BaseForm]
    for form in forms:
        forms += form.__subclasses__()
        if form.__module__.startswith("baskets.admin") and not form.__module__.startswith("baskets.admin.auth"):
            fields = [(name, field) for name, field in form.base_fields.items() if not field.widget.is_hidden]
            # The constructor labels the field of the reason: as such, or as details beside a reason that was chosen. It also writes the
            # number of the user into the label of the other.
            labelled = {"reason", "means_user_elsewhere"} if issubclass(form, RepairForm) else set()
            missing += [(form.__name__, name) for name, field in fields if field.label is None and name not in labelled]
    assert missing == []


def test_texts_have_all_forms_and_the_placeholders_of_their_messages() -> None:
    for message, text in catalog("de").items():
        forms = text if isinstance(message, tuple) else (text,)
        assert len(forms) == (2 if isinstance(message, tuple) else 1), message
        expected = [sorted(PLACEHOLDER.findall(form)) for form in (message if isinstance(message, tuple) else (message,))]
        for form in forms:
            assert form.strip(), message
            assert sorted(PLACEHOLDER.findall(form)) in expected, message
            assert form.endswith(".") == str(message if isinstance(message, str) else message[1]).endswith("."), message


def test_sentences_of_the_domain_are_english_until_a_page_translates_them() -> None:
    load_catalogs()
    with translation.override("de"):
        refusal = sentence("The checkout is already %(status)s.", status=CheckoutSession.Status.ORDERED.label)
        assert str(refusal) == "The checkout is already ordered."
        assert translated(refusal) == "Der Kaufvorgang ist schon bestellt."
        assert translated("There is too little stock.") == "Es gibt zu wenig Bestand."
    assert translated(refusal) == "The checkout is already ordered."


# --- Pages ------------------------------------------------------------------

PAGES: dict[str, Callable[[], str]] = {
    "first page": lambda: reverse("admin:index"),
    "records": lambda: reverse("staff:records"),
    "search": lambda: reverse("staff:search"),
    "account": lambda: reverse("staff:account"),
    "work list": lambda: reverse("admin:baskets_worklist"),
    "basket": lambda: reverse("admin:baskets_basket_change", args=[Basket.objects.filter(hidden_at=None).latest("created_at").pk]),
    "order": lambda: reverse("admin:baskets_checkoutsession_change", args=[CheckoutSession.objects.latest("pk").pk]),
    "product": lambda: reverse("admin:baskets_product_change", args=[Product.objects.order_by("pk")[0].pk]),
    "partner": lambda: reverse("admin:baskets_partner_change", args=[Partner.objects.order_by("pk")[0].pk]),
    "stock take": lambda: reverse("admin:baskets_product_stock_take"),
    "abort": lambda: reverse(
        "admin:baskets_checkoutsession_repair", args=[CheckoutSession.objects.filter(status="ACTIVE").latest("pk").pk, "abort"]
    ),
    **{
        f"{model}s": lambda model=model: reverse(f"admin:baskets_{model}_changelist")  # type: ignore[misc]
        for model in ("basket", "checkoutsession", "product", "partner", "apikey", "attention", "stockreservation", "event", "deskentry")
    },
    "unknown page": lambda: "/admin/no-such-page/",
}


@pytest.mark.django_db
def test_pages_in_german_have_no_english_text_of_the_sources(full_shop: Shop, root: Client) -> None:
    german = catalog("de")
    texts = {text.lower() for message, form in german.items() if isinstance(message, str) for text in [message] if text != form}
    # What is one and the same word in German.
    texts -= {str(form).lower() for form in german.values()}
    for name, address in PAGES.items():
        response = root.get(address(), **GERMAN)
        assert response.headers["Content-Language"] == "de", name
        body = re.sub(r"(?s)<(script|style).*?</\1>|<bdi.*?</bdi>|<code.*?</code>", " ", response.content.decode())
        assert '<html lang="de"' in body, name
        shown = [part.strip() for part in re.split(r"<[^>]*>", body)]
        shown += re.findall(
            r' (?:title|placeholder|aria-label|alt|submit" value|data-head|data-left|data-over|data-reload)="([^"]+)"', body
        )
        english = [part for part in shown if part.lower() in texts]
        assert english == [], name


@pytest.mark.django_db
def test_what_the_service_records_of_a_flag_is_in_the_language_of_the_page(full_shop: Shop, root: Client) -> None:
    flag = Attention.objects.open().latest("pk")
    key, _ = api_keys.issue_api_key(partner_name=full_shop.partner.name, actor=TESTER)
    Event.objects.filter(basket_id=flag.basket_id, actor_kind=ActorKind.KEY).update(actor=key.prefix)
    attention.resolve(snapshot=read_basket(flag.basket_id), cause=attention.Cause.ORDERED, actor=attention.MERGER)
    address = reverse("admin:baskets_basket_change", args=[flag.basket_id])
    german, english = (re.sub(r"</?bdi[^>]*>", "", root.get(address, **extra).content.decode()) for extra in (GERMAN, {}))
    assert "Der Kaufvorgang wurde bestellt." in german
    assert "The checkout was ordered." in english
    assert f"<b>Gründe</b> {translated_reason(flag)}" in german
    assert f"<b>reasons</b> {flag.get_reason_display()}" in english
    assert "<b>Ursache</b> bestellt" in german
    assert 'Backend</a> <span class="quiet">Schlüssel ' in german
    assert flag.reason not in german + english
    flag_page = reverse("admin:baskets_attention_change", args=[flag.pk])
    assert "Der Kaufvorgang wurde bestellt." in root.get(flag_page, **GERMAN).content.decode()
    with translation.override("de"):
        merged = attention.COMMENTS[attention.Cause.MERGED] % {"number": attention.MAX_OPEN}
        assert flag_comment(merged) == "Dieser Warenkorb hat 20 spätere offene Klärungsfälle."
        assert flag_comment("paid at the desk") == "paid at the desk"
        names = [value_name(name) for name in ("cart", "saved", "short", "candidates", "source", "second_factor")]
    assert names == ["Kaufliste", "Merkliste", "ungedeckt", "mögliche Kaufvorgänge", "Herkunft", "zweiter Faktor"]


def translated_reason(flag: Attention) -> str:
    with translation.override("de"):
        return str(flag.get_reason_display())


def test_language_is_chosen_by_cookie_then_browser_then_english(root: Client) -> None:
    assert '<html lang="en"' in root.get("/admin/").content.decode()
    assert '<html lang="de"' in root.get("/admin/", **GERMAN).content.decode()
    assert '<html lang="en"' in root.get("/admin/", headers={"accept-language": "fr"}).content.decode()
    page = root.get("/admin/").content.decode()
    token = re.search(r'class="languages"><input type="hidden" name="csrfmiddlewaretoken" value="([^"]+)"', page)
    assert token
    assert ">Deutsch</button>" in page
    response = root.post(reverse("staff:language"), {"language": "de", "next": "/admin/records/", "csrfmiddlewaretoken": token[1]})
    assert (response.status_code, response.headers["Location"]) == (302, "/admin/records/")
    cookie = response.cookies[settings.LANGUAGE_COOKIE_NAME]
    assert (cookie["path"], cookie["httponly"], cookie["samesite"]) == ("/admin/", True, "Lax")
    german = root.get("/admin/records/", headers={"accept-language": "en"}).content.decode()
    assert "Alle Datens" in german
    assert ">English</button>" in german
    elsewhere = root.post(reverse("staff:language"), {"language": "en", "next": "//evil.example/", "csrfmiddlewaretoken": token[1]})
    assert elsewhere.headers["Location"] == "/"


@pytest.mark.django_db
def test_sign_in_page_is_german() -> None:
    body = Client().get("/admin/login/", **GERMAN).content.decode()
    assert "Anmelden" in body
    assert "Log in" not in body


def test_texts_of_scripts_are_german(root: Client) -> None:
    texts = root.get(reverse("admin:jsi18n"), **GERMAN).content.decode()
    assert r'"Choose selected %s": "Markierte %s ausw\u00e4hlen"' in texts
    assert '"Today": "Heute"' in texts


@pytest.mark.django_db
def test_what_staff_do_in_german_is_recorded_as_in_english(full_shop: Shop, root: Client) -> None:
    session = CheckoutSession.objects.filter(status="ACTIVE").latest("pk")
    address = reverse("admin:baskets_checkoutsession_repair", args=[session.pk, "abort"])
    page = root.get(address, **GERMAN).content.decode()
    assert "Kaufvorgang abbrechen" in page
    form = {name: re.search(f'name="{name}" value="([^"]*)"', page)[1] for name in ("csrfmiddlewaretoken", "seen")}  # type: ignore[index]
    response = root.post(address, {**form, "reason": "because"}, **GERMAN)
    assert response.status_code == 302
    repaired = Event.objects.filter(basket_id=session.basket_id).latest("number")
    assert (repaired.kind, repaired.data) == ("repaired", {"repair": "abort", "reason": "because", "orderNo": session.order_no})
    # Too late now: the page explains it in German, what the domain says is English.
    refused = root.post(address, {**form, "reason": "because"}, **GERMAN).content.decode()
    assert "Der Datensatz hat sich" in refused
    assert "Status: " not in refused


@pytest.mark.django_db
def test_permissions_problems_of_files_and_reasons_of_calls_are_german(full_shop: Shop, root: Client) -> None:
    account = User.objects.get(username="root")
    body = root.get(reverse("admin:auth_user_change", args=[account.pk]), **GERMAN).content.decode()
    assert "Warenkorb: darf einen Warenkorb beenden" in body
    assert "Warenkorb: darf ansehen" in body
    assert "Can " not in body
    page = reverse("admin:baskets_product_stock_take")
    form = {"csrfmiddlewaretoken": token(root, page), "opened_at": "2026-11-29T00:00:00+00:00", "reason": "x"}
    for counts, problem in (
        ("product_id,counted\na/b,1\n", "Zeile 2: product_id enthält einen Schrägstrich (U+002F)."),
        ("lamp,1\nlamp,2\n", "Zeile 2: product_id &#x27;lamp&#x27; steht schon in Zeile 1."),
        ("name,counted\nlamp,1\n", "fehlende Spalte product_id; die Spalten sind product_id,stock und vielleicht weitere."),
    ):
        assert problem in root.post(page, form | {"counts": counts}, **GERMAN).content.decode()
    with translation.override("de"):
        assert call_reason("out_of_stock") == "Nicht auf Lager"
        assert call_reason("new_reason") == "New reason"
