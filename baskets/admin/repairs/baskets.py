"""The repairs of baskets, and of the devices of guests."""

from uuid import UUID

from django.utils.translation import gettext_lazy as _

from baskets.admin.repairs import snapshots
from baskets.admin.repairs.basket_forms import DaysForm, EraseForm, ItemForm, NewItemForm, NoteForm
from baskets.admin.repairs.definitions import BasketScopedRepair, KnownFacts, Repair, RepairCall
from baskets.admin.repairs.forms import OrderReasonForm
from baskets.admin.repairs.snapshots import Snapshot
from baskets.domain.support import attention_repairs, basket_repairs, device_repairs, erasure, guards
from baskets.models import Basket, GuestToken


def _seen(basket: Basket, call: RepairCall) -> int:
    return guards.events_seen(basket, call.expected_version)


class BasketRepair(BasketScopedRepair[Basket]):
    """A repair of a basket."""

    def basket_id(self, record: Basket) -> UUID:
        return record.pk

    def version(self, record: Basket) -> int:
        return guards.basket_version(**Basket.objects.values("created_at", "events").get(pk=record.pk))

    def snapshot(self, record: Basket) -> Snapshot:
        return snapshots.of_basket(record.pk)

    def label(self, record: Basket) -> str:
        return record.user_id


class ChangeItem(BasketRepair):
    """Changes, moves or removes one item."""

    slug = "change-item"
    title = _("Change an item")
    done = _("The item was changed.")
    description = _("An item in the cart or the saved list gets another count, moves to the other list, or is removed.")
    form_class = ItemForm

    def is_available(self, record: Basket, known: KnownFacts) -> bool:
        return record.hidden_at is None

    def execute(self, record: Basket, call: RepairCall) -> None:
        counts = {"cart": call.cleaned["count"], "saved": 0, "out": -1}
        basket_repairs.change_item(
            basket=record,
            product_id=call.cleaned["product"],
            count=counts[call.cleaned["to"]],
            expected_events=_seen(record, call),
            reason=call.reason,
            actor=call.actor,
        )


class AddItem(BasketRepair):
    """Adds one product to the cart."""

    slug = "add-item"
    title = _("Add an item")
    done = _("The item was added to the cart.")
    description = _("A listed product is added to the cart, as if its user had added it. No stock is held.")
    form_class = NewItemForm

    def is_available(self, record: Basket, known: KnownFacts) -> bool:
        return record.hidden_at is None

    def execute(self, record: Basket, call: RepairCall) -> None:
        basket_repairs.add_item(
            basket=record,
            product_id=call.cleaned["product"],
            count=call.cleaned["count"],
            expected_events=_seen(record, call),
            reason=call.reason,
            actor=call.actor,
        )


class RestoreBasket(BasketRepair):
    """Restores a basket that was deleted or has expired."""

    slug = "restore"
    title = _("Restore the basket")
    done = _("The basket is open again.")
    description = _(
        "The basket is open again, with the cart and the saved list that it was closed with. Holds and orders do not come back."
    )

    def is_available(self, record: Basket, known: KnownFacts) -> bool:
        return record.hidden_at is not None and not erasure.is_erased(record)

    def execute(self, record: Basket, call: RepairCall) -> None:
        basket_repairs.restore(basket=record, expected_events=_seen(record, call), reason=call.reason, actor=call.actor)


class ExtendBasket(BasketRepair):
    """Lets a basket expire later."""

    slug = "extend"
    title = _("Extend the basket")
    done = _("The basket expires later now.")
    description = _("The basket expires later. Its lists do not change.")
    form_class = DaysForm
    is_bulk = True

    def is_available(self, record: Basket, known: KnownFacts) -> bool:
        return record.hidden_at is None

    def execute(self, record: Basket, call: RepairCall) -> None:
        basket_repairs.extend(
            basket=record,
            days=call.cleaned["days"],
            expected_events=_seen(record, call),
            reason=call.reason,
            actor=call.actor,
        )


