"""The address that carries a transfer's token to the other device, and its QR image. Does not decide who may have either."""

import base64
import json
from functools import lru_cache
from itertools import count
from typing import NamedTuple
from urllib.parse import parse_qsl, quote_plus, urlsplit

import segno

from baskets.domain import slots
from baskets.encryption import UnreadableSecret, decrypt_token, encrypt_token

SOURCE_PARAM, TOKEN_PARAM = "jaySource", "jayToken"
MAX_URL_LENGTH = 2000
# Cameras cannot read the image of a longer address, and to draw it takes a tenth of a second.
MAX_QR_URL_LENGTH = 500
URL_RULE = f"Must be an http or https address of at most {MAX_URL_LENGTH} characters."
PIXELS_PER_MODULE = 8
ENCRYPTION_PURPOSE = "transfer image"


def is_http_url(url: str) -> bool:
    """Return whether a browser can open an address, and can do nothing else with it."""
    if len(url) > MAX_URL_LENGTH or not url.isprintable() or any(character in url for character in ' \\"<>^`{|}'):
        return False
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def append_params(url: str, *, source: str, token: str) -> str:
    """Append source and token to the query of an address. Empty parameters are removed; all others stay unchanged.

    Parameters of an earlier transfer are removed: the receiver could not tell which of two tokens counts.

    >>> append_params("https://shop.example/?lang=de#top", source="Example TV", token="t1")
    'https://shop.example/?lang=de&jaySource=Example+TV&jayToken=t1#top'
    """
    before_fragment, hash_sign, fragment = url.partition("#")
    base, _, query = before_fragment.partition("?")
    kept = [part for part in query.split("&") if part and not _is_own_param(part)]
    added = [f"{SOURCE_PARAM}={quote_plus(source)}", f"{TOKEN_PARAM}={quote_plus(token)}"]
    return f"{base}?{'&'.join(kept + added)}{hash_sign}{fragment}"


def qr_image(text: str) -> bytes:
    """Return a QR image as PNG.

    :param text: at most `MAX_QR_URL_LENGTH` characters.
    """
    return base64.b64decode(qr_image_base64(text))


# The response to an offer shows the image, and the address of the image shows it again within the minute of the offer.
@lru_cache(maxsize=256)
def qr_image_base64(text: str) -> str:
    """Return a QR image as PNG in base64. The last 256 images are cached.

    :param text: at most `MAX_QR_URL_LENGTH` characters.
    """
    return segno.make(text, error="m", micro=False).png_data_uri(scale=PIXELS_PER_MODULE).partition(",")[2]


class TransferLink(NamedTuple):
    """The address that an image shows, and the token in it."""

    url: str
    token: str


def encrypt_link(*, url: str, token: str, partner_id: int) -> str:
    """Return the name of an image's address: address and token, encrypted, and found in this cell. See ADR 22."""
    # Equal texts have equal ciphertexts; a blank at the end of the JSON changes the ciphertext and nothing else.
    blanks = count()
    return slots.generate_in_this_cell(
        lambda: encrypt_token(json.dumps([url, token]) + next(blanks) * " ", purpose=ENCRYPTION_PURPOSE), partner_id=partner_id
    )


def decrypt_link(name: str) -> TransferLink | None:
    """Read the name of an image; None if `encrypt_link` did not make it."""
    try:
        return TransferLink(*json.loads(decrypt_token(name, purpose=ENCRYPTION_PURPOSE)))
    except UnreadableSecret:
        return None


def _is_own_param(part: str) -> bool:
    """Return whether an earlier transfer appended this part of a query, in any spelling."""
    return any(name in (SOURCE_PARAM, TOKEN_PARAM) for name, _ in parse_qsl(part, keep_blank_values=True, errors="replace"))
