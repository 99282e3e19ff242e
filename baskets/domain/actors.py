"""Who does something, and in which context: handed to every domain call, stored in every event."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class ActorKind(StrEnum):
    """Where a call comes from."""

    KEY = "key"
    STAFF = "staff"
    SYSTEM = "system"


@dataclass(frozen=True, kw_only=True)
class Actor:
    """The author of a change.

    :param name: key prefix, staff user name, or the command that runs.
    :param request_id: the request's id, or empty.
    :param tracking: attribution as the app reported it: `session_id`, `start_time`, `source`, `provider_id`.
    """

    kind: ActorKind
    name: str
    request_id: str = ""
    tracking: Mapping[str, str] = field(default_factory=dict)

    @property
    def key_prefix(self) -> str:
        """The prefix of the API key that calls; empty for staff and commands."""
        return self.name if self.kind == ActorKind.KEY else ""

    @classmethod
    def system(cls, name: str) -> "Actor":
        """Name a command or sweep as the author."""
        return cls(kind=ActorKind.SYSTEM, name=name)
