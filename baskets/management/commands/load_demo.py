"""`load_demo`: the command for `demo_data.load_demo`."""

from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from baskets.domain.maintenance import demo_data
from baskets.management.base import ServiceCommand


class Command(ServiceCommand):
    """Load the demo data."""

    help = "Create the missing demo data: a partner with a key, an administrator, a catalog, some baskets."
    supports_dry_run = False

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--new-api-key", action="store_true", help="Issue another key although there is one.")
        parser.add_argument("--new-test-api-key", action="store_true", help="Issue another test key although there is one.")
        parser.add_argument("--new-admin-password", action="store_true", help="Give the administrator another generated password.")

    def handle(self, *, new_api_key: bool, new_test_api_key: bool, new_admin_password: bool, **_: Any) -> None:
        """Load the data and print the credentials."""
        loaded = demo_data.load_demo(new_api_key=new_api_key, new_test_api_key=new_test_api_key, new_admin_password=new_admin_password)
        self.print_result(
            text="\n".join(
                [
                    f"API key: {loaded.api_key or 'issued before; --new-api-key issues another'}",
                    f"Test key: {loaded.test_api_key or 'issued before; --new-test-api-key issues another'}",
                    f"Administrator: {loaded.admin_user}",
                    f"Password: {loaded.admin_password or 'set before; --new-admin-password sets another'}",
                    f"A user with an active checkout: {loaded.user_id} (order {loaded.order_no})",
                ]
            ),
            **asdict(loaded),
        )
