"""Encrypts secrets that are stored to be read again, and short strings that callers carry.

Each ciphertext is bound to a purpose and a context: what is copied to another column, row or use does not decrypt. The
first key encrypts and all keys decrypt, so a key is replaced in three steps: put a new key first, run
`reencrypt_secrets`, remove the old one. Without `BASKETS_ENCRYPTION_KEYS` the keys are derived from `DJANGO_SECRET_KEY`
and its fallbacks. Source: `baskets/docs/adr/0038-shared-issuer-keys-and-bound-ciphertexts.md`.
"""

import base64
import binascii
import secrets
from functools import lru_cache

from cryptography.exceptions import InvalidTag
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

from baskets import conf

# The first byte of a stored ciphertext. Ciphertexts without it are Fernet tokens, which bind nothing: the former format.
FORMAT_BYTE = b"\x01"
NONCE_BYTES = 16


class UnreadableSecret(Exception):
    """The ciphertext was made with an unknown key, for another purpose or context, or is damaged."""


def encrypt(text: str, *, purpose: str, context: object) -> bytes:
    """Encrypt a secret for storage.

    :param purpose: the table and the column, for example `"comfort.payment_token"`.
    :param context: the identity of the row, which must never change; its `str` is what counts.
    :returns: a different ciphertext at each call.
    """
    nonce = secrets.token_bytes(NONCE_BYTES)
    return FORMAT_BYTE + nonce + _keys()[0].encrypt(text.encode(), [*_associated_data("stored", purpose, context), nonce])


def decrypt(stored: bytes | memoryview, *, purpose: str, context: object) -> str:
    """Return a stored secret.

    A Fernet token is accepted for any purpose and context, because it carries neither; `reencrypt_secrets` binds it.

    :raises UnreadableSecret: no key fits, or the secret was encrypted for another purpose or context.
    """
    data = bytes(stored)
    if not data.startswith(FORMAT_BYTE):
        return _decrypt_fernet(data)
    nonce, ciphertext = data[1 : 1 + NONCE_BYTES], data[1 + NONCE_BYTES :]
    return _decrypt(ciphertext, [*_associated_data("stored", purpose, context), nonce])


def reencrypt(stored: bytes | memoryview, *, purpose: str, context: object) -> bytes:
    """Return a stored secret encrypted with the first key, and bound to its purpose and context.

    :raises UnreadableSecret: no key fits, or the secret was encrypted for another purpose or context.
    """
    return encrypt(decrypt(stored, purpose=purpose, context=context), purpose=purpose, context=context)


def encrypt_token(text: str, *, purpose: str, context: object = "") -> str:
    """Encrypt a short string that a caller carries and returns, such as a position in a list.

    Deterministic: the same string, purpose, context and first key give the same token. So tokens can be compared, and
    a caller can tell that two of them are equal, but nothing else. A replaced first key gives other tokens; earlier ones
    stay readable while their key is known.

    :param context: what the token is valid for beside its purpose, for example the primary key of the partner.
    :returns: URL-safe base64 without padding: 22 characters and 4 for each 3 bytes of the text.
    """
    return _encode_token(_keys()[0].encrypt(text.encode(), _associated_data("token", purpose, context)))


def decrypt_token(token: str, *, purpose: str, context: object = "") -> str:
    """Return the string in a token.

    :raises UnreadableSecret: the token was not made by `encrypt_token` for this purpose and context.
    """
    try:
        ciphertext = base64.b64decode(token.encode("ascii") + b"=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error):
        raise UnreadableSecret from None
    # Base64 has several spellings of some bytes; one token has one.
    if _encode_token(ciphertext) != token:
        raise UnreadableSecret
    return _decrypt(ciphertext, _associated_data("token", purpose, context))


def _encode_token(ciphertext: bytes) -> str:
    return base64.urlsafe_b64encode(ciphertext).decode().rstrip("=")


def _associated_data(kind: str, purpose: str, context: object) -> list[bytes]:
    """The associated data, as separate components. None is empty, because OpenSSL before 3.0.10 skips empty ones."""
    return [f"{kind}:{purpose}".encode(), f"context:{context}".encode()]


def _decrypt(ciphertext: bytes, bound: list[bytes]) -> str:
    for key in _keys():
        try:
            return key.decrypt(ciphertext, bound).decode()
        except InvalidTag:
            continue
    raise UnreadableSecret


def _decrypt_fernet(token: bytes) -> str:
    """Read the former format, whose keys were used as they are or derived for Fernet alone."""
    own = conf.encryption_keys() or [
        base64.urlsafe_b64encode(_derive_key(secret.encode(), 32, b"baskets: stored secrets")).decode() for secret in _service_secrets()
    ]
    try:
        return MultiFernet([Fernet(key) for key in own]).decrypt(token).decode()
    except InvalidToken:
        raise UnreadableSecret from None


def _keys() -> tuple[AESSIV, ...]:
    """One key for each that is configured; the first encrypts."""
    own = conf.encryption_keys()
    return _load_keys(tuple(base64.urlsafe_b64decode(key) for key in own) if own else tuple(s.encode() for s in _service_secrets()))


def _service_secrets() -> tuple[str, ...]:
    return (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)


@lru_cache(maxsize=4)
def _load_keys(roots: tuple[bytes, ...]) -> tuple[AESSIV, ...]:
    return tuple(AESSIV(_derive_key(root, 64, b"baskets: AES-SIV")) for root in roots)


def _derive_key(root: bytes, length: int, info: bytes) -> bytes:
    """Derive a key for one use alone.

    :param length: bytes.
    """
    return HKDF(algorithm=SHA256(), length=length, salt=None, info=info).derive(root)
