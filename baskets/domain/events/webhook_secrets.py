"""The secrets that sign the messages of a webhook: generated, stored encrypted, and several of them during a rotation.

A secret is not stored as a digest, because it signs every message.
"""

import base64
import secrets
from datetime import datetime

from baskets.encryption import decrypt, encrypt
from baskets.models import WebhookEndpoint

SECRET_BYTES = 32
ENCRYPTION_PURPOSE = "webhookendpoint.secret"
PREVIOUS_PURPOSE = "webhookendpoint.previous_secret"
# A partner that has lost the response to a rotation rotates again: the secret that its receiver knows must stay one of these.
MAX_PREVIOUS = 4


def generate_secret() -> str:
    """Return a new secret in the form of Standard Webhooks."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def encrypt_secret(endpoint: WebhookEndpoint, text: str) -> bytes:
    """Return the ciphertext of a secret for `secret`. It is bound to the primary key of its row."""
    return encrypt(text, purpose=ENCRYPTION_PURPOSE, context=endpoint.pk)


def encrypt_previous(endpoint: WebhookEndpoint, texts: list[str]) -> bytes:
    """Return the ciphertext of the latest previous secrets for `previous_secret`.

    :param texts: the latest first.
    """
    return encrypt(" ".join(texts[:MAX_PREVIOUS]), purpose=PREVIOUS_PURPOSE, context=endpoint.pk)


def read_secrets(endpoint: WebhookEndpoint, *, now: datetime) -> list[str]:
    """Return the secrets that sign a message: the current one, and during an overlap the previous ones, the latest first.

    :param now: the database's clock.
    :raises UnreadableSecret: a secret cannot be decrypted.
    """
    texts = [decrypt(endpoint.secret, purpose=ENCRYPTION_PURPOSE, context=endpoint.pk)]
    if endpoint.previous_secret is not None and endpoint.previous_secret_until is not None and now < endpoint.previous_secret_until:
        texts += decrypt(endpoint.previous_secret, purpose=PREVIOUS_PURPOSE, context=endpoint.pk).split(" ")
    return texts
