"""The second factor of staff: codes of an authenticator app (TOTP, RFC 6238), and recovery codes.

The secret is stored encrypted, recovery codes as digests: read access to the database reveals neither. This module limits the
attempts; `baskets.admin` decides which pages require a code. Source: ADR 42.
"""

import base64
import hashlib
import secrets
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

import pyotp
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models.functions import Now
from django.utils.translation import gettext_noop
from pyotp.exceptions import OTPVerificationError

from baskets import conf
from baskets.db.pipeline import execute
from baskets.db.transactions import run_in_transaction
from baskets.domain import audit_log
from baskets.domain.access import rate_limits
from baskets.domain.actors import Actor
from baskets.domain.errors import Refusal
from baskets.domain.staff import sessions
from baskets.encryption import UnreadableSecret, decrypt, encrypt
from baskets.models import DeskEntry, SecondFactor

ISSUER = "Baskets"
ENCRYPTION_PURPOSE = "secondfactor.secret"
SUPERUSERS = "superusers"
# Phone clocks are off by less than one step of 30 seconds, in either direction.
TOLERATED_STEPS = 1
RECOVERY_CODES = 10
RECOVERY_CODE_BYTES = 10
# Three of a million codes are valid at any time: at 50 attempts a day, guessing one takes 12 years at even odds.
MAX_ATTEMPTS = 10
MAX_ATTEMPTS_PER_DAY = 50
DIGITS = 6

T = TypeVar("T")


class InvalidCode(Refusal):
    """The code is wrong, already used, or of another time."""

    reason = "code_wrong"
    message = gettext_noop("This code is not right, or it was used already. Wait for the next one and try again.")


class FactorUnreadable(Refusal):
    """The secret cannot be decrypted: its key was removed, or it belongs to another account."""

    reason = "second_factor_unreadable"
    message = gettext_noop("The code cannot be checked. Use one of your recovery codes, or ask for a reset of the second factor.")


class TooManyCodes(Refusal):
    """Too many wrong codes were entered for this account.

    :param seconds: until the next attempt is allowed.
    """

    reason = "codes_throttled"
    message = gettext_noop("There were too many wrong codes.")

    def __init__(self, *, seconds: int) -> None:
        super().__init__()
        self.seconds = seconds


class AlreadyEnrolled(Refusal):
    """The account has a second factor."""

    reason = "already_enrolled"
    message = gettext_noop("This account has a second factor already. Remove it first to set up another one.")


class NotEnrolled(Refusal):
    """The account has no second factor."""

    reason = "not_enrolled"
    message = gettext_noop("This account has no second factor.")


def new_secret() -> str:
    """Generate a secret of 160 bits, in base 32."""
    return pyotp.random_base32()


def provisioning_uri(*, secret: str, account: User) -> str:
    """Return the `otpauth:` URI that authenticator apps read from a QR image."""
    return pyotp.TOTP(secret).provisioning_uri(name=account.get_username(), issuer_name=ISSUER)


def is_enrolled(account: User) -> bool:
    """Return whether an account has a second factor."""
    return SecondFactor.objects.filter(pk=account.pk).exists()


def is_required(account: User) -> bool:
    """Return whether `BASKETS_SECOND_FACTOR_ROLES` requires a second factor of an account."""
    roles = conf.second_factor_roles()
    if account.is_superuser and SUPERUSERS in roles:
        return True
    return bool(roles) and account.groups.filter(name__in=roles).exists()


def recovery_codes_left(account: User) -> int:
    """Return the number of unused recovery codes of an account."""
    codes = SecondFactor.objects.filter(pk=account.pk).values_list("recovery_codes", flat=True).first()
    return len(codes or ())


def enroll(*, account: User, secret: str, code: str, session_key: str, actor: Actor) -> list[str]:
    """Set up the second factor of an account, after a code proves that the app has the secret. Ends its other sessions.

    Locks nothing: if two enrollments run at once, the primary key admits one.

    :param secret: from `new_secret`.
    :param session_key: of the session to keep.
    :returns: the recovery codes. Only their digests are stored.
    :raises InvalidCode: the code does not fit the secret.
    :raises AlreadyEnrolled: the account has a second factor.
    :raises TooManyCodes: too many wrong codes were entered.
    """

    def step() -> list[str]:
        timecode = _match_timecode(secret, code, after=0)
        codes = _new_recovery_codes()
        fields = {
            "secret": encrypt(secret, purpose=ENCRYPTION_PURPOSE, context=account.pk),
            "enrolled_at": Now(),
            "last_timecode": timecode,
            "recovery_codes": _digests(codes),
        }
        _, is_new = SecondFactor.objects.get_or_create(pk=account.pk, defaults=fields)
        if not is_new:
            raise AlreadyEnrolled
        _record("enrolled", account, actor)
        sessions.end_sessions(user=account, actor=actor, keep=session_key)
        return codes

    return _with_attempt_limit(account, lambda: run_in_transaction(step))


