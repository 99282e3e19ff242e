"""The repairs that assign a record to a member of staff, and end the assignment. They change nothing else."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from django.contrib.admin.utils import quote
from django.db.models import Model
from django.http import HttpRequest
from django.urls import reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from baskets.admin.core import display
from baskets.admin.repairs import snapshots
from baskets.admin.repairs.definitions import BasketScopedRepair, KnownFacts, R, Repair, RepairCall
from baskets.admin.repairs.forms import AssignmentForm
from baskets.admin.repairs.snapshots import Snapshot
from baskets.domain.support import assignments, attention_repairs
from baskets.models import CheckoutSession


class Assignment(Repair[R]):
    """What both repairs of an assignment need to know of a kind of record."""

    @abstractmethod
    def is_assignable(self, record: R, known: KnownFacts) -> bool:
        """Return whether the record can be assigned to staff."""

    @abstractmethod
    def assignee(self, record: R, known: KnownFacts) -> str:
        """The account to which the record is assigned; empty for none."""

    @abstractmethod
    def assign(self, record: R, call: RepairCall) -> None:
        """Assign the record to the actor."""

    @abstractmethod
    def unassign(self, record: R, call: RepairCall) -> None:
        """End the assignment."""


class Assign(Assignment[R]):
    """Assigns a record to the user."""

    slug = "take"
    title = _("Assign to me")
    done = _("It is assigned to you.")
    form_class = AssignmentForm
    description = _("Other staff see that you work on it. Nothing else changes.")

    def is_available(self, record: R, known: KnownFacts) -> bool:
        return self.is_assignable(record, known) and not self.assignee(record, known)

    def execute(self, record: R, call: RepairCall) -> None:
        self.assign(record, call)


class Unassign(Assignment[R]):
    """Ends the assignment of a record."""

    slug = "hand-back"
    title = _("Unassign")
    done = _("It is not assigned any more.")
    form_class = AssignmentForm
    description = _("Other staff see that it is not assigned, so that another person can take it. Nothing else changes.")

    def is_available(self, record: R, known: KnownFacts) -> bool:
        return self.is_assignable(record, known) and bool(self.assignee(record, known))

    def execute(self, record: R, call: RepairCall) -> None:
        self.unassign(record, call)


class SessionAssignment(BasketScopedRepair[R], Assignment[R]):
    """The assignment of a checkout, which its attention flags share. The timeline of the basket records it."""

    is_bulk = True

    @abstractmethod
    def session(self, record: R) -> CheckoutSession:
        """The checkout to which the record belongs."""

    def label(self, record: R) -> str:
        return self.session(record).order_no

    def snapshot(self, record: R) -> Snapshot:
        return snapshots.of_assignment(self.session(record))

    def assignee(self, record: R, known: KnownFacts) -> str:
        return attention_repairs.assignee_of(self.session(record)) if known.assignee is None else known.assignee

    def assign(self, record: R, call: RepairCall) -> None:
        session = self.session(record)
        attention_repairs.assign(session=session, expected_events=call.expected_version, reason=call.reason, actor=call.actor)

    def unassign(self, record: R, call: RepairCall) -> None:
        session = self.session(record)
        attention_repairs.unassign(session=session, expected_events=call.expected_version, reason=call.reason, actor=call.actor)


@dataclass(frozen=True, kw_only=True)
class AssignmentShown:
    """To whom a record is assigned, and the button that changes it.

    :param assignee: the account; empty for none.
    :param url: where the button posts to; empty where the user may not press it.
    :param seen: the version of the record that the page shows.
    """

    assignee: str = ""
    label: str = ""
    url: str = ""
    seen: int = 0

    @property
    def badge(self) -> SafeString:
        """The assignee, as a label."""
        return display.assignee(self.assignee)


def show_assignment(request: HttpRequest, record: Model, *, assignee: str, seen: int) -> AssignmentShown:
    """Show the assignment of a record, with a button that needs no form.

    :param record: a checkout or a flag of it, which share one assignment, or a record that belongs to no basket.
    """
    repair: type[Repair[Any]] = Unassign if assignee == request.user.get_username() else Assign
    may = request.user.has_perm(f"baskets.repair_{repair.slug.replace('-', '_')}")
    name = f"admin:baskets_{record._meta.model_name}_repair"  # noqa: SLF001 (Django's own name)
    url = reverse(name, args=[quote(record.pk), repair.slug]) if may else ""
    label = gettext("Assign to me instead") if assignee and repair is Assign else str(repair.title)
    return AssignmentShown(assignee=assignee, label=label, url=url, seen=seen)


class SubjectAssignment(Assignment[R]):
    """The assignment of a record that belongs to no basket. The audit log records it, and its last step is the version."""

    about: ClassVar[str]

    def label(self, record: R) -> str:
        return str(record.pk)

    def snapshot(self, record: R) -> Snapshot:
        return snapshots.of_subject(self.about, str(record.pk))

    def version(self, record: R) -> int:
        return assignments.last_step(self.about, str(record.pk)).number

    def version_scope(self, record: R) -> object:
        return record.pk

    def assignee(self, record: R, known: KnownFacts) -> str:
        pk = str(record.pk)
        return assignments.assignees(self.about, [pk]).get(pk, "") if known.assignee is None else known.assignee

    def assign(self, record: R, call: RepairCall) -> None:
        step = call.expected_version
        assignments.assign(about=self.about, subject=str(record.pk), expected_step=step, reason=call.reason, actor=call.actor)

    def unassign(self, record: R, call: RepairCall) -> None:
        step = call.expected_version
        assignments.unassign(about=self.about, subject=str(record.pk), expected_step=step, reason=call.reason, actor=call.actor)
