"""`create_webhook`: the command for `webhook_endpoints.create_webhook`. The secret is printed once; it is stored encrypted."""

from argparse import ArgumentParser
from typing import Any

from baskets.domain import validation
from baskets.domain.access import partners
from baskets.domain.actors import Actor
from baskets.domain.events import webhook_endpoints
from baskets.management.arguments import printable_text
from baskets.management.base import ServiceCommand, dry_run_transaction
from baskets.models import Event
from baskets.net.outgoing_urls import MAX_URL_LENGTH


class Command(ServiceCommand):
    """Create a webhook."""

    help = "Send the events of a partner to a URL. The secret that signs them goes to standard output, once."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("partner", type=printable_text(max_length=partners.MAX_NAME_LENGTH), help="The partner's name.")
        parser.add_argument("url", type=printable_text(max_length=MAX_URL_LENGTH), help="Where events are posted to; https only.")
        parser.add_argument(
            "--kind",
            action="append",
            default=[],
            choices=Event.Kind.values,
            metavar="KIND",
            dest="kinds",
            help="A kind of event to send; may be given several times. Left out: all.",
        )
        parser.add_argument("--label", type=printable_text(max_length=validation.MAX_LABEL_LENGTH), metavar="L", help="What it is for.")
        parser.add_argument(
            "--strict", action="store_true", help="One event at a time, in the order of the feed; default: in order for each basket."
        )
        parser.add_argument(
            "--from-the-beginning", action="store_true", help="Begin with the oldest event there is; default: with the next that happens."
        )

    def handle(
        self,
        *,
        partner: str,
        url: str,
        kinds: list[str],
        label: str | None,
        strict: bool,
        from_the_beginning: bool,
        as_json: bool,
        dry_run: bool,
        **_: Any,
    ) -> None:
        """Create the webhook and print its secret. A dry run prints no secret."""
        with dry_run_transaction(dry_run=dry_run):
            endpoint, secret = webhook_endpoints.create_webhook(
                partner_name=partner,
                url=url,
                kinds=kinds,
                label=label or "",
                strict=strict,
                from_the_beginning=from_the_beginning,
                actor=Actor.system("create_webhook"),
            )
        if dry_run and not as_json:
            self.stderr.write(f"Would create a webhook of partner {partner!r}.")
            return
        if not as_json:
            self.stderr.write(f"Webhook {endpoint.pk} of partner {partner!r}; its secret, shown once:")
        self.print_result(
            text=secret,
            webhook=None if dry_run else endpoint.pk,
            secret=None if dry_run else secret,
            partner=partner,
            kinds=endpoint.kinds,
            label=endpoint.label,
            strict=endpoint.strict,
        )
