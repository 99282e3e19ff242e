"""Partners, keys, products and staff for tests. Baskets in a given state are built by domain calls, never by rows."""

from typing import Any

import factory
from factory.django import DjangoModelFactory

from baskets.domain.actors import Actor
from baskets.domain.stock import supply
from baskets.models import Partner, Product

TESTER = Actor.system("tests")


class PartnerFactory(DjangoModelFactory[Partner]):
    """A partner with the defaults of the service."""

    class Meta:
        model = Partner

    name = factory.Sequence(lambda n: f"partner-{n}")


class ProductFactory(DjangoModelFactory[Product]):
    """A listed product; give `unsold` to make it limited, by the domain call that a feed uses."""

    class Meta:
        model = Product
        skip_postgeneration_save = True

    product_id = factory.Sequence(lambda n: f"prod-{n}")
    name = factory.LazyAttribute(lambda product: f"Name of {product.product_id}")
    price = 1999
    currency = "EUR"

    @factory.post_generation
    def unsold(self, create: bool, extracted: int | None, **_: Any) -> None:
        """Report the number of unsold pieces."""
        if create and extracted is not None:
            supply.set_unsold(reports={self.pk: extracted}, as_of=None, reason="test supply", actor=TESTER)