class EndBasket(BasketRepair):
    """Ends a basket as its user could."""

    slug = "end"
    title = _("End the basket")
    done = _("The basket was ended.")
    description = _("The basket is emptied and hidden, as if its user had deleted it. Orders and the timeline stay.")
    is_bulk = True

    def is_available(self, record: Basket, known: KnownFacts) -> bool:
        return record.hidden_at is None

    def execute(self, record: Basket, call: RepairCall) -> None:
        basket_repairs.end(basket=record, expected_events=_seen(record, call), reason=call.reason, actor=call.actor)


class ResolveAllFlags(BasketRepair):
    """Resolves all open flags of a basket."""

    slug = "settle"
    title = _("Resolve all its flags")
    done = _("All open flags are resolved.")
    description = _("All open flags of this basket are resolved, and the reason says how. They stay on record.")
    form_class = OrderReasonForm

    def snapshot(self, record: Basket) -> Snapshot:
        return snapshots.of_flags(record)

    def is_available(self, record: Basket, known: KnownFacts) -> bool:
        return record.attention.open().exists() if known.has_open_flags is None else known.has_open_flags

    def execute(self, record: Basket, call: RepairCall) -> None:
        attention_repairs.resolve_all(basket=record, expected_events=_seen(record, call), reason=call.reason, actor=call.actor)


class AddNote(BasketRepair):
    """Adds a note for other staff."""

    slug = "note"
    title = _("Add a note")
    done = _("The note was added.")
    description = _("What the next person should know, such as what the customer was promised. The customer and the partner do not see it.")
    form_class = NoteForm

    def snapshot(self, record: Basket) -> Snapshot:
        return snapshots.of_notes(record.pk)

    def is_available(self, record: Basket, known: KnownFacts) -> bool:
        return not erasure.is_erased(record)

    def execute(self, record: Basket, call: RepairCall) -> None:
        basket_repairs.add_note(basket=record, expected_events=_seen(record, call), reason=call.reason, actor=call.actor)


class EraseUser(BasketRepair):
    """Erases the data of a user."""

    slug = "erase"
    title = _("Erase the user's data")
    done = _("The user's data were erased.")
    description = _(
        "For good: a random name replaces the user id, and tracking, stored responses, comfort settings"
        " and the lists are deleted. Orders, stock and the timeline stay, but cannot be found by the user id any more."
    )

    form_class = EraseForm

    def snapshot(self, record: Basket) -> Snapshot:
        return snapshots.of_user(record)

    def is_available(self, record: Basket, known: KnownFacts) -> bool:
        return not erasure.is_erased(record)

    def execute(self, record: Basket, call: RepairCall) -> Basket | None:
        if record._state.adding:  # noqa: SLF001 (documented, underscore and all)
            erasure.erase_without_basket(basket=record, reason=call.reason, actor=call.actor)
            return None
        return erasure.erase_user(
            basket=record,
            expected_events=_seen(record, call),
            means_user_elsewhere=bool(call.cleaned.get("means_user_elsewhere")),
            reason=call.reason,
            actor=call.actor,
        )


class DeviceRepair(BasketScopedRepair[GuestToken]):
    """A repair of the device of a guest."""

    def basket_id(self, record: GuestToken) -> UUID:
        return record.basket_id

    def snapshot(self, record: GuestToken) -> Snapshot:
        return snapshots.of_device(record)

    def label(self, record: GuestToken) -> str:
        return str(record.pk)


class RevokeDevice(DeviceRepair):
    """Revokes the token of one device."""

    slug = "revoke-device"
    title = _("Revoke this device")
    done = _("The device was revoked.")
    description = _("The token of the device is refused from its next call on. Other devices keep the basket.")

    def is_available(self, record: GuestToken, known: KnownFacts) -> bool:
        return record.revoked_at is None

    def execute(self, record: GuestToken, call: RepairCall) -> None:
        device_repairs.revoke_device(device=record, expected_events=call.expected_version, reason=call.reason, actor=call.actor)


BASKET_REPAIRS: tuple[Repair[Basket], ...] = (
    AddItem(),
    ChangeItem(),
    ExtendBasket(),
    EndBasket(),
    RestoreBasket(),
    ResolveAllFlags(),
    AddNote(),
    EraseUser(),
)
DEVICE_REPAIRS: tuple[Repair[GuestToken], ...] = (RevokeDevice(),)
