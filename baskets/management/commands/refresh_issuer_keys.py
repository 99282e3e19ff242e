"""`refresh_issuer_keys`: the command for `jwks_cache.fetch_now`."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from baskets.domain.access import jwks_cache
from baskets.domain.access.partners import MAX_NAME_LENGTH
from baskets.domain.actors import Actor
from baskets.management.arguments import printable_text
from baskets.management.base import ServiceCommand
from baskets.models import TokenIssuer


class Command(ServiceCommand):
    """Fetch the published keys of issuers."""

    help = (
        "Fetch the key sets that issuers publish: of one issuer, of all of a partner, or of all. For the moment when a key was "
        "stolen, or an address works again. Ends with 1 if an address gives no usable key; the stored keys stay then."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "partner", nargs="?", type=printable_text(max_length=MAX_NAME_LENGTH), help="The partner's name; left out: all partners."
        )
        parser.add_argument(
            "name", nargs="?", type=printable_text(max_length=MAX_NAME_LENGTH), help="What the issuer is called here; left out: all."
        )

    def handle(self, *, partner: str | None, name: str | None, dry_run: bool, **_: Any) -> None:
        """Fetch the key sets one after the other."""
        wanted = {"partner__name": partner, "name": name}
        issuers = TokenIssuer.objects.published().filter(**{field: value for field, value in wanted.items() if value is not None})
        rows = list(issuers.select_related("partner").order_by("partner__name", "name"))
        if partner is not None and not rows:
            raise CommandError("This partner trusts no issuer of this name that publishes its keys.")
        results = [self._refresh(issuer, dry_run=dry_run) for issuer in rows]
        failed = sum(1 for result in results if result["problem"])
        lines = [line for result in results for line in self._lines(result)]
        self.print_result(text="\n".join(lines or ["There is nothing to fetch."]), issuers=results)
        if failed:
            raise CommandError(f"The keys of {failed} {'issuer' if failed == 1 else 'issuers'} could not be fetched.")

    def _refresh(self, issuer: TokenIssuer, *, dry_run: bool) -> dict[str, Any]:
        result = {"partner": issuer.partner.name, "name": issuer.name, "keys": [], "skipped": [], "problem": ""}
        try:
            actor = Actor.system("refresh_issuer_keys")
            found = jwks_cache.fetch(issuer) if dry_run else jwks_cache.fetch_now(issuer=issuer, actor=actor)
        except jwks_cache.KeysNotFetched as error:
            return result | {"problem": str(error)}
        return result | {"keys": [key.kid for key in found.keys], "skipped": list(found.skipped)}

    @staticmethod
    def _lines(result: dict[str, Any]) -> list[str]:
        outcome = result["problem"] or f"{len(result['keys'])} keys."
        skipped = [f"Skipped {sentence}" for sentence in result["skipped"]]
        return [f"Issuer {result['name']!r} of partner {result['partner']!r}: {outcome}", *skipped]
