"""`reencrypt_secrets`: the command for `reencryption.reencrypt_batch`."""

from typing import Any

from django.core.management.base import CommandError

from baskets.domain import audit_log, runner
from baskets.domain.actors import Actor
from baskets.domain.maintenance.reencryption import ENCRYPTED_FIELDS, reencrypt_batch
from baskets.management.base import ServiceCommand
from baskets.management.progress import progress
from baskets.management.shutdown import graceful_shutdown
from baskets.models import DeskEntry


class Command(ServiceCommand):
    """Encrypt stored secrets again."""

    help = (
        "Encrypt every stored secret with the first of BASKETS_ENCRYPTION_KEYS, bound to its column and row, one "
        "transaction for each batch. Safe to run twice and to stop. Ends with 1 if a secret cannot be decrypted."
    )

    def handle(self, *, dry_run: bool, **_: Any) -> None:
        """Process every table with secrets."""
        done = unreadable = 0
        with graceful_shutdown() as stop, progress(doing="Encrypting", total=None, unit="secrets") as advance:
            for model, fields, identity in ENCRYPTED_FIELDS:
                after = None
                while not stop():
                    batch = reencrypt_batch(model, fields, identity, after=after, dry_run=dry_run)
                    if batch.last is None:
                        break
                    done, unreadable, after = done + batch.done, unreadable + batch.unreadable, batch.last
                    advance(batch.done)
            stopped = stop()
            if not dry_run:
                actor, data = Actor.system("reencrypt_secrets"), {"encrypted": done, "unreadable": unreadable}
                runner.run(audit_log.record, kind=DeskEntry.Kind.MAINTAINED, about="secrets", data=data, actor=actor)
        verb = "Could encrypt" if dry_run else "Encrypted"
        self.print_result(
            text=f"{verb} {done} secrets again" + (f"; {unreadable} cannot be read." if unreadable else "."),
            encrypted=done,
            unreadable=unreadable,
            stopped=stopped,
        )
        if stopped:
            raise CommandError("Stopped on request after a whole batch; the next run does it all.")
        if unreadable:
            raise CommandError("Some secrets were encrypted with an unknown key, or belong to another row.")
