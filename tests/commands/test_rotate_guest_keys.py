"""`rotate_guest_keys` at the shell."""

from collections.abc import Callable
from typing import Any

import pytest

from baskets.domain.access import signing_keys
from baskets.domain.timestamps import format_timestamp
from baskets.models import SigningKey
from tests.commands.conftest import Run

pytestmark = pytest.mark.django_db


def test_a_new_key_signs_and_the_old_one_is_kept(run: Run) -> None:
    old = signing_keys.current_signer().kid
    done = run("rotate_guest_keys")
    assert signing_keys.current_signer().kid == old
    fresh = SigningKey.objects.newest().get()
    assert (done.code, done.out, done.err) == (0, f"Key {fresh.kid} signs from {format_timestamp(fresh.signs_from)} on.\n", "")
    assert set(SigningKey.objects.valid().values_list("kid", flat=True)) == {old, fresh.kid}


def test_it_works_before_there_is_any_key(run: Run) -> None:
    assert run("rotate_guest_keys", "--json").data["kid"] == SigningKey.objects.newest().get().kid


@pytest.mark.parametrize("option", ["--revoke-old", "--distrust-old"])
def test_stolen_key_is_revoked(run: Run, option: str) -> None:
    old = signing_keys.current_signer().kid
    done = run("rotate_guest_keys", option)
    fresh = signing_keys.current_signer().kid
    begin = format_timestamp(SigningKey.objects.get().signs_from)
    assert done.out == f"Key {fresh} signs from {begin} on. Removed, because all their tokens have expired: {old}.\n"
    assert [key.kid for key in SigningKey.objects.all()] == [fresh]


def test_a_rehearsal_changes_nothing(run: Run, stored_rows: Callable[[], dict[str, list[Any]]]) -> None:
    signing_keys.current_signer()
    before = stored_rows()
    assert run("rotate_guest_keys", "--dry-run").out == "Would sign with a new key.\n"
    assert run("rotate_guest_keys", "--dry-run", "--json").data == {"kid": None, "signs_from": None, "removed": [], "dry_run": True}
    assert stored_rows() == before
