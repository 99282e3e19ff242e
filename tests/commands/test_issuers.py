"""`trust_issuer` and `distrust_issuer` at the shell."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from baskets.domain import partners
from baskets.models import TokenIssuer
from tests.commands.conftest import Run
from tests.tokens import KeyPair

pytestmark = pytest.mark.django_db
URL = "https://login.example.com/jwks.json"


@pytest.fixture(autouse=True)
def acme() -> None:
    partners.create_partner(name="acme")


@pytest.fixture
def key_file(tmp_path: Path) -> str:
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"keys": [KeyPair("ES256").jwk]}))
    return str(file)


def test_an_issuer_is_trusted_by_address_and_distrusted(run: Run) -> None:
    done = run("trust_issuer", "acme", "login", "--keys-url", URL, "--issuer", "https://login.example.com")
    assert (done.code, done.out, done.err) == (0, "Trusted issuer 'login' of partner 'acme'.\n", "")
    stored = TokenIssuer.objects.get()
    assert (stored.keys_url, stored.issuer, stored.audience, stored.keys) == (URL, "https://login.example.com", "", None)
    assert (stored.algorithms, stored.created_by) == (["ES256", "EdDSA", "RS256"], "trust_issuer")
    done = run("distrust_issuer", "acme", "login")
    assert (done.code, done.out) == (0, "Distrusted issuer 'login' of partner 'acme'.\n")
    assert not TokenIssuer.objects.exists()
    done = run("distrust_issuer", "acme", "login")
    assert (done.code, done.err) == (1, "CommandError: This partner trusts no issuer of this name.\n")


def test_an_issuer_is_trusted_by_a_file_of_keys(run: Run, key_file: str) -> None:
    options = ("--keys", key_file, "--audience", "baskets", "--algorithm", "ES256", "--algorithm", "PS512", "--json")
    assert run("trust_issuer", "acme", "login", *options).data == {
        "partner": "acme", "name": "login", "issuer": "", "audience": "baskets", "algorithms": ["ES256", "PS512"],
        "keys_url": "", "dry_run": False,
    }  # fmt: skip
    assert TokenIssuer.objects.get().keys == json.loads(Path(key_file).read_text())


def test_rehearsals_change_nothing(run: Run, everything_stored: Callable[[], dict[str, list[Any]]]) -> None:
    run("trust_issuer", "acme", "login", "--keys-url", URL)
    before = everything_stored()
    assert run("trust_issuer", "acme", "other", "--keys-url", URL, "--dry-run").out == "Would trust issuer 'other' of partner 'acme'.\n"
    assert run("distrust_issuer", "acme", "login", "--dry-run").out == "Would distrust issuer 'login' of partner 'acme'.\n"
    assert everything_stored() == before


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["acme", "login"], 2),
        (["acme", "login", "--keys-url", URL, "--keys", "x"], 2),
        (["acme", "login", "--keys", "/nothing/here"], 2),
        (["acme", "login", "--keys", __file__], 2),
        (["acme", "login", "--keys-url", URL, "--algorithm", "HS256"], 2),
        (["acme", "lo\ngin", "--keys-url", URL], 2),
        (["nobody", "login", "--keys-url", URL], 1),
        (["acme", "login", "--keys-url", "http://login.example.com/"], 1),
        (["acme", "login", "--keys-url", "https://10.0.0.1/"], 1),
        (["acme", "login", "--keys-url", URL, "--issuer", "urn:baskets:guests"], 1),
    ],
)
def test_wrong_usage_and_what_cannot_be_trusted(
    run: Run, arguments: list[str], code: int, everything_stored: Callable[[], dict[str, list[Any]]]
) -> None:
    before = everything_stored()
    done = run("trust_issuer", *arguments)
    assert (done.code, done.out) == (code, "")
    assert "Traceback" not in done.err
    assert everything_stored() == before
