"""`distrust_issuer`: the shell of `token_issuers.distrust_issuer`."""

from argparse import ArgumentParser
from typing import Any

from baskets.domain.access import token_issuers
from baskets.domain.access.partners import NAME_LIMIT
from baskets.domain.actors import Actor
from baskets.management.arguments import printable
from baskets.management.base import ShellCommand, rehearsal


class Command(ShellCommand):
    """Distrust an issuer of tokens."""

    help = "Refuse the tokens of an issuer from the next call on."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the arguments."""
        super().add_arguments(parser)
        parser.add_argument("partner", type=printable(limit=NAME_LIMIT), help="The partner's name.")
        parser.add_argument("name", type=printable(limit=NAME_LIMIT), help="What the issuer is called here.")

    def handle(self, *, partner: str, name: str, as_json: bool, dry_run: bool, **_: Any) -> None:
        """Distrust it and say so."""
        with rehearsal(dry_run=dry_run):
            token_issuers.distrust_issuer(partner_name=partner, name=name, actor=Actor.system("distrust_issuer"))
        self.answer(
            as_json=as_json,
            text=f"{'Would distrust' if dry_run else 'Distrusted'} issuer {name!r} of partner {partner!r}.",
            partner=partner,
            name=name,
            dry_run=dry_run,
        )
