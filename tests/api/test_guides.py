"""The guides at `/docs`: every page is served, its links lead somewhere, its numbers are the service's, and its examples run."""

import base64
import contextlib
import json
import os
import re
import socket
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from operator import itemgetter
from pathlib import Path
from typing import Any

import jwt
import pytest
import urllib3
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from django.test import Client
from standardwebhooks import Webhook

from baskets import conf
from baskets.api.exceptions import TABLE
from baskets.api.protocol.versioning import DEFAULT_VERSION, SUPPORTED_VERSIONS
from baskets.api.views import guides
from baskets.domain.access import api_keys, token_issuers
from baskets.domain.baskets import transfers
from baskets.domain.events import feed
from baskets.domain.maintenance.demo_data import PRODUCTS, load_demo
from baskets.models import ApiKey, CheckoutSession, Event, Partner
from baskets.models.basket_snapshot import Owner
from tests.domain.scenarios import User
from tests.factories import TESTER
from tests.project.documents import DOCS, fenced, rows

PARTNERS = DOCS / "partners"
PATHS = ["/docs", *(f"/docs/{slug}" for slug in guides.GUIDES[1:]), *(f"/docs/errors/{reason}" for reason in TABLE)]


class Read(HTMLParser):
    """What a browser finds in a page: its links, the ids that links lead to, and everything that it would load."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.loaded: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag == "a":
            self.links.append(found["href"])
        self.loaded += [found[name] for name in ("src", "href") if tag != "a" and name in found]
        self.ids += [found["id"]] if "id" in found else []


@pytest.mark.parametrize("path", PATHS)
def test_every_page_is_served_and_its_links_lead_somewhere(client: Client, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 200
    page = Read(response.content.decode())
    assert all(address.startswith("/static/") for address in page.loaded)
    assert len(page.ids) == len(set(page.ids))
    for link in page.links:
        if link.startswith("https://"):
            continue
        target, _, anchor = link.partition("#")
        there = client.get(target or path)
        assert there.status_code == 200, link
        assert not anchor or anchor in Read(there.content.decode()).ids, link


def test_every_guide_is_in_the_navigation_and_every_file_is_a_guide(client: Client) -> None:
    assert {path.stem for path in PARTNERS.glob("*.md")} == set(guides.GUIDES)
    links = Read(client.get("/docs/retries").content.decode()).links
    assert [link for link in links if link in PATHS][: len(guides.GUIDES) + 1] == ["/docs", *PATHS[: len(guides.GUIDES)]]


@pytest.mark.parametrize(
    "path",
    ["/docs/nowhere", "/docs/errors/nowhere", "/docs/../settings", "/docs//", "/docs/retries//", "/docs/nowhere/", "/docs/start.md"],
)
def test_unknown_page_is_not_found(client: Client, path: str) -> None:
    assert client.get(path).status_code == 404


def test_examples_call_the_address_of_the_reader(client: Client, settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["api.example.com"]
    page = client.get("/docs", headers={"host": "api.example.com"}).content.decode()
    assert "http://api.example.com/baskets/users/viewer-1" in page
    assert "127.0.0.1" not in page
    settings.BASKETS_PUBLIC_URL = "https://shop.example.com/"
    assert "https://shop.example.com/baskets/users/viewer-1" in client.get("/docs", headers={"host": "api.example.com"}).content.decode()


def test_each_example_is_given_in_every_language() -> None:
    languages = re.findall(r"^```(\w+)$", (PARTNERS / "start.md").read_text(), re.MULTILINE)
    assert [language for language in languages if language != "text"] == [*guides.LANGUAGES] * 5


def test_changes_are_listed_by_version() -> None:
    versions = re.findall(r"^## (.+)$", (PARTNERS / "changelog.md").read_text(), re.MULTILINE)
    assert (versions[0], sorted(versions)) == (DEFAULT_VERSION, sorted(SUPPORTED_VERSIONS))


def test_products_are_those_of_the_demo() -> None:
    listed = [
        [f"`{row.product_id}`", ", ".join(filter(None, (row.name, row.variant))), "unlimited" if row.stock is None else str(row.stock)]
        for row in PRODUCTS
        if row.listed is not False
    ]
    assert rows(PARTNERS / "start.md", "Product") == listed


# --- Numbers ------------------------------------------------------------------


def test_each_reason_has_its_status_code_and_advice() -> None:
    _, *sections = re.split(r"^## ", (PARTNERS / "errors.md").read_text(), flags=re.MULTILINE)
    found = {}
    for section in sections:
        stated = re.match(r"`(\w+)`\n\nHTTP (\d+), code (\d+)\. Repeat|`(\w+)`\n\nHTTP (\d+), code (\d+)\. Do not repeat", section)
        assert stated, section
        reason, status, code = (value for value in stated.groups() if value)
        found[reason] = (int(status), int(code))
        assert "**Why.** " in section
        assert "**What to do.** " in section
    assert found == TABLE


def test_limits_and_times_are_the_defaults() -> None:
    stated = {row[0]: row[1] for heading in ("What | Limit", "What | Time") for row in rows(PARTNERS / "limits.md", heading)}
    numbers = {
        "products in the cart": conf.cart_limit(),
        "products in saved": conf.saved_limit(),
        "pieces of one product in a call": conf.piece_limit(),
        "products in one call for details": conf.details_limit(),
        "body of a call": f"{conf.body_limit_bytes() // 1024} KiB",
        "reservation of a checkout": conf.hold_duration(),
        "late order, after the end of the checkout": conf.grace_period(),
        "basket, after its last change": conf.basket_lifetime(),
        "guest and its token": conf.guest_token_lifetime(),
        "transfer token": transfers.TOKEN_LIFETIME,
        "stored response of an `Idempotency-Key`": conf.idempotency_window(),
    }
    units = {"minute": timedelta(minutes=1), "hours": timedelta(hours=1), "days": timedelta(days=1), "minutes": timedelta(minutes=1)}
    for what, value in numbers.items():
        amount, _, unit = stated[what].partition(" ")
        assert (int(amount) * units[unit] if isinstance(value, timedelta) else stated[what]) == (
            value if isinstance(value, timedelta) else str(value)
        ), what


# --- Examples -----------------------------------------------------------------


@pytest.fixture
def demo_key(transactional_db: None) -> str:
    """The test key that the demo prints."""
    key = load_demo().test_api_key
    assert key is not None
    return key


@pytest.mark.parametrize(("language", "program"), [("sh", ["bash", "-euo", "pipefail", "-s"]), ("python", [sys.executable, "-"])])
def test_first_calls_order_a_product(demo_key: str, live_server: Any, language: str, program: list[str]) -> None:
    text = "\n".join(fenced(PARTNERS / "start.md", language)).replace(guides.EXAMPLE_URL, live_server.url)
    # curl prints what it gets, and takes an error for a success: here it must fail.
    text = text.replace("curl -sS", "curl -sSf")
    run = subprocess.run(
        program, check=False, input=text, env={"KEY": demo_key, "PATH": "/usr/bin:/bin"}, capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 0, run.stderr
    session = CheckoutSession.objects.get(basket__user_id="viewer-1")
    assert session.status == CheckoutSession.Status.ORDERED
    assert [(item.product_id, item.count) for item in session.items.all()] == [("sandbox-plenty", 2)]


def test_guest_is_created_and_its_keys_are_read(demo_key: str, live_server: Any) -> None:
    create, read_keys, _ = fenced(PARTNERS / "guests.md", "sh")
    text = (create + read_keys).replace(guides.EXAMPLE_URL, live_server.url).replace("curl ", "curl -sSf ")
    run = subprocess.run(
        ["/bin/bash", "-euo", "pipefail", "-s"],
        check=False,
        input=text,
        env={"KEY": demo_key, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    assert all(word in run.stdout for word in ("sandbox-plenty", "jwt", "crv"))


def test_repeating_client_gives_up_only_where_a_repeat_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = fenced(PARTNERS / "retries.md", "python")
    example: dict[str, Any] = {}
    exec(compile(code, "retries.md", "exec"), example)  # noqa: S102 (our own document)
    pauses: list[float] = []
    monkeypatch.setattr("time.sleep", pauses.append)
    requests = example["requests"]

    def answers(*outcomes: tuple[int, dict[str, str]] | type[Exception]) -> Any:
        remaining = list(outcomes)

        def request(method: str, url: str, **arguments: Any) -> Any:
            outcome = remaining.pop(0)
            if not isinstance(outcome, tuple):
                raise outcome
            response = requests.Response()
            response.status_code, response.headers = outcome[0], outcome[1]
            return response

        monkeypatch.setattr(requests, "request", request)
        return remaining

    left = answers((503, {"Retry-After": "7"}), requests.ConnectionError, requests.Timeout, (422, {}), (200, {}))
    assert example["call"]("POST", "/").status_code == 422
    assert len(left) == 1
    assert pauses[0] == 7
    assert 0.2 < pauses[1] < pauses[2] * 2
    answers(*[requests.Timeout] * 6)
    with pytest.raises(ConnectionError):
        example["call"]("POST", "/")


def test_receiver_stores_each_message_once_and_refuses_forgeries(tmp_path: Path) -> None:
    (code,) = fenced(PARTNERS / "webhooks.md", "python")
    secret, forged = (Webhook(base64.b64encode(os.urandom(24)).decode()) for _ in range(2))
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    variables = {
        "WEBHOOK_SECRET": "whsec_" + base64.b64encode(secret._whsecret).decode(),
        "DATABASE_FILE": str(tmp_path / "messages"),
        "PORT": str(port),
    }
    receiver = subprocess.Popen([sys.executable, "-c", code], env=variables, stderr=subprocess.DEVNULL)
    body, sent_at = '{"type":"checkout_ordered"}', datetime.now(UTC)

    def post(signer: Webhook) -> int:
        headers = {
            "webhook-id": "evt-1",
            "webhook-timestamp": str(int(sent_at.timestamp())),
            "webhook-signature": signer.sign("evt-1", sent_at, body),
        }
        retry = urllib3.Retry(connect=20, backoff_factor=0.1)
        return int(urllib3.request("POST", f"http://127.0.0.1:{port}/", body=body, headers=headers, retries=retry).status)

    try:
        assert [post(forged), post(secret), post(secret)] == [401, 204, 204]
    finally:
        receiver.terminate()
        receiver.wait(60)
    with contextlib.closing(sqlite3.connect(tmp_path / "messages")) as stored:
        assert stored.execute("SELECT id, body, done FROM message").fetchall() == [("evt-1", body, 0)]


def test_consumer_reads_each_event_once(demo_key: str, live_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = fenced(PARTNERS / "feed.md", "python")
    example: dict[str, Any] = {}
    exec(compile(code.replace(guides.EXAMPLE_URL, live_server.url), "feed.md", "exec"), example)  # noqa: S102 (our own document)
    monkeypatch.setenv("KEY", demo_key)
    viewer = User(Owner(partner_id=Partner.objects.get(name="demo (sandbox)").pk, user_id="viewer-1"))
    viewer.place("sandbox-plenty", 2)
    viewer.start()
    feed.assign_positions()
    with contextlib.closing(sqlite3.connect(tmp_path / "events")) as copy:
        for _ in range(2):
            example["read_feed"](copy, until_empty=True)
        copied = copy.execute("SELECT user_id, kind FROM event ORDER BY rowid").fetchall()
    recorded = Event.objects.filter(basket__partner__name="demo (sandbox)").order_by("number").values_list("basket__user_id", "kind")
    # The order holds within a basket.
    assert sorted(copied, key=itemgetter(0)) == sorted(recorded, key=itemgetter(0))
    assert ("viewer-1", "checkout_started") in copied


def test_token_of_the_example_opens_the_basket_of_its_user(demo_key: str, client: Client) -> None:
    (code,) = fenced(PARTNERS / "keys.md", "python")
    example: dict[str, Any] = {}
    exec(compile(code, "keys.md", "exec"), example)  # noqa: S102 (our own document)
    private = ec.generate_private_key(ec.SECP256R1())
    public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(private.public_key())) | {"kid": "2026-11"}
    issuer = "https://accounts.example.com"
    token_issuers.add_issuer(
        partner_name="demo (sandbox)", name="login", keys={"keys": [public]}, issuer=issuer, audience="baskets", actor=TESTER
    )
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    _, app_key = api_keys.issue_api_key(partner_name="demo (sandbox)", label="app", kind=ApiKey.Kind.CLIENT, actor=TESTER)

    def status(user_id: str) -> int:
        bearer = example["token_for"]("viewer-1", private_key=pem)
        headers = {"X-API-Key": app_key, "Authorization": f"Bearer {bearer}"}
        return int(client.get(f"/baskets/users/{user_id}", headers=headers).status_code)

    assert (status("viewer-1"), status("viewer-2")) == (200, 401)
