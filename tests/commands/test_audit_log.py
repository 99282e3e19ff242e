"""Every command that writes leaves an entry in the audit log: a new command fails here until it does, or says why it need not."""

import json
import pkgutil
from collections.abc import Callable
from pathlib import Path

import pytest
from django.contrib.auth.models import User

from baskets.domain.access import api_keys, partners, token_issuers
from baskets.domain.events import webhook_endpoints
from baskets.domain.maintenance import load_test
from baskets.management import commands
from baskets.models import DeskEntry, SecondFactor
from tests.commands.conftest import Run
from tests.factories import TESTER
from tests.key_servers import serving_keys
from tests.tokens import KeyPair

pytestmark = pytest.mark.django_db(transaction=True)
COMMANDS = {module.name for module in pkgutil.iter_modules(commands.__path__)}
# What runs unattended all the time would bury the rest.
NOT_RECORDED = {
    "changepassword": "it is recorded, and asks for a password: see `test_accounts`",
    "deliver_webhooks": "each request is an attempt of its webhook",
    "expire_baskets": "each expired checkout and basket is an event of its timeline",
    "load_test": "its calls are calls of a partner; what it sets up is recorded, see below",
    "migrate": "Django records migrations in its own table",
    "move_stock": "each half is recorded in its cell: see `test_stock_moves`",
    "move_slot": "it needs two cells, and is recorded in its own: see `test_slot_moves`",
    "rebalance_stock": "each of its moves is recorded in both cells: see `test_stock_moves`",
    "replicate_catalog": "it is recorded in each cell: see `test_replication`",
    "run_scheduler": "it runs other commands, which record what they do",
    **dict.fromkeys(("haproxy_config", "slot_map"), "it prints a file"),
    **dict.fromkeys(("distrust_issuer", "rehearse", "trust_issuer"), "the former name of another command"),
}


def arguments_of(tmp_path: Path, keys_url: str) -> dict[str, Callable[[], list[str]]]:
    """The arguments with which each command writes, in the order in which they are run."""
    keys, products = tmp_path / "keys.json", tmp_path / "products.csv"
    keys.write_text(json.dumps({"keys": [KeyPair("ES256").jwk]}))
    products.write_text("product_id,name,brand,variant,main_product_id,currency,price\nlamp,Lamp,,,,,\n")

    def issuer() -> list[str]:
        token_issuers.add_issuer(partner_name="acme", name="published", audience="a", keys_url=keys_url, actor=TESTER)
        return ["acme"]

    def webhook() -> list[str]:
        endpoint, _ = webhook_endpoints.create_webhook(partner_name="acme", url="https://example.com/", actor=TESTER)
        return [str(endpoint.pk), "--pause", "--reason", "maintenance"]

    def account() -> list[str]:
        user = User.objects.create(username="nora", is_staff=True)
        SecondFactor.objects.create(user=user, secret=b"", enrolled_at=user.date_joined, last_timecode=0, recovery_codes=[])
        return ["nora"]

    return {
        "create_partner": lambda: ["Nova"],
        "create_api_key": lambda: ["acme"],
        "revoke_api_key": lambda: [api_keys.issue_api_key(partner_name="acme", actor=TESTER)[0].prefix],
        "allow_origins": lambda: ["acme", "https://player.example.com"],
        "add_issuer": lambda: ["acme", "login", "--audience", "baskets", "--keys", str(keys)],
        "remove_issuer": lambda: ["acme", "login"],
        "refresh_issuer_keys": issuer,
        "create_webhook": lambda: ["acme", "https://example.com/"],
        "change_webhook": webhook,
        "rotate_guest_keys": list,
        "reset_second_factor": account,
        "createsuperuser": lambda: ["--noinput", "--username", "olga", "--email", "olga@example.com"],
        "import_products": lambda: [str(products)],
        "check_baskets": list,
        "purge_history": lambda: ["--older-than-days", "400"],
        "reencrypt_secrets": list,
        "create_service_role": lambda: ["audit_log_role"],
        "claim_slots": list,
        "load_demo": list,
    }


def test_every_command_that_writes_leaves_an_entry(run: Run, tmp_path: Path, settings: object) -> None:
    settings.BASKETS_INTERNAL_ADDRESSES = True  # type: ignore[attr-defined]
    partners.create_partner(name="acme", actor=TESTER)
    with serving_keys() as server:
        server.say(json.dumps({"keys": [KeyPair("ES256").jwk]}).encode())
        arguments = arguments_of(tmp_path, server.url)
        assert arguments.keys() | NOT_RECORDED.keys() == COMMANDS
        silent, unauthored = [], []
        for name, make in arguments.items():
            given = make()
            last = DeskEntry.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
            ended = run(name, *given)
            assert ended.code == 0, (name, ended.err)
            entries = DeskEntry.objects.filter(pk__gt=last)
            if not entries:
                silent.append(name)
            if entries.exclude(actor=name, actor_kind="system"):
                unauthored.append(name)
    assert (silent, unauthored) == ([], [])


def test_what_a_load_test_sets_up_is_recorded() -> None:
    load_test.set_up(pieces=1)
    load_test.tear_down()
    kinds = DeskEntry.objects.filter(actor="load_test").values_list("kind", "about")
    assert {("created", "partner"), ("created", "apikey"), ("revoked", "apikey")} <= set(kinds)
