"""What a transfer looks like outside: an address that brings the token along, and an image of it. Who may have it is decided elsewhere."""

import base64
import json
from functools import lru_cache
from urllib.parse import parse_qsl, quote_plus, urlsplit

import segno

from baskets.encryption import UnreadableSecret, decrypt_token, encrypt_token

SOURCE_PARAM, TOKEN_PARAM = "jaySource", "jayToken"
MAX_URL_LENGTH = 2000
# A longer one makes an image that cameras cannot read, and takes a tenth of a second to draw.
MAX_QR_URL_LENGTH = 500
URL_RULE = f"Must be an http or https address of at most {MAX_URL_LENGTH} characters."
PIXELS_PER_MODULE = 8
ENCRYPTION_PURPOSE = "transfer image"


def is_http_url(url: str) -> bool:
    """Tell whether a browser can be sent to an address, and nothing else can happen to it."""
    if len(url) > MAX_URL_LENGTH or not url.isprintable() or any(character in url for character in ' \\"<>^`{|}'):
        return False
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def append_params(url: str, *, source: str, token: str) -> str:
    """Append source and token to the query of an address, and leave the rest as it is to the byte.

    What an earlier transfer left there goes: nobody could tell which of two tokens is meant.
    """
    before_fragment, hash_sign, fragment = url.partition("#")
    base, _, query = before_fragment.partition("?")
    kept = [part for part in query.split("&") if part and not _is_own_param(part)]
    ours = [f"{SOURCE_PARAM}={quote_plus(source)}", f"{TOKEN_PARAM}={quote_plus(token)}"]
    return f"{base}?{'&'.join(kept + ours)}{hash_sign}{fragment}"


def qr_image(text: str) -> bytes:
    """Draw a QR image as PNG."""
    return base64.b64decode(qr_image_base64(text))


# An image is shown with the answer to its offer and by its address, within the minute for which the offer is good.
@lru_cache(maxsize=256)
def qr_image_base64(text: str) -> str:
    """Draw a QR image as base64 of a PNG, once for each text of the last while.

    :param text: at most `MAX_QR_URL_LENGTH` characters.
    """
    return segno.make(text, error="m", micro=False).png_data_uri(scale=PIXELS_PER_MODULE).partition(",")[2]


def encrypt_link(*, url: str, token: str) -> str:
    """Put what an image shows into the name of its address, for nobody to read. See ADR 22."""
    return encrypt_token(json.dumps([url, token]), purpose=ENCRYPTION_PURPOSE)


def decrypt_link(name: str) -> tuple[str, str] | None:
    """Read the address and the token from the name of an image, or None if it is no such name."""
    try:
        url, token = json.loads(decrypt_token(name, purpose=ENCRYPTION_PURPOSE))
    except UnreadableSecret:
        return None
    return url, token


def _is_own_param(part: str) -> bool:
    """Tell whether a part of a query is what an earlier transfer appended, however it is spelt."""
    return any(name in (SOURCE_PARAM, TOKEN_PARAM) for name, _ in parse_qsl(part, keep_blank_values=True, errors="replace"))
