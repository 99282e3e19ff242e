"""`revoke_api_key`: the shell of `partners.revoke_api_key`."""

from argparse import ArgumentParser
from typing import Any

from baskets.domain import partners
from baskets.domain.actors import Actor
from baskets.management.arguments import key_prefix
from baskets.management.shell import ShellCommand, rehearsal


class Command(ShellCommand):
    """Revoke an API key."""

    help = "Revoke an API key at once. Safe to repeat: a key stays revoked since the first time."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the arguments."""
        super().add_arguments(parser)
        parser.add_argument("prefix", type=key_prefix, help="The part of the key between its two underscores.")

    def handle(self, *, prefix: str, as_json: bool, dry_run: bool, **_: Any) -> None:
        """Revoke it and say so."""
        with rehearsal(dry_run=dry_run):
            key = partners.revoke_api_key(prefix=prefix, actor=Actor.system("revoke_api_key"))
        assert key.revoked_at is not None  # noqa: S101 (the call above has just seen to it)
        self.answer(
            as_json=as_json,
            text=(
                f"Would revoke key {prefix} of partner {key.partner.name!r}."
                if dry_run
                else f"Key {prefix} of partner {key.partner.name!r} is revoked since {key.revoked_at.isoformat()}."
            ),
            prefix=prefix,
            partner=key.partner.name,
            revoked_at=key.revoked_at.isoformat(),
            dry_run=dry_run,
        )
