"""Secrets that must be read again are stored encrypted: what users' comfort, our signing keys and webhooks are made of.

The first key encrypts, all of them decrypt, so that a key is replaced in three steps: put a new one first, run
`reencrypt_secrets`, take the old one away. Without keys of their own they are derived from `DJANGO_SECRET_KEY`.
"""

import base64
from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

from baskets import conf


class UnreadableSecret(Exception):
    """What is stored was encrypted with a key that is not known any more."""


def encrypt(text: str) -> bytes:
    """Encrypt a secret for storage."""
    return _keys().encrypt(text.encode())


def decrypt(stored: bytes | memoryview) -> str:
    """Read a stored secret.

    :raises UnreadableSecret: none of the keys fits.
    """
    try:
        return _keys().decrypt(bytes(stored)).decode()
    except InvalidToken:
        raise UnreadableSecret from None


def reencrypted(stored: bytes | memoryview) -> bytes:
    """Encrypt a stored secret anew, with the first key.

    :raises UnreadableSecret: none of the keys fits.
    """
    try:
        return _keys().rotate(bytes(stored))
    except InvalidToken:
        raise UnreadableSecret from None


def _keys() -> MultiFernet:
    own = conf.encryption_keys()
    return _made(tuple(own), () if own else (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS))


@lru_cache(maxsize=4)
def _made(own: tuple[str, ...], secrets: tuple[str, ...]) -> MultiFernet:
    return MultiFernet([Fernet(key) for key in own] + [Fernet(_derived(secret)) for secret in secrets])


def _derived(secret: str) -> bytes:
    """Derive a key from the service's secret, for this purpose alone."""
    derivation = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"baskets: stored secrets")
    return base64.urlsafe_b64encode(derivation.derive(secret.encode()))
