"""`remove_issuer`: the command for `token_issuers.remove_issuer`."""

from argparse import ArgumentParser
from typing import Any

from baskets.domain.access import token_issuers
from baskets.domain.access.partners import MAX_NAME_LENGTH
from baskets.domain.actors import Actor
from baskets.management.arguments import printable_text
from baskets.management.base import ServiceCommand, dry_run_transaction


class Command(ServiceCommand):
    """Remove a token issuer."""

    help = "Refuse the tokens of an issuer from the next call on."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("partner", type=printable_text(max_length=MAX_NAME_LENGTH), help="The partner's name.")
        parser.add_argument("name", type=printable_text(max_length=MAX_NAME_LENGTH), help="What the issuer is called here.")

    def handle(self, *, partner: str, name: str, dry_run: bool, **_: Any) -> None:
        """Remove the issuer."""
        with dry_run_transaction(dry_run=dry_run):
            token_issuers.remove_issuer(partner_name=partner, name=name, actor=Actor.system("remove_issuer"))
        self.print_result(
            text=f"{'Would remove' if dry_run else 'Removed'} issuer {name!r} of partner {partner!r}.",
            partner=partner,
            name=name,
        )
