"""Our own key pairs: made, replaced and forgotten. What is signed with them is decided elsewhere.

Nothing of them is kept in a process, so all workers agree at every moment, and a key is replaced without a restart.
Source: `baskets/docs/adr/0012-whose-tokens-are-trusted.md`.
"""

import json
import secrets
from dataclasses import dataclass
from datetime import timedelta
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
from django.db.models import F
from django.db.models.functions import Now
from jwt.algorithms import ECAlgorithm

from baskets import conf
from baskets.domain.actors import Actor
from baskets.domain.errors import SigningKeyUnreadable
from baskets.encryption import UnreadableSecret, decrypt, encrypt
from baskets.models import SigningKey

log = structlog.get_logger(__name__)

ALGORITHM = "ES256"
ENCRYPTION_PURPOSE = "signingkey.private_key"
# What a token of the old key may still need after its own end: the leeway with which ends are read, and to spare.
OVERLAP = timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class Signer:
    """The key that signs now."""

    kid: str
    private_key: ec.EllipticCurvePrivateKey


@dataclass(frozen=True, kw_only=True)
class Rotation:
    """What a rotation did.

    :param kid: the key that signs from now on.
    :param ended: keys whose signatures are no longer good, and that were removed.
    """

    kid: str
    ended: tuple[str, ...]


def current_signer() -> Signer:
    """Return the key that signs, and make the first one where there is none.

    Two callers may both make one; a unique key lets one row in, and both sign with it.

    :raises SigningKeyUnreadable: the service's secret was replaced without keeping the old one, or the row is not as
        this service wrote it; `rotate` makes a new key.
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
    """Put a new key in the place of the one that signs.

    Tokens of the old key stay good for as long as they live, and keys whose last token is over are removed. Who did it
    stands in the log.
    Locks the keys.

    :param distrust: end all older keys at once, and with them all tokens they have signed: somebody has stolen one.
    """
    if not SigningKey.objects.signing().exists():
        _create_first_key()
    held = list(SigningKey.objects.locked())
    replaced = SigningKey.objects.signing()
    replaced.update(ends_at=Now() + conf.guest_token_lifetime() + OVERLAP)
    if revoke_old:
        SigningKey.objects.filter(pk__in=[key.pk for key in held]).update(ends_at=Now())
    fresh = _generate_key()
    fresh.save(force_insert=True)
    over = SigningKey.objects.filter(ends_at__lte=Now())
    ended = tuple(sorted(over.values_list("kid", flat=True)))
    over.delete()
    transaction.on_commit(lambda: log.info("guest_keys_rotated", kid=fresh.kid, ended=ended, by=actor.name))
    return Rotation(kid=fresh.kid, ended=ended)


def public_keys() -> list[dict[str, Any]]:
    """List the public halves of all keys whose signatures are good, the one that signs first."""
    keys = SigningKey.objects.valid().order_by(F("ends_at").desc(nulls_first=True))
    return list(keys.values_list("public_jwk", flat=True))


def _create_first_key() -> SigningKey:
    with transaction.atomic():
        SigningKey.objects.bulk_create([_generate_key()], ignore_conflicts=True)
    return SigningKey.objects.signing().get()


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
        message = "the signing key is not an elliptic curve key"
        raise ValueError(message)  # noqa: TRY004 (as every other text that is no such key)
    return key
