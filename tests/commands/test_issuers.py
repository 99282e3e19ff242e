"""`add_issuer` and `remove_issuer` at the shell."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from baskets.domain.access import partners
from baskets.models import TokenIssuer
from tests.commands.conftest import Ended, Run
from tests.factories import TESTER
from tests.key_servers import Issuer, serving_keys
from tests.tokens import KeyPair

Stored = Callable[[], dict[str, list[Any]]]
# Keys are fetched outside of any transaction, that of a test included.
pytestmark = pytest.mark.django_db(transaction=True)
URL = "https://login.example.com/jwks.json"
ENC = KeyPair("ES256", kid="enc").jwk | {"use": "enc"}
SKIPPED = "keys[0] (kid 'enc'): The key is not meant for signatures."


def complaints(ended: Ended) -> str:
    """What a command writes to standard error, without the lines of the log that may stand there too."""
    return "".join(line for line in ended.err.splitlines(keepends=True) if not line.startswith("{"))


@pytest.fixture(autouse=True)
def acme_partner() -> None:
    partners.create_partner(name="acme", actor=TESTER)


@pytest.fixture
def server(settings: Any) -> Iterator[Issuer]:
    """The server of an issuer, with one key that can be used and one that cannot."""
    settings.BASKETS_INTERNAL_ADDRESSES = True
    with serving_keys() as issuer:
        issuer.say(json.dumps({"keys": [ENC, KeyPair("ES256").jwk]}).encode())
        yield issuer


@pytest.fixture
def key_file(tmp_path: Path) -> str:
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"keys": [KeyPair("ES256").jwk]}))
    return str(file)


def test_an_issuer_is_added_by_address_and_removed(run: Run, server: Issuer) -> None:
    done = run("add_issuer", "acme", "login", "--keys-url", server.url, "--issuer", "https://login.example.com")
    assert (done.code, done.out, complaints(done)) == (0, f"Trusted issuer 'login' of partner 'acme'.\nSkipped {SKIPPED}\n", "")
    stored = TokenIssuer.objects.get()
    assert (stored.keys_url, stored.issuer, stored.audience, stored.keys) == (server.url, "https://login.example.com", "", None)
    assert [key["kid"] for key in stored.fetched_keys["keys"]] == ["key-1"]
    assert (stored.algorithms, stored.created_by) == (["ES256", "EdDSA", "RS256"], "add_issuer")
    done = run("remove_issuer", "acme", "login")
    assert (done.code, done.out) == (0, "Removed issuer 'login' of partner 'acme'.\n")
    assert not TokenIssuer.objects.exists()
    done = run("remove_issuer", "acme", "login")
    assert (done.code, complaints(done)) == (1, "CommandError: This partner trusts no issuer of this name.\n")


def test_an_issuer_is_trusted_by_a_file_of_keys(run: Run, key_file: str) -> None:
    options = ("--keys", key_file, "--audience", "baskets", "--algorithm", "ES256", "--algorithm", "PS512", "--json")
    assert run("add_issuer", "acme", "login", *options).data == {
        "partner": "acme", "name": "login", "issuer": "", "audience": "baskets", "algorithms": ["ES256", "PS512"],
        "keys_url": "", "skipped": [], "problem": "", "dry_run": False,
    }  # fmt: skip
    assert TokenIssuer.objects.get().keys == json.loads(Path(key_file).read_text())


def test_unusable_keys_of_a_file_are_named(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "mixed.json"
    file.write_text(json.dumps({"keys": [ENC, KeyPair("ES256").jwk]}))
    done = run("add_issuer", "acme", "login", "--keys", str(file), "--audience", "baskets")
    assert (done.code, done.out) == (0, f"Trusted issuer 'login' of partner 'acme'.\nSkipped {SKIPPED}\n")
    file.write_text(json.dumps({"keys": [ENC]}))
    done = run("add_issuer", "acme", "login", "--keys", str(file), "--audience", "baskets")
    assert (done.code, complaints(done)) == (1, f"CommandError: The key set has no usable key. {SKIPPED}\n")
    assert [key["kid"] for key in TokenIssuer.objects.get().keys["keys"]] == ["key-1"]


def test_an_issuer_whose_url_fails_is_added_with_a_warning(run: Run, server: Issuer) -> None:
    server.say(b"", status=500)
    adding = ("add_issuer", "acme", "login", "--keys-url", server.url, "--audience", "baskets")
    done = run(*adding)
    assert (done.code, done.out) == (0, "Trusted issuer 'login' of partner 'acme'.\n")
    assert complaints(done) == "Its keys could not be fetched now: The answer has status 500.\n"
    assert run(*adding, "--json").data["problem"] == "The answer has status 500."
    assert (TokenIssuer.objects.get().fetched_keys, TokenIssuer.objects.get().fetch_problem) == (None, "The answer has status 500.")


def test_without_iss_and_aud_unrestricted_is_required(run: Run, key_file: str, stored_rows: Stored) -> None:
    before = stored_rows()
    done = run("add_issuer", "acme", "login", "--keys", key_file)
    assert (done.code, complaints(done).partition(",")[0]) == (1, "CommandError: Without `iss` and `aud`")
    assert stored_rows() == before
    assert run("add_issuer", "acme", "login", "--keys", key_file, "--unrestricted").code == 0


def test_rehearsals_change_nothing(run: Run, server: Issuer, stored_rows: Stored) -> None:
    source = ("--keys-url", server.url, "--audience", "baskets")
    run("add_issuer", "acme", "login", *source)
    before = stored_rows()
    done = run("add_issuer", "acme", "other", *source, "--dry-run")
    assert done.out == f"Would trust issuer 'other' of partner 'acme'.\nSkipped {SKIPPED}\n"
    assert run("remove_issuer", "acme", "login", "--dry-run").out == "Would remove issuer 'login' of partner 'acme'.\n"
    assert run("refresh_issuer_keys", "--dry-run").out == f"Issuer 'login' of partner 'acme': 1 keys.\nSkipped {SKIPPED}\n"
    assert server.calls == 3
    assert stored_rows() == before


def test_keys_are_fetched_when_an_operator_asks(run: Run, server: Issuer, key_file: str) -> None:
    partners.create_partner(name="zeta", actor=TESTER)
    for partner, name in (("acme", "login"), ("zeta", "login"), ("zeta", "app")):
        run("add_issuer", partner, name, "--keys-url", server.url, "--audience", "baskets")
    run("add_issuer", "zeta", "given", "--keys", key_file, "--audience", "baskets")
    fresh = KeyPair("ES256", kid="key-2")
    server.publish(fresh)

    def refreshed(*arguments: str) -> list[tuple[str, str]]:
        done = run("refresh_issuer_keys", *arguments, "--json")
        assert (done.code, done.data["dry_run"]) == (0, False)
        assert all((one["keys"], one["skipped"], one["problem"]) == (["key-2"], [], "") for one in done.data["issuers"])
        return [(one["partner"], one["name"]) for one in done.data["issuers"]]

    assert refreshed("zeta", "login") == [("zeta", "login")]
    stored = TokenIssuer.objects.published().order_by("partner__name", "name").values_list("fetched_keys", flat=True)
    assert [keys["keys"][0]["kid"] for keys in stored.all()] == ["key-1", "key-1", "key-2"]
    assert refreshed("zeta") == [("zeta", "app"), ("zeta", "login")]
    assert refreshed() == [("acme", "login"), ("zeta", "app"), ("zeta", "login")]
    assert [keys["keys"][0]["kid"] for keys in stored.all()] == ["key-2"] * 3
    server.say(b'{"keys": []}')
    failed = run("refresh_issuer_keys", "acme")
    assert (failed.code, failed.out) == (1, "Issuer 'login' of partner 'acme': The key set has no usable key.\n")
    assert complaints(failed) == "CommandError: The keys of 1 issuer could not be fetched.\n"
    assert [keys["keys"][0]["kid"] for keys in stored.all()] == ["key-2"] * 3
    for unknown in (("unknown",), ("acme", "else"), ("zeta", "given")):
        done = run("refresh_issuer_keys", *unknown)
        assert (done.code, complaints(done)) == (1, "CommandError: This partner trusts no issuer of this name that publishes its keys.\n")


def test_without_published_keys_there_is_nothing_to_fetch(run: Run) -> None:
    assert run("refresh_issuer_keys").out == "There is nothing to fetch.\n"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["acme", "login"], 2),
        (["acme", "login", "--keys-url", URL, "--keys", "x"], 2),
        (["acme", "login", "--keys", "/nothing/here"], 2),
        (["acme", "login", "--keys", __file__], 2),
        (["acme", "login", "--keys-url", URL, "--algorithm", "HS256"], 2),
        (["acme", "lo\ngin", "--keys-url", URL], 2),
        (["unknown", "login", "--keys-url", URL, "--audience", "baskets"], 1),
        (["acme", "login", "--keys-url", "http://login.example.com/", "--audience", "baskets"], 1),
        (["acme", "login", "--keys-url", "https://10.0.0.1/", "--audience", "baskets"], 1),
        (["acme", "login", "--keys-url", URL, "--issuer", "urn:baskets:guests"], 1),
    ],
)
def test_wrong_usage_and_what_cannot_be_trusted(run: Run, arguments: list[str], code: int, stored_rows: Stored) -> None:
    before = stored_rows()
    done = run("add_issuer", *arguments)
    assert (done.code, done.out) == (code, "")
    assert "Traceback" not in done.err
    assert stored_rows() == before
