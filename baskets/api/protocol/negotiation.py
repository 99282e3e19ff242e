"""Whether a caller takes JSON: `Accept` with qualities, the more specific range first (RFC 9110, section 12.5.1)."""

import re

# Far beyond what any program sends; it bounds the work for a hostile header.
MAX_HEADER_LENGTH = 8192
QUALITY = re.compile(r"[01](\.[0-9]{0,3})?")
SPECIFICITY = {"*/*": 1, "application/*": 2, "application/json": 3}


def accepts_json(accept: str | None) -> bool:
    """Tell whether `application/json` may be sent. No header, or an empty one, takes everything."""
    if not accept or accept in {"*/*", "application/json"}:
        return True
    if len(accept) > MAX_HEADER_LENGTH:
        return False
    best, acceptable = 0, False
    for item in accept.split(","):
        name, *parameters = [part.strip() for part in item.lower().split(";")]
        specificity = SPECIFICITY.get(name, 0)
        if specificity > best:
            best, acceptable = specificity, _quality(parameters) > 0
    return acceptable


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            return float(value) if QUALITY.fullmatch(value.strip()) else 0.0
    return 1.0
