"""What a transfer looks like outside: an address that brings the token along, and an image of it. Who may have it is decided elsewhere."""

import base64
import json
from functools import lru_cache
from urllib.parse import parse_qsl, quote_plus, urlsplit

import segno

from baskets.encryption import UnreadableSecret, decrypt_token, encrypt_token

SOURCE, TOKEN = "jaySource", "jayToken"
LONGEST_URL = 2000
# A longer one makes an image that cameras cannot read, and takes a tenth of a second to draw.
MAX_IMAGE_LINK = 500
RULE = f"Must be an http or https address of at most {LONGEST_URL} characters."
SCALE = 8
PURPOSE = "transfer image"


def is_extendable(url: str) -> bool:
    """Tell whether a browser can be sent to an address, and nothing else can happen to it."""
    if len(url) > LONGEST_URL or not url.isprintable() or any(character in url for character in ' \\"<>^`{|}'):
        return False
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def extended(url: str, *, source: str, token: str) -> str:
    """Append source and token to the query of an address, and leave the rest as it is to the byte.

    What an earlier transfer left there goes: nobody could tell which of two tokens is meant.
    """
    before_fragment, hash_sign, fragment = url.partition("#")
    base, _, query = before_fragment.partition("?")
    kept = [part for part in query.split("&") if part and not _ours(part)]
    ours = [f"{SOURCE}={quote_plus(source)}", f"{TOKEN}={quote_plus(token)}"]
    return f"{base}?{'&'.join(kept + ours)}{hash_sign}{fragment}"


def image_of(text: str) -> bytes:
    """Draw a QR image as PNG."""
    return base64.b64decode(image_as_base64(text))


# An image is shown with the answer to its offer and by its address, within the minute for which the offer is good.
@lru_cache(maxsize=256)
def image_as_base64(text: str) -> str:
    """Draw a QR image as base64 of a PNG, once for each text of the last while.

    :param text: at most `MAX_IMAGE_LINK` characters.
    """
    return segno.make(text, error="m", micro=False).png_data_uri(scale=SCALE).partition(",")[2]


def sealed(*, url: str, token: str) -> str:
    """Put what an image shows into the name of its address, for nobody to read. See ADR 22."""
    return encrypt_token(json.dumps([url, token]), purpose=PURPOSE)


def unsealed(name: str) -> tuple[str, str] | None:
    """Read the address and the token from the name of an image, or None if it is no such name."""
    try:
        url, token = json.loads(decrypt_token(name, purpose=PURPOSE))
    except UnreadableSecret:
        return None
    return url, token


def _ours(part: str) -> bool:
    """Tell whether a part of a query is what an earlier transfer appended, however it is spelt."""
    return any(name in (SOURCE, TOKEN) for name, _ in parse_qsl(part, keep_blank_values=True, errors="replace"))
