"""`trust_issuer`: the shell of `issuers.trust_issuer`."""

import json
from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path
from typing import Any

from baskets.domain import issuers
from baskets.domain.actors import Actor
from baskets.domain.partners import NAME_LIMIT
from baskets.management.arguments import printable
from baskets.management.shell import ShellCommand, rehearsal
from baskets.models.issuers import ALGORITHMS

LONGEST_FILE = 1 << 20


def key_set(name: str) -> Any:
    """Read a JSON file."""
    try:
        with Path(name).open("rb") as file:
            text = file.read(LONGEST_FILE + 1)
    except OSError as error:
        raise ArgumentTypeError(f"{name!r} cannot be read: {error.strerror}") from error
    if len(text) > LONGEST_FILE:
        raise ArgumentTypeError(f"{name!r} is too long to be a key set")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ArgumentTypeError(f"{name!r} is no JSON") from None


class Command(ShellCommand):
    """Trust an issuer of tokens."""

    help = "Trust the bearer tokens of an issuer for the baskets of one partner. One that is trusted under this name is replaced."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the arguments."""
        super().add_arguments(parser)
        parser.add_argument("partner", type=printable(limit=NAME_LIMIT), help="The partner's name.")
        parser.add_argument("name", type=printable(limit=NAME_LIMIT), help="What the issuer is called here.")
        source = parser.add_mutually_exclusive_group(required=True)
        source.add_argument("--keys-url", metavar="URL", default="", help="Where the issuer publishes its key set (JWKS).")
        source.add_argument("--keys", type=key_set, metavar="FILE", help="The key set itself: JSON, public keys only.")
        parser.add_argument("--issuer", metavar="ISS", default="", help="What `iss` must be; left out: anything.")
        parser.add_argument("--audience", metavar="AUD", default="", help="What `aud` must be or contain; left out: anything.")
        parser.add_argument(
            "--algorithm",
            action="append",
            choices=ALGORITHMS,
            help=f"How it signs; may be given several times; left out: {', '.join(issuers.DEFAULT_ALGORITHMS)}.",
        )

    def handle(
        self,
        *,
        partner: str,
        name: str,
        keys_url: str,
        keys: Any,
        issuer: str,
        audience: str,
        algorithm: list[str] | None,
        as_json: bool,
        dry_run: bool,
        **_: Any,
    ) -> None:
        """Trust it and say so."""
        with rehearsal(dry_run=dry_run):
            trusted = issuers.trust_issuer(
                partner_name=partner,
                name=name,
                issuer=issuer,
                audience=audience,
                algorithms=algorithm or issuers.DEFAULT_ALGORITHMS,
                keys=keys,
                keys_url=keys_url,
                actor=Actor.system("trust_issuer"),
            )
        self.answer(
            as_json=as_json,
            text=f"{'Would trust' if dry_run else 'Trusted'} issuer {name!r} of partner {partner!r}.",
            partner=partner,
            name=name,
            issuer=issuer,
            audience=audience,
            algorithms=list(trusted.algorithms),
            keys_url=keys_url,
            dry_run=dry_run,
        )
