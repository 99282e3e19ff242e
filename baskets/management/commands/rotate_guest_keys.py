"""`rotate_guest_keys`: the command for `signing_keys.rotate`."""

from argparse import ArgumentParser
from typing import Any

from baskets.domain.access import signing_keys
from baskets.domain.actors import Actor
from baskets.domain.timestamps import format_timestamp
from baskets.management.base import ServiceCommand, dry_run_transaction


class Command(ServiceCommand):
    """Replace the key that signs the tokens of guests."""

    help = (
        "Publish a new key for the tokens of guests, and sign with it once verifiers know it. "
        "Tokens of the old key stay valid until they expire."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--revoke-old",
            action="store_true",
            help="A key was stolen: all tokens that were signed until now become invalid at once, and their guests start over.",
        )
        parser.add_argument("--distrust-old", action="store_true", help="Deprecated: the former name of --revoke-old, for one release.")

    def handle(self, *, revoke_old: bool, distrust_old: bool, dry_run: bool, **_: Any) -> None:
        """Rotate the keys and print the `kid`. A dry run prints none."""
        if distrust_old:
            self.stderr.write("`--distrust-old` is deprecated and will be removed in the next release: use `--revoke-old`.")
        with dry_run_transaction(dry_run=dry_run):
            rotation = signing_keys.rotate(revoke_old=revoke_old or distrust_old, actor=Actor.system("rotate_guest_keys"))
        removed = f" Removed, because all their tokens have expired: {', '.join(rotation.ended)}." if rotation.ended else ""
        begin = format_timestamp(rotation.signs_from)
        self.print_result(
            text="Would sign with a new key." if dry_run else f"Key {rotation.kid} signs from {begin} on.{removed}",
            kid=None if dry_run else rotation.kid,
            signs_from=None if dry_run else begin,
            removed=list(rotation.ended),
        )
