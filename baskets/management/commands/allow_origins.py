"""`allow_origins`: the command for `partners.allow_origins`."""

from argparse import ArgumentParser
from typing import Any

from baskets.domain.access import partners
from baskets.domain.actors import Actor
from baskets.management.arguments import printable_text
from baskets.management.base import ServiceCommand, dry_run_transaction


class Command(ServiceCommand):
    """Allow the web pages of a partner to call."""

    help = "Allow web pages of these origins, and of no others, to call with the keys of a partner. Without any: none."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("partner", type=printable_text(max_length=partners.MAX_NAME_LENGTH), help="The partner's name.")
        parser.add_argument("origin", nargs="*", help="As a browser sends it: https://player.example.com")

    def handle(self, *, partner: str, origin: list[str], dry_run: bool, **_: Any) -> None:
        """Replace the origins and print them."""
        with dry_run_transaction(dry_run=dry_run):
            allowed = partners.allow_origins(partner_name=partner, origins=origin, actor=Actor.system("allow_origins"))
        summary = ", ".join(allowed) or "no origin"
        self.print_result(
            text=f"{'Would allow' if dry_run else 'Allowed'} {summary} for partner {partner!r}.",
            partner=partner,
            origins=allowed,
        )
