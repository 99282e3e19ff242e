"""The contract for what has no stock: guests, a basket on its way to another device, and comfort settings."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.model_based.shop import Shop
from tests.model_based.state import LIFETIME, Basket, Key, Refused

TRANSFER = 60


@dataclass
class TransferOffer:
    """A basket that may be taken once, until its minute is over."""

    key: Key
    until: int
    open: bool = True


@dataclass
class Devices(Shop):
    """What a device begins with. Comfort settings are kept by user, whatever becomes of the basket."""

    offers: list[TransferOffer] = field(default_factory=list)
    comfort: dict[Key, dict[str, str]] = field(default_factory=dict)

    def create_guest(self, key: Key, counts: Mapping[str, int]) -> None:
        """A basket that does not slide, with all of the products or none; a count of 0 saves one for later.

        :param key: of a user who did not exist.
        """
        basket = Basket(expires=self.now + LIFETIME, guest=True)
        for product, count in counts.items():
            self._refuse_unknown(key, product)
            self._refuse_full(basket.cart, basket.saved, product, count)
            (basket.cart if count else basket.saved)[product] = self._appended(basket, count or 1)
        self.baskets[key] = basket
        if counts:
            self._changed(basket)
        else:
            self._record_event(basket)

    def offer(self, key: Key) -> None:
        if not self.present(key):
            raise Refused("basket_not_found")
        self.offers.append(TransferOffer(key, self.now + TRANSFER))
        self._record_event(self.baskets[key])

    def take_over(self, partner: int, number: int) -> Key:
        offer = self.offers[number]
        if not offer.open or offer.until <= self.now or offer.key[0] != partner or not self.present(offer.key):
            raise Refused("transfer_unknown")
        offer.open = False
        self._record_event(self.baskets[offer.key])
        return offer.key

    def change_comfort(self, key: Key, values: Mapping[str, str | None], *, consent: bool | None) -> None:
        """Nothing is kept without consent, and taking it back deletes everything."""
        kept = self.comfort.get(key, {} if consent else None)
        if any(values.values()) and (kept is None or consent is False):
            raise Refused("consent_missing")
        self.comfort.pop(key, None)
        if consent is not False and kept is not None:
            self.comfort[key] = {name: value for name, value in (kept | values).items() if value is not None}
