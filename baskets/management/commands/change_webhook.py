"""`change_webhook`: the command for `webhook_control.pause`, `resume` and `replay`."""

from argparse import ArgumentParser
from datetime import datetime
from typing import Any

from django.core.management.base import CommandError

from baskets.domain.actors import Actor
from baskets.domain.events import webhook_changes, webhook_control
from baskets.domain.validation import REASON_LIMIT
from baskets.management.arguments import aware_datetime, bounded_int, printable_text
from baskets.management.base import ServiceCommand, dry_run_transaction
from baskets.models import WebhookEndpoint


class Command(ServiceCommand):
    """Pause a webhook, resume it, or have events delivered again."""

    help = (
        "Pause a webhook, resume one that was paused or given up or that waits for its next try, "
        "or have what happened since a moment delivered again."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("webhook", type=bounded_int(minimum=1, maximum=2**62), help="Its number, as the admin shows it.")
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument("--pause", action="store_true", help="Deliver nothing until it is resumed.")
        what.add_argument("--resume", action="store_true", help="Continue after the last delivered event.")
        what.add_argument("--replay-since", type=aware_datetime, metavar="TIME", help="Deliver all events since then again.")
        parser.add_argument("--reason", type=printable_text(max_length=REASON_LIMIT), required=True, help="Why; it is stored.")

    def handle(self, *, webhook: int, pause: bool, replay_since: datetime | None, reason: str, dry_run: bool, **_: Any) -> None:
        """Change the webhook and print its state."""
        endpoint = WebhookEndpoint.objects.filter(pk=webhook).first()
        if endpoint is None:
            raise CommandError(f"There is no webhook {webhook}.")
        options: dict[str, Any] = {"endpoint": endpoint, "reason": reason, "actor": Actor.system("change_webhook")}
        options["expected_changes"] = webhook_changes.count_changes(endpoint)
        with dry_run_transaction(dry_run=dry_run):
            if replay_since is not None:
                webhook_control.replay(since=replay_since, **options)
            elif pause:
                webhook_control.pause(**options)
            else:
                webhook_control.resume(**options)
            endpoint.refresh_from_db()
        self.print_result(
            text=f"Webhook {webhook} {'would be' if dry_run else 'is'} {endpoint.state}.",
            webhook=webhook,
            state=endpoint.state,
        )
