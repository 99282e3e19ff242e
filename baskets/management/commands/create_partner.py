"""`create_partner`: the command for `partners.create_partner`."""

from argparse import ArgumentParser
from typing import Any

from baskets.domain.access import partners
from baskets.domain.actors import Actor
from baskets.management.arguments import bounded_int, printable_text
from baskets.management.base import ServiceCommand, dry_run_transaction
from baskets.models import Partner


class Command(ServiceCommand):
    """Create a partner."""

    help = "Create a partner: a platform whose users have baskets here."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("name", type=printable_text(max_length=partners.MAX_NAME_LENGTH), help="Its name; given once.")
        parser.add_argument(
            "--late-orders",
            choices=Partner.LateOrders.values,
            default=Partner.LateOrders.REFUSE.value,
            help="What becomes of a late order whose stock is gone: refuse it (default), or accept it as short.",
        )
        parser.add_argument(
            "--hold-minutes",
            type=bounded_int(minimum=1, maximum=partners.MAX_HOLD_SECONDS // 60),
            metavar="N",
            help="How long a checkout holds its stock; left out: the default of the service.",
        )
        parser.add_argument(
            "--share-percent",
            type=bounded_int(minimum=0, maximum=partners.MAX_SHARE_PERCENT),
            metavar="N",
            help=(
                "The percentage of the unsold pieces of a product that its checkouts may hold at once; 0: no limit; left out: that of the"
                " service, BASKETS_PARTNER_SHARE_PERCENT."
            ),
        )
        parser.add_argument(
            "--orders-need-server-key",
            action="store_true",
            help=(
                "Recommended: only the partner's server keys may report `ordered: true`. A client key ships inside apps and can be"
                " stolen; with this option, a stolen one sells nothing. Left out: apps report orders, as the published API has it."
            ),
        )

    def handle(
        self,
        *,
        name: str,
        late_orders: str,
        hold_minutes: int | None,
        share_percent: int | None,
        orders_need_server_key: bool,
        dry_run: bool,
        **_: Any,
    ) -> None:
        """Create the partner."""
        with dry_run_transaction(dry_run=dry_run):
            partner = partners.create_partner(
                name=name,
                late_orders=late_orders,
                hold_seconds=None if hold_minutes is None else hold_minutes * 60,
                share_percent=share_percent,
                orders_need_server_key=orders_need_server_key,
                actor=Actor.system("create_partner"),
            )
        self.print_result(
            text=f"{'Would create' if dry_run else 'Created'} partner {partner.name!r}.",
            partner=partner.name,
            late_orders=partner.late_orders,
            hold_minutes=hold_minutes,
            share_percent=share_percent,
            orders_need_server_key=orders_need_server_key,
        )
