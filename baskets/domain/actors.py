"""The author of a change and its context: a parameter of every domain operation, stored in every event."""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple


class ActorKind(StrEnum):
    """The kind of author."""

    KEY = "key"
    STAFF = "staff"
    SYSTEM = "system"


class Actor(NamedTuple):
    """The author of a change.

    :param name: key prefix, staff user name, or the command that runs.
    :param request_id: the request's id, or empty.
    :param tracking: attribution as the app reported it: `session_id`, `start_time`, `source`, `provider_id`.
    :param may_order: whether the actor may report an order: a partner may reserve that to its server keys.
    """

    kind: ActorKind
    name: str
    request_id: str = ""
    tracking: Mapping[str, str] = {}
    may_order: bool = True

    @property
    def key_prefix(self) -> str:
        """The prefix of the calling API key; empty for staff and commands."""
        return self.name if self.kind == ActorKind.KEY else ""

    @classmethod
    def system(cls, name: str) -> "Actor":
        """Name a command or sweep as the author."""
        return cls(kind=ActorKind.SYSTEM, name=name)
