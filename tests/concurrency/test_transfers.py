"""Many devices with one token, at one moment."""

from collections import Counter

from baskets.domain import runner
from baskets.domain.baskets.transfers import offer_transfer, redeem_transfer
from baskets.models import Event
from tests.concurrency.barrier import run_concurrently
from tests.conftest import APP
from tests.domain.scenarios import User

DEVICES = 50


def test_transfer_is_redeemed_by_one_of_fifty_devices(shopper: User) -> None:
    """The other devices get `transfer_unknown`, and the timeline has one line."""
    shopper.place("shirt", 1)
    made = runner.run(offer_transfer, owner=shopper.owner, actor=APP)
    partner_id = shopper.owner.partner_id
    bring = [lambda: runner.run(redeem_transfer, partner_id=partner_id, token=made.token, actor=APP)] * DEVICES
    outcomes = Counter(type(outcome).__name__ for outcome in run_concurrently(bring))
    assert outcomes == {"RedeemedTransfer": 1, "TransferNotFound": DEVICES - 1}
    assert Event.objects.filter(kind="transfer_redeemed").count() == 1
