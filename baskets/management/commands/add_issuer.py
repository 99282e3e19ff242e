"""`add_issuer`: the command for `token_issuers.add_issuer`."""

import json
from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path
from typing import Any

from baskets.domain.access import jwks_cache, token_issuers
from baskets.domain.access.partners import MAX_NAME_LENGTH
from baskets.domain.actors import Actor
from baskets.management.arguments import printable_text
from baskets.management.base import ServiceCommand, dry_run_transaction
from baskets.models.token_issuers import ALGORITHMS

MAX_FILE_BYTES = 1 << 20


def key_set(name: str) -> Any:
    """Read a JSON file."""
    try:
        with Path(name).open("rb") as file:
            text = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ArgumentTypeError(f"{name!r} cannot be read: {error.strerror}") from error
    if len(text) > MAX_FILE_BYTES:
        raise ArgumentTypeError(f"{name!r} is too long to be a key set")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ArgumentTypeError(f"{name!r} is not JSON") from None


class Command(ServiceCommand):
    """Add a token issuer."""

    help = (
        "Trust the bearer tokens of an issuer for the baskets of one partner. One that is trusted under this name is replaced. "
        "Names the keys that cannot be used; published keys are fetched at once for that."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("partner", type=printable_text(max_length=MAX_NAME_LENGTH), help="The partner's name.")
        parser.add_argument("name", type=printable_text(max_length=MAX_NAME_LENGTH), help="What the issuer is called here.")
        source = parser.add_mutually_exclusive_group(required=True)
        source.add_argument("--keys-url", metavar="URL", default="", help="Where the issuer publishes its key set (JWKS).")
        source.add_argument("--keys", type=key_set, metavar="FILE", help="The key set itself: JSON, public keys only.")
        parser.add_argument("--issuer", metavar="ISS", default="", help="What `iss` must be; left out: anything.")
        parser.add_argument("--audience", metavar="AUD", default="", help="What `aud` must be or contain; left out: anything.")
        parser.add_argument(
            "--unrestricted",
            action="store_true",
            help="Needed without --issuer and --audience: trust every token that is signed with these keys, for whatever service.",
        )
        parser.add_argument(
            "--algorithm",
            action="append",
            choices=ALGORITHMS,
            help=f"How it signs; may be given several times; left out: {', '.join(token_issuers.DEFAULT_ALGORITHMS)}.",
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
        unrestricted: bool,
        algorithm: list[str] | None,
        dry_run: bool,
        **_: Any,
    ) -> None:
        """Add the issuer, fetch its keys, and print the skipped ones."""
        actor = Actor.system("add_issuer")
        with dry_run_transaction(dry_run=dry_run):
            added = token_issuers.add_issuer(
                partner_name=partner,
                name=name,
                issuer=issuer,
                audience=audience,
                algorithms=algorithm or token_issuers.DEFAULT_ALGORITHMS,
                keys=keys,
                keys_url=keys_url,
                unrestricted=unrestricted,
                actor=actor,
            )
        skipped, problem = added.skipped, ""
        if keys_url:
            try:
                found = jwks_cache.fetch(added.issuer) if dry_run else jwks_cache.fetch_now(issuer=added.issuer, actor=actor)
                skipped = found.skipped
            except jwks_cache.KeysNotFetched as error:
                problem = str(error)
                self.stderr.write(f"Its keys could not be fetched now: {problem}")
        done = f"{'Would trust' if dry_run else 'Trusted'} issuer {name!r} of partner {partner!r}."
        self.print_result(
            text="\n".join([done, *(f"Skipped {sentence}" for sentence in skipped)]),
            partner=partner,
            name=name,
            issuer=issuer,
            audience=audience,
            algorithms=list(added.issuer.algorithms),
            keys_url=keys_url,
            skipped=skipped,
            problem=problem,
        )
