"""Encrypts secrets stored in the database, and short tokens that callers carry.

Each ciphertext is bound to a purpose and a context: a copy in another column, row or use does not decrypt. The first key
encrypts and all keys decrypt, so a key is replaced in three steps: put a new key first, run `reencrypt_secrets`, remove
the old one. Without `BASKETS_ENCRYPTION_KEYS` the keys are derived from `DJANGO_SECRET_KEY`
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

# The first byte of a stored ciphertext. A ciphertext without it has the former format: a Fernet token without purpose and context.
FORMAT_BYTE = b"\x01"
NONCE_BYTES = 16


class UnreadableSecret(Exception):
    """The ciphertext is damaged, or was made with an unknown key or for another purpose or context."""


def encrypt(text: str, *, purpose: str, context: object) -> bytes:
    """Encrypt a secret for storage.

    :param purpose: the table and the column, for example `"comfort.payment_token"`.
    :param context: the immutable identity of the row; its `str` is used.
    :returns: the ciphertext; it differs at each call.
    """
    nonce = secrets.token_bytes(NONCE_BYTES)
    return FORMAT_BYTE + nonce + _keys()[0].encrypt(text.encode(), [*_associated_data("stored", purpose, context), nonce])


def decrypt(stored: bytes | memoryview, *, purpose: str, context: object) -> str:
    """Decrypt a stored secret.

    A Fernet token carries neither purpose nor context, so it decrypts for any; `reencrypt_secrets` binds it.

    :raises UnreadableSecret: no key fits, or the secret was encrypted for another purpose or context.
    """
    data = bytes(stored)
    if not data.startswith(FORMAT_BYTE):
        return _decrypt_fernet(data)
    nonce, ciphertext = data[1 : 1 + NONCE_BYTES], data[1 + NONCE_BYTES :]
    return _decrypt(ciphertext, [*_associated_data("stored", purpose, context), nonce])


def reencrypt(stored: bytes | memoryview, *, purpose: str, context: object) -> bytes:
    """Encrypt a stored secret again, with the first key and bound to its purpose and context.

    :returns: the new ciphertext; it differs at each call.

    :raises UnreadableSecret: no key fits, or the secret was encrypted for another purpose or context.
    """
    return encrypt(decrypt(stored, purpose=purpose, context=context), purpose=purpose, context=context)


def encrypt_token(text: str, *, purpose: str, context: object = "") -> str:
    """Encrypt a short string that a caller carries and returns, such as a position in a list.

    Deterministic: the same string, purpose, context and first key give the same token. A caller can compare two tokens,
    but learns nothing else. A new first key gives other tokens; earlier ones stay readable while their key is configured.

    :param context: what the token is valid for in addition to its purpose, for example the primary key of the partner.
    :returns: URL-safe base64 without padding: 22 characters, plus 4 for each 3 bytes of the text.
    """
    return _encode_token(_keys()[0].encrypt(text.encode(), _associated_data("token", purpose, context)))


def decrypt_token(token: str, *, purpose: str, context: object = "") -> str:
    """Decrypt a token.

    :raises UnreadableSecret: the token was not made by `encrypt_token` for this purpose and context.
    """
    try:
        ciphertext = base64.b64decode(token.encode("ascii") + b"=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error):
        raise UnreadableSecret from None
    # Base64 allows several encodings of the same bytes. Only the canonical one is accepted.
    if _encode_token(ciphertext) != token:
        raise UnreadableSecret
    return _decrypt(ciphertext, _associated_data("token", purpose, context))


def _encode_token(ciphertext: bytes) -> str:
    return base64.urlsafe_b64encode(ciphertext).decode().rstrip("=")


def _associated_data(kind: str, purpose: str, context: object) -> list[bytes]:
    """Return the associated data as components. None of them is empty, because OpenSSL before 3.0.10 skips empty ones."""
    return [f"{kind}:{purpose}".encode(), f"context:{context}".encode()]


def _decrypt(ciphertext: bytes, associated_data: list[bytes]) -> str:
    for key in _keys():
        try:
            return key.decrypt(ciphertext, associated_data).decode()
        except InvalidTag:
            continue
    raise UnreadableSecret


def _decrypt_fernet(token: bytes) -> str:
    """Decrypt the former format. Configured keys were used without derivation; others were derived for Fernet only."""
    configured = conf.encryption_keys() or [
        base64.urlsafe_b64encode(_derive_key(secret.encode(), 32, b"baskets: stored secrets")).decode() for secret in _service_secrets()
    ]
    try:
        return MultiFernet([Fernet(key) for key in configured]).decrypt(token).decode()
    except InvalidToken:
        raise UnreadableSecret from None


def _keys() -> tuple[AESSIV, ...]:
    """Return one cipher for each configured key; the first one encrypts."""
    configured = conf.encryption_keys()
    return _load_keys(
        tuple(base64.urlsafe_b64decode(key) for key in configured) if configured else tuple(s.encode() for s in _service_secrets())
    )


def _service_secrets() -> tuple[str, ...]:
    return (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)


@lru_cache(maxsize=4)
def _load_keys(roots: tuple[bytes, ...]) -> tuple[AESSIV, ...]:
    return tuple(AESSIV(_derive_key(root, 64, b"baskets: AES-SIV")) for root in roots)


def _derive_key(root: bytes, length: int, info: bytes) -> bytes:
    """Derive a key for a single use.

    :param length: bytes.
    :param info: names the use.
    """
    return HKDF(algorithm=SHA256(), length=length, salt=None, info=info).derive(root)
