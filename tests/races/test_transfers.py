"""Many devices with one token, at one moment."""

from collections import Counter

from baskets.domain import transactions
from baskets.domain.transfer import offer_transfer, redeem_transfer
from baskets.models import Event
from tests.conftest import APP
from tests.domain.worlds import User
from tests.races.barrier import together

DEVICES = 50


def test_one_of_fifty_devices_gets_the_basket(anna: User) -> None:
    """The others are told that the token is not good, and the timeline has one line."""
    anna.place("shirt", 1)
    made = transactions.run(lambda _: offer_transfer(owner=anna.owner, actor=APP))
    partner_id = anna.owner.partner_id
    bring = [lambda: transactions.run(lambda _: redeem_transfer(partner_id=partner_id, token=made.token, actor=APP))] * DEVICES
    outcomes = Counter(type(outcome).__name__ for outcome in together(bring))
    assert outcomes == {"Taken": 1, "TransferUnknown": DEVICES - 1}
    assert Event.objects.filter(kind="transfer_redeemed").count() == 1
