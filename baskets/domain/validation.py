"""Validates text that staff and commands enter. What a call of the API may contain is in `api.serializers.requests`."""

from django.utils.translation import gettext_noop

from baskets.domain.errors import Refusal
from baskets.domain.wording import sentence

MAX_LABEL_LENGTH = 100
# Of the reason of a change by staff, in characters.
REASON_LIMIT = 500


class InvalidValue(Refusal):
    """A value cannot be stored. The message names the value and the rule it breaks."""

    reason = "unusable_value"
    message = gettext_noop("A value cannot be used.")


def validate_printable(text: str, *, limit: int, what: object) -> None:
    """Check that a text has 1 to `limit` printable characters.

    :param what: the subject of the message, such as "A partner's name"; its label is translated on a page.
    :raises InvalidValue: the text is empty, too long or not printable.
    """
    if not text.strip() or len(text) > limit or not text.isprintable():
        raise InvalidValue(sentence("%(what)s has 1 to %(limit)s printable characters.", what=what, limit=limit))


class ReasonRequired(Refusal):
    """The reason of a change by staff is missing, too long, or not storable."""

    reason = "reason_missing"
    message = sentence("A change needs a reason, of at most %(limit)s characters.", limit=REASON_LIMIT)


def require_reason(reason: str, *, is_optional: bool = False) -> None:
    """Check the reason of a change by staff.

    :param is_optional: whether it may be empty, because the change only assigns work.
    :raises ReasonRequired: it is empty, longer than `REASON_LIMIT` characters, or contains a NUL.
    """
    if not (reason.strip() or is_optional) or len(reason) > REASON_LIMIT or "\x00" in reason:
        raise ReasonRequired
