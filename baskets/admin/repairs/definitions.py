"""What a repair is: when it is available, what it may touch, what it does, and which form it needs. Defines no single repair."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Generic, TypeVar
from uuid import UUID

from django.contrib.admin.utils import quote
from django.db.models import Model
from django.http import HttpRequest
from django.urls import reverse

from baskets.admin.core.actors import staff_actor
from baskets.admin.core.languages import Text
from baskets.admin.repairs.forms import RepairForm
from baskets.admin.repairs.snapshots import Snapshot
from baskets.domain.actors import Actor
from baskets.models import Basket, CheckoutSession

R = TypeVar("R", bound=Model)


@dataclass(frozen=True, kw_only=True)
class KnownFacts:
    """What a page has already read about a record, so that availability costs no query for each row.

    :param assignee: the account to which the record is assigned; empty for none, None where the page has not read it.
    :param has_failed_items: whether items of the checkout failed at its start; None where the page has not read it.
    :param has_open_flags: whether the basket has open attention flags; None where the page has not read it.
    :param is_lapsed: whether the page lists the checkout because it has lapsed.
    """

    assignee: str | None = None
    has_failed_items: bool | None = None
    has_open_flags: bool | None = None
    is_lapsed: bool = False


NO_FACTS = KnownFacts()


@dataclass(frozen=True, kw_only=True)
class RepairCall:
    """One execution of a repair by a member of staff.

    :param cleaned: the values of the form, without the reason.
    :param expected_version: the version of the record on the page that staff confirmed.
    """

    cleaned: Mapping[str, Any]
    expected_version: int
    reason: str
    actor: Actor


class Repair(ABC, Generic[R]):
    """A named repair of one kind of record. To add one, subclass and list an instance in the tuple of its noun's module.

    `slug` names its address and its permission, `description` tells staff what it does, `done` that it was done, and `is_bulk`
    offers it for many rows of a list. `confirmed_values` names values of the snapshot that must come out as the page has shown
    them: what the repair does depends on stock, which no event of the basket records.
    """

    slug: ClassVar[str]
    title: ClassVar[Text]
    done: ClassVar[Text]
    description: ClassVar[Text]
    form_class: ClassVar[type[RepairForm]] = RepairForm
    is_bulk: ClassVar[bool] = False
    confirmed_values: ClassVar[Sequence[Text]] = ()

    @property
    def permission(self) -> str:
        """The permission that the repair needs."""
        return f"baskets.repair_{self.slug.replace('-', '_')}"

    @abstractmethod
    def is_available(self, record: R, known: KnownFacts) -> bool:
        """Return whether pages offer the repair for a record. The domain checks again when it is executed."""

    @abstractmethod
    def snapshot(self, record: R) -> Snapshot:
        """Read what the repair may touch. The page shows the difference between before and after."""

    @abstractmethod
    def version(self, record: R) -> int:
        """Read the version of the record. The repair is refused if it differs from the version that staff confirmed."""

    @abstractmethod
    def version_scope(self, record: R) -> object:
        """Name what the version counts: two records with the same scope share one version."""

    @abstractmethod
    def execute(self, record: R, call: RepairCall) -> R | None:
        """Make the domain call.

        :returns: the record under its new key, if the repair changes the key.
        :raises Refusal: as the domain call does.
        """

    @abstractmethod
    def label(self, record: R) -> str:
        """The name by which staff know the record."""

    def back_url(self, record: R) -> str:
        """The page to show after the repair: the record's own."""
        return reverse(f"admin:baskets_{record._meta.model_name}_change", args=[quote(record.pk)])  # noqa: SLF001 (Django's own name)


class BasketScopedRepair(Repair[R]):
    """A repair of a record that belongs to a basket: the timeline of the basket is its version."""

    @abstractmethod
    def basket_id(self, record: R) -> UUID:
        """The basket to which the record belongs."""

    def version(self, record: R) -> int:
        """Count the events of the basket."""
        return Basket.objects.values_list("events", flat=True).get(pk=self.basket_id(record))

    def version_scope(self, record: R) -> object:
        """All records of a basket share its version."""
        return self.basket_id(record)

    def checkout(self, record: R) -> CheckoutSession | None:
        """The checkout that the repair is about, whose assignee its page shows; None for a repair of the whole basket."""
        return None

    def back_url(self, record: R) -> str:
        """The page of the basket."""
        return reverse("admin:baskets_basket_change", args=[self.basket_id(record)])


Operation = Callable[[], R | None]


def make_operation(
    repair: Repair[R], request: HttpRequest, record: R, *, cleaned: Mapping[str, Any], expected_version: int, reason: str
) -> Operation[R]:
    """Bind a repair to its arguments.

    :returns: a callable for the runner and for the dry run.
    """
    call = RepairCall(cleaned=cleaned, expected_version=expected_version, reason=reason, actor=staff_actor(request))
    return partial(repair.execute, record, call)


def repair_links(
    repairs: Iterable[Repair[R]], request: HttpRequest, record: R, known: KnownFacts = NO_FACTS, *, only: set[str] | None = None
) -> list[tuple[str, str]]:
    """List the repairs that are available for a record and permitted to the user.

    :param only: the slugs to choose from; None for all.
    :returns: address and title of each.
    """
    name = f"admin:baskets_{record._meta.model_name}_repair"  # noqa: SLF001 (Django's own name)
    return [
        (reverse(name, args=[quote(record.pk), repair.slug]), str(repair.title))
        for repair in repairs
        if (only is None or repair.slug in only) and request.user.has_perm(repair.permission) and repair.is_available(record, known)
    ]