def verify(*, account: User, code: str, actor: Actor) -> None:
    """Accept a code of the app, or a recovery code, each once.

    Locks the row of the second factor. Recovery codes are too long to guess, so their attempts are not limited.

    :raises InvalidCode: the code is wrong or already used.
    :raises NotEnrolled: the account has no second factor.
    :raises FactorUnreadable: the secret cannot be decrypted; recovery codes still work.
    :raises TooManyCodes: too many wrong codes were entered.
    """
    typed = "".join(code.split()).replace("-", "").upper()

    def step() -> None:
        factor = SecondFactor.objects.filter(pk=account.pk).locked().first()
        if factor is None:
            raise NotEnrolled
        if typed.isdecimal():
            try:
                secret = decrypt(factor.secret, purpose=ENCRYPTION_PURPOSE, context=account.pk)
            except UnreadableSecret:
                raise FactorUnreadable from None
            factor.last_timecode = _match_timecode(secret, typed, after=factor.last_timecode)
            factor.save(update_fields=["last_timecode"])
            return
        (used,) = _digests([typed])
        if used not in factor.recovery_codes:
            raise InvalidCode
        factor.recovery_codes.remove(used)
        factor.save(update_fields=["recovery_codes"])
        _record("recovery code used", account, actor)

    if typed.isdecimal():
        _with_attempt_limit(account, lambda: run_in_transaction(step))
    else:
        run_in_transaction(step)


def renew_recovery_codes(*, account: User, actor: Actor) -> list[str]:
    """Replace all recovery codes of an account.

    :returns: the new codes. Only their digests are stored.
    :raises NotEnrolled: the account has no second factor.
    """

    def step() -> list[str]:
        codes = _new_recovery_codes()
        if not SecondFactor.objects.filter(pk=account.pk).update(recovery_codes=_digests(codes)):
            raise NotEnrolled
        _record("recovery codes renewed", account, actor)
        return codes

    return run_in_transaction(step)


@transaction.atomic(savepoint=False)
def remove(*, account: User, session_key: str = "", actor: Actor) -> None:
    """Remove the second factor of an account and end its sessions.

    :param session_key: of the session to keep, if the owner of the account removes it.
    :raises NotEnrolled: the account has no second factor.
    """
    if not SecondFactor.objects.filter(pk=account.pk).delete()[0]:
        raise NotEnrolled
    _record("removed", account, actor)
    sessions.end_sessions(user=account, actor=actor, keep=session_key)


def _with_attempt_limit(account: User, step: Callable[[], T]) -> T:
    """Run a step that checks a code. Counts the attempt, and undoes the count if the code is correct.

    :raises TooManyCodes: too many wrong codes were entered.
    """
    windows = (("code", MAX_ATTEMPTS, conf.login_window()), ("code-of-day", MAX_ATTEMPTS_PER_DAY, timedelta(days=1)))
    counted: list[str] = []
    for what, limit, window in windows:
        subject = rate_limits.anonymous_subject(what, str(account.pk))
        seconds = rate_limits.hit(subject=subject, limit=limit, window=window)
        if seconds is not None:
            _undo_hits(counted)
            raise TooManyCodes(seconds=seconds)
        counted.append(subject)
    result = step()
    _undo_hits(counted)
    return result


def _undo_hits(subjects: list[str]) -> None:
    for subject in subjects:
        rate_limits.undo_hit(subject=subject)


def _match_timecode(secret: str, code: str, *, after: int) -> int:
    """Return the time step of a code, by the database's clock.

    :param after: the time step of the last accepted code.
    :raises InvalidCode: the code fits none of the tolerated steps, or a used one.
    """
    ((now,),) = execute("SELECT extract(epoch FROM statement_timestamp())::float", []).fetchall()
    digits = "".join(code.split())  # Apps show a code in two groups.
    try:
        timecode = pyotp.TOTP(secret, digits=DIGITS).verify_and_get_timecode(digits, for_time=now, valid_window=TOLERATED_STEPS)
    except OTPVerificationError:
        raise InvalidCode from None
    if timecode <= after:
        raise InvalidCode
    return timecode


def _new_recovery_codes() -> list[str]:
    """Generate recovery codes of 80 bits, in groups of four."""
    texts = (base64.b32encode(secrets.token_bytes(RECOVERY_CODE_BYTES)).decode() for _ in range(RECOVERY_CODES))
    return ["-".join(text[at : at + 4] for at in range(0, len(text), 4)) for text in texts]


def _digests(codes: list[str]) -> list[str]:
    return [hashlib.sha256(code.replace("-", "").encode()).hexdigest() for code in codes]


def _record(what: str, account: User, actor: Actor) -> None:
    audit_log.record_access(kind=DeskEntry.Kind.SECOND_FACTOR, account=account, data={"step": what}, actor=actor)
