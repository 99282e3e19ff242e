"""Former names of commands: each works for one release and prints a notice on standard error."""

from typing import Any

from baskets.management.base import ServiceCommand


def deprecated_alias(command: type[ServiceCommand], *, old: str, new: str) -> type[ServiceCommand]:
    """Return the class of a command under its former name.

    A module `commands/OLD.py` consists of `Command = deprecated_alias(new.Command, old="OLD", new="NEW")`.
    """

    class Alias(command):  # type: ignore[valid-type, misc]  # The base class is an argument.
        help = f"Deprecated: the former name of `{new}`, for one release. {command.help}"

        def execute(self, *args: Any, **options: Any) -> str | None:
            self.stderr.write(f"`{old}` is deprecated and will be removed in the next release: use `{new}`.")
            return super().execute(*args, **options)  # type: ignore[no-any-return]

    return Alias
