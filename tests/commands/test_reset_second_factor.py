"""`reset_second_factor`: who has lost telephone and recovery codes signs in with the password and sets up another one."""

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from baskets.models import DeskEntry, SecondFactor
from tests.commands.conftest import Run
from tests.conftest import Log

pytestmark = pytest.mark.django_db


@pytest.fixture
def staff_user() -> User:
    """A member of staff with a second factor."""
    account = User.objects.create_user("vera", is_staff=True)
    SecondFactor.objects.create(user=account, secret=b"x", enrolled_at=timezone.now(), last_timecode=0, recovery_codes=[])
    return account


def test_a_second_factor_is_reset_once(staff_user: User, run: Run) -> None:
    assert run("reset_second_factor", "vera", "--dry-run").out == "Would reset the second factor of 'vera'.\n"
    assert SecondFactor.objects.count() == 1
    assert run("reset_second_factor", "vera").out == "Reset the second factor of 'vera'.\n"
    assert not SecondFactor.objects.exists()
    entry = DeskEntry.objects.get()
    assert (entry.kind, entry.subject, entry.actor_kind, entry.actor) == ("second_factor", "vera", "system", "reset_second_factor")
    again = run("reset_second_factor", "vera")
    assert (again.code, again.err) == (1, "CommandError: This account has no second factor.\n")


def test_a_rehearsal_is_marked_in_the_log(staff_user: User, run: Run, log: Log) -> None:
    run("reset_second_factor", "vera", "--dry-run")
    run("reset_second_factor", "vera")
    assert [line.get("dry_run") for line in log.lines("second_factor")] == [True, None]


def test_an_account_that_does_not_exist_is_named(run: Run) -> None:
    done = run("reset_second_factor", "olga")
    assert (done.code, done.out, done.err) == (1, "", "CommandError: There is no account 'olga'.\n")
