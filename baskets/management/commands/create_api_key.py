"""`create_api_key`: the command for `api_keys.issue_api_key`. The text of the key is printed once and not stored."""

from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from baskets.domain import validation
from baskets.domain.access import api_keys, partners
from baskets.domain.actors import Actor
from baskets.domain.support import sandboxes
from baskets.management.arguments import bounded_int, printable_text
from baskets.management.base import ServiceCommand, dry_run_transaction
from baskets.models import ApiKey


class Command(ServiceCommand):
    """Issue an API key."""

    help = "Issue an API key of a partner. Without --json the key alone goes to standard output, once; only its digest is stored."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("partner", type=printable_text(max_length=partners.MAX_NAME_LENGTH), help="The partner's name.")
        parser.add_argument(
            "--client",
            action="store_true",
            help="A client key, which ships inside apps and works only with a user's own token; default: a server key.",
        )
        parser.add_argument(
            "--test",
            action="store_true",
            help="A test key: for the partner's sandbox, which is created if there is none; it touches no real stock and sells nothing.",
        )
        parser.add_argument("--label", type=printable_text(max_length=validation.MAX_LABEL_LENGTH), metavar="L", help="What it is for.")
        parser.add_argument(
            "--expires-in-days",
            type=bounded_int(minimum=1, maximum=api_keys.MAX_KEY_LIFETIME.days),
            metavar="N",
            help="When the key ends by itself; left out: never.",
        )
        parser.add_argument(
            "--calls-per-minute",
            type=bounded_int(minimum=0, maximum=api_keys.MAX_CALLS_PER_MINUTE),
            metavar="N",
            help="Its rate limit; 0: none; left out: the limit of the service.",
        )

    def handle(
        self,
        *,
        partner: str,
        client: bool,
        test: bool,
        label: str | None,
        expires_in_days: int | None,
        calls_per_minute: int | None,
        as_json: bool,
        dry_run: bool,
        **_: Any,
    ) -> None:
        """Issue the key and print it. A dry run prints no key."""
        with dry_run_transaction(dry_run=dry_run):
            actor = Actor.system("create_api_key")
            key, text = api_keys.issue_api_key(
                partner_name=sandboxes.open_sandbox(partner_name=partner, actor=actor).name if test else partner,
                kind=ApiKey.Kind.CLIENT if client else ApiKey.Kind.SERVER,
                label=label or "",
                expires_in=None if expires_in_days is None else timedelta(days=expires_in_days),
                calls_per_minute=calls_per_minute,
                actor=actor,
            )
            issued_for = key.partner
        if dry_run and not as_json:
            self.stderr.write(f"Would issue a {key.kind} key for partner {issued_for.name!r}.")
            return
        self.print_result(
            text=text,
            api_key=None if dry_run else text,
            prefix=None if dry_run else key.prefix,
            partner=issued_for.name,
            kind=key.kind,
            test=issued_for.is_sandbox,
            label=key.label,
            calls_per_minute=key.calls_per_minute,
            expires_at=None if key.expires_at is None else key.expires_at.isoformat(),
        )
