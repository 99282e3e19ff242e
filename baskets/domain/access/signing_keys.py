"""The key pairs that sign guest tokens: creates, rotates and removes them. `guest_tokens` signs with them, `bearer_tokens` verifies.

No process caches which key signs, so all workers use the same key, and a rotation needs no restart.
Source: `baskets/docs/adr/0012-whose-tokens-are-trusted.md`.
"""

import json
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

import structlog
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now
from jwt.algorithms import ECAlgorithm

from baskets import conf
from baskets.domain import audit_log
from baskets.domain.actors import Actor
from baskets.domain.errors import SigningKeyUnreadable
from baskets.encryption import UnreadableSecret, decrypt, encrypt
from baskets.models import DeskEntry, SigningKey

log = structlog.get_logger(__name__)

ALGORITHM = "ES256"
ENCRYPTION_PURPOSE = "signingkey.private_key"
# A replaced key stays valid this much longer than its last token: the leeway of the verification and a margin.
OVERLAP = timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class Signer:
    """The current signing key."""

    kid: str
    private_key: ec.EllipticCurvePrivateKey


@dataclass(frozen=True, kw_only=True)
class Rotation:
    """The result of a rotation.

    :param kid: of the new signing key.
    :param signs_from: when it begins to sign.
    :param ended: the `kid` of each removed key.
    """

    kid: str
    signs_from: datetime
    ended: tuple[str, ...]


def current_signer() -> Signer:
    """Return the current signing key, and create the first one if none exists.

    If two callers create a key at once, a unique constraint admits one row, and both sign with it.

    :raises SigningKeyUnreadable: the secret of the service was replaced without keeping the old one, or the row was changed
        by hand. `rotate` creates a new key.
    """
    key = SigningKey.objects.signing().first() or _create_first_key()
    try:
        private_key = _load_private_key(decrypt(key.private_key, purpose=ENCRYPTION_PURPOSE, context=key.kid))
    except (UnreadableSecret, ValueError) as error:
        log.warning("signing_key_unreadable", kid=key.kid)
        raise SigningKeyUnreadable from error
    return Signer(kid=key.kid, private_key=private_key)


@transaction.atomic
def rotate(*, revoke_old: bool = False, actor: Actor) -> Rotation:
    """Create a new signing key in place of the current one. The logs name the actor.

    The new key is published at once, and signs after `conf.guest_key_publication`: by then, verifiers that cache the published keys
    know it. It signs at once if the current key cannot be decrypted.
    Tokens of the old key stay valid until they expire. Keys whose last token has expired are removed.
    Locks the keys.

    :param revoke_old: expire all older keys at once, and with them every token they signed: a key was stolen.
    """
    try:
        current_signer()
        delay = timedelta(0) if revoke_old else conf.guest_key_publication()
    except SigningKeyUnreadable:
        delay = timedelta(0)
    locked = list(SigningKey.objects.locked())
    SigningKey.objects.newest().update(ends_at=Now() + delay + conf.guest_token_lifetime() + OVERLAP)
    if revoke_old:
        SigningKey.objects.filter(pk__in=[key.pk for key in locked]).update(ends_at=Now())
    new = _generate_key()
    new.save(force_insert=True)
    SigningKey.objects.filter(pk=new.pk).update(signs_from=Now() + delay)
    new.refresh_from_db(fields=["signs_from"])
    expired = SigningKey.objects.filter(ends_at__lte=Now())
    ended = tuple(sorted(expired.values_list("kid", flat=True)))
    expired.delete()
    data = {"ended": ended, "revoke_old": revoke_old}
    audit_log.record(kind=DeskEntry.Kind.CREATED, about="signingkey", subject=new.kid, data=data, actor=actor)
    transaction.on_commit(lambda: log.info("guest_keys_rotated", kid=new.kid, ended=ended, by=actor.name))
    return Rotation(kid=new.kid, signs_from=new.signs_from, ended=ended)


def public_keys() -> list[dict[str, Any]]:
    """Return the public keys whose tokens are or will be valid, as JWKs: the current signing key first, those that do not sign yet last."""
    keys = SigningKey.objects.valid().annotate(is_waiting=Q(signs_from__gt=Now())).order_by("is_waiting", "-signs_from", "-pk")
    return list(keys.values_list("public_jwk", flat=True))


def _create_first_key() -> SigningKey:
    with transaction.atomic():
        SigningKey.objects.bulk_create([_generate_key()], ignore_conflicts=True)
    return SigningKey.objects.newest().get()


def _generate_key() -> SigningKey:
    kid = secrets.token_urlsafe(12)
    private_key = ec.generate_private_key(ec.SECP256R1())
    text = private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    public = json.loads(ECAlgorithm.to_jwk(private_key.public_key()))
    return SigningKey(
        kid=kid,
        public_jwk={**public, "kid": kid, "use": "sig", "alg": ALGORITHM},
        private_key=encrypt(text, purpose=ENCRYPTION_PURPOSE, context=kid),
    )


@lru_cache(maxsize=4)
def _load_private_key(text: str) -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key(text.encode(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("the signing key is not an elliptic curve key")  # noqa: TRY004 (callers handle any unreadable key alike)
    return key
