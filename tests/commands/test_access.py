"""`create_partner`, `create_api_key` and `revoke_api_key` at the shell."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from baskets.domain import runner
from baskets.domain.access import api_keys, partners
from baskets.domain.actors import Actor, ActorKind
from baskets.domain.checkout import sessions
from baskets.domain.support.key_misuse import RepairBatch
from baskets.management.commands import revoke_api_key
from baskets.models import ApiKey, Event, Partner, Stock
from baskets.models.basket_snapshot import Owner
from tests.commands.conftest import Run
from tests.domain.scenarios import User
from tests.factories import TESTER, ProductFactory

pytestmark = pytest.mark.django_db


def test_a_partner_is_created_once(run: Run) -> None:
    done = run("create_partner", "Acme TV", "--late-orders", "accept", "--hold-minutes", "15", "--share-percent", "0")
    assert (done.code, done.out, done.err) == (0, "Created partner 'Acme TV'.\n", "")
    assert Partner.objects.values_list("name", "late_orders", "hold_seconds", "share_percent").get() == ("Acme TV", "accept", 900, 0)
    done = run("create_partner", "Acme TV")
    assert (done.code, done.out, done.err) == (1, "", "CommandError: There is already a partner of this name.\n")


def test_a_partner_as_json(run: Run) -> None:
    assert run("create_partner", "acme", "--json").data == {
        "partner": "acme",
        "late_orders": "refuse",
        "hold_minutes": None,
        "share_percent": None,
        "orders_need_server_key": False,
        "dry_run": False,
    }


def test_partner_is_created_whose_server_keys_alone_report_orders(run: Run) -> None:
    assert run("create_partner", "acme", "--orders-need-server-key", "--json").data["orders_need_server_key"] is True
    assert Partner.objects.get().orders_need_server_key is True


def test_rehearsals_change_nothing(run: Run, stored_rows: Callable[[], dict[str, list[Any]]]) -> None:
    partners.create_partner(name="acme", actor=TESTER)
    key, _ = api_keys.issue_api_key(partner_name="acme", actor=TESTER)
    before = stored_rows()
    done = run("create_partner", "other", "--dry-run")
    assert (done.code, done.out) == (0, "Would create partner 'other'.\n")
    done = run("create_api_key", "acme", "--dry-run")
    assert (done.code, done.out, done.err) == (0, "", "Would issue a server key for partner 'acme'.\n")
    assert run("create_api_key", "acme", "--dry-run", "--json").data["api_key"] is None
    done = run("revoke_api_key", key.prefix, "--dry-run")
    assert (done.code, done.out) == (0, f"Would revoke key {key.prefix} of partner 'acme'.\n")
    assert stored_rows() == before


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        [""],
        ["a\nb"],
        ["x" * 101],
        ["a", "b"],
        ["a", "--hold-minutes", "0"],
        ["a", "--hold-minutes", "-1"],
        ["a", "--hold-minutes", "10081"],
        ["a", "--hold-minutes", "1.5"],
        ["a", "--hold-minutes", "1_0"],
        ["a", "--hold-minutes", "9" * 5000],
        ["a", "--late-orders", "maybe"],
        ["a", "--unknown"],
    ],
)
def test_wrong_usage_of_create_partner(run: Run, arguments: list[str]) -> None:
    done = run("create_partner", *arguments)
    assert (done.code, done.out) == (2, "")
    assert not Partner.objects.exists()


def test_the_key_stands_alone_on_standard_output(run: Run) -> None:
    partners.create_partner(name="acme", actor=TESTER)
    done = run("create_api_key", "acme")
    assert (done.code, done.err) == (0, "")
    assert re.fullmatch(r"bk_[a-z0-9]{12}_[0-9a-f]{64}\n", done.out)
    key = ApiKey.objects.get()
    assert bytes(key.digest) == api_keys.digest_key(done.out.strip())
    assert (key.kind, key.label, key.expires_at, key.created_by) == ("server", "", None, "create_api_key")


def test_a_client_key_as_json(run: Run) -> None:
    partners.create_partner(name="acme", actor=TESTER)
    data = run(
        "create_api_key", "acme", "--client", "--label", "iOS", "--expires-in-days", "30", "--calls-per-minute", "600", "--json"
    ).data
    key = ApiKey.objects.get()
    assert data == {
        "api_key": data["api_key"],
        "prefix": key.prefix,
        "partner": "acme",
        "kind": "client",
        "test": False,
        "label": "iOS",
        "calls_per_minute": 600,
        "expires_at": key.expires_at.isoformat() if key.expires_at else None,
        "dry_run": False,
    }
    assert api_keys.parse_key_prefix(data["api_key"]) == key.prefix
    assert key.expires_at is not None
    assert (key.expires_at - key.created_at).days == 30


def test_a_test_key_opens_the_sandbox_once(run: Run) -> None:
    partners.create_partner(name="acme", actor=TESTER)
    assert run("create_api_key", "acme", "--test", "--dry-run").err == "Would issue a server key for partner 'acme (sandbox)'.\n"
    assert Partner.objects.count() == 1
    data = [run("create_api_key", "acme", "--test", *more, "--json").data for more in ((), ("--client",))]
    assert [(key["partner"], key["kind"], key["test"], key["calls_per_minute"]) for key in data] == [
        ("acme (sandbox)", kind, True, 600) for kind in ("server", "client")
    ]
    assert all(key["prefix"].startswith("test") for key in data)
    assert Partner.objects.get(sandbox_of__name="acme").api_keys.count() == 2


def test_a_key_of_an_unknown_partner(run: Run) -> None:
    done = run("create_api_key", "unknown")
    assert (done.code, done.out, done.err) == (1, "", "CommandError: There is no partner of this name.\n")


@pytest.mark.parametrize("days", ["0", "-3", "36501", "x", ""])
def test_wrong_usage_of_create_api_key(run: Run, days: str) -> None:
    partners.create_partner(name="acme", actor=TESTER)
    assert run("create_api_key", "acme", "--expires-in-days", days).code == 2
    assert not ApiKey.objects.exists()


@pytest.mark.parametrize("calls", ["-1", "1000001", "1.5", "many", ""])
def test_wrong_limits_of_create_api_key(run: Run, calls: str) -> None:
    partners.create_partner(name="acme", actor=TESTER)
    assert run("create_api_key", "acme", "--calls-per-minute", calls).code == 2
    assert not ApiKey.objects.exists()


@pytest.mark.parametrize("form", ["{prefix}", "bk_{prefix}", "{text}"])
def test_a_key_is_revoked_by_its_prefix_or_by_itself_and_repeating_is_fine(run: Run, form: str) -> None:
    partners.create_partner(name="acme", actor=TESTER)
    key, text = api_keys.issue_api_key(partner_name="acme", actor=TESTER)
    argument = form.format(prefix=key.prefix, text=text)
    done = run("revoke_api_key", argument, "--json")
    assert done.code == 0
    key.refresh_from_db()
    assert key.revoked_at is not None
    assert done.data == {
        "prefix": key.prefix,
        "partner": "acme",
        "revoked_at": key.revoked_at.isoformat(),
        "dry_run": False,
    }
    again = run("revoke_api_key", argument)
    assert (again.code, again.out) == (0, f"Key {key.prefix} of partner 'acme' is revoked since {key.revoked_at.isoformat()}.\n")


def test_an_unknown_prefix_is_refused(run: Run) -> None:
    done = run("revoke_api_key", "abcdefghijkl")
    assert (done.code, done.err) == (1, "CommandError: There is no API key with this prefix.\n")


@pytest.mark.parametrize("text", ["", "short", "ABCDEFGHIJKL", "bk_abcdefghijkl_" + "0" * 63, "abcdefghijk\n"])
def test_what_is_no_prefix_is_wrong_usage_and_not_repeated(run: Run, text: str) -> None:
    done = run("revoke_api_key", text)
    assert done.code == 2
    assert "0000" not in done.err


def test_holds_of_a_revoked_key_are_released_and_its_orders_reversed(run: Run, owner: Owner, stored_rows: Any) -> None:
    ProductFactory(product_id="shirt", unsold=9)
    key = ApiKey.objects.create(partner_id=owner.partner_id, prefix="abcdefghijkl", digest=bytes(32), kind="client", created_by="tests")
    actor = Actor(kind=ActorKind.KEY, name=key.prefix)
    for number, ordered in enumerate([True, False]):
        user = User(replace(owner, user_id=f"guest-{number}"))
        user.place("shirt", 3)
        runner.run(sessions.start_session, owner=user.owner, actor=actor)
        if ordered:
            runner.run(sessions.finish_session, owner=user.owner, ordered=True, order_no=None, actor=actor)
    undo = ("revoke_api_key", key.prefix, "--release-holds", "--reverse-orders-since", "2020-01-01T00:00:00Z")
    before = stored_rows()
    done = run(*undo, "--dry-run")
    assert (done.code, done.out) == (
        0,
        f"Would revoke key {key.prefix} of partner {key.partner.name!r}. Would abort 1 checkouts. Would reverse 1 orders.\n",
    )
    assert stored_rows() == before
    data = run(*undo, "--reason", "stolen on Friday", "--json").data
    assert {name: data[name] for name in data if name.startswith(("checkouts", "orders"))} == {
        "checkouts_aborted": 1,
        "checkouts_left_in_use": 0,
        "orders_reversed": 1,
        "orders_left_in_use": 0,
    }
    assert Stock.objects.get().available == 9
    lines = Event.objects.filter(kind=Event.Kind.REPAIRED).values_list("actor", "data__repair", "data__reason")
    assert ("revoke_api_key", "abort", "stolen on Friday") in set(lines)
    key.refresh_from_db()
    assert key.revoked_at is not None
    assert run(*undo).out.endswith("Aborted 0 checkouts. Reversed 0 orders.\n")


def test_repairs_go_on_in_passes_while_there_is_something_left_or_new() -> None:
    # Each row is a pass: the number of repaired checkouts, and of those in use. A call that ran at the revocation commits late.
    rows = iter([(2, 1), (1, 0), (0, 0), (5, 0)])

    def repair_batch(*, after: int) -> RepairBatch:
        done, left = next(rows) if after == 0 else (0, 0)
        return RepairBatch(found=done + left, last=9, done=done, left=left)

    totals = revoke_api_key._repair_in_passes("orders", repair_batch, passes=revoke_api_key.PASSES, stop=lambda: False)
    assert (totals.done, totals.left, next(rows)) == (3, 0, (5, 0))


@pytest.mark.parametrize("options", [["--reverse-orders-since", "yesterday"], ["--reason", ""], ["--reason", "x" * 501]])
def test_undoing_takes_a_moment_and_a_reason(run: Run, options: list[str]) -> None:
    assert run("revoke_api_key", "abcdefghijkl", "--release-holds", *options).code == 2
