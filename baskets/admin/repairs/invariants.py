"""The repairs of findings of the invariant checker."""

from typing import ClassVar

from django.utils.translation import gettext_lazy as _

from baskets.admin.repairs import snapshots
from baskets.admin.repairs.assignment import Assign, SubjectAssignment, Unassign
from baskets.admin.repairs.definitions import KnownFacts, Repair, RepairCall
from baskets.admin.repairs.forms import RepairForm
from baskets.admin.repairs.snapshots import Snapshot
from baskets.domain.support import assignments
from baskets.models import BrokenRule


class RuleRepair(Repair[BrokenRule]):
    """A repair of a finding of the invariant checker."""

    def snapshot(self, record: BrokenRule) -> Snapshot:
        return snapshots.of_rule(record)

    def version(self, record: BrokenRule) -> int:
        return assignments.last_step("brokenrule", record.pk).number

    def version_scope(self, record: BrokenRule) -> object:
        return record.pk

    def label(self, record: BrokenRule) -> str:
        return record.pk


class FindingForm(RepairForm):
    """How a finding was closed: no reason of the operator fits."""

    has_timeline = False

    offered_reasons: ClassVar["staticmethod[[], list[str]]"] = staticmethod(list)


class ResolveRule(RuleRepair):
    """Resolves a finding."""

    slug = "settle-rule"
    title = _("Resolve this finding")
    done = _("The finding is resolved.")
    form_class = FindingForm
    description = _("The reason says how the finding was closed. The finding opens again if a check finds the same violation.")

    def is_available(self, record: BrokenRule, known: KnownFacts) -> bool:
        return _is_open(record)

    def execute(self, record: BrokenRule, call: RepairCall) -> None:
        assignments.resolve_rule(rule=record, expected_step=call.expected_version, reason=call.reason, actor=call.actor)


def _is_open(rule: BrokenRule) -> bool:
    return rule.settled_at is None and rule.gone_at is None


class FindingAssignment(SubjectAssignment[BrokenRule]):
    """The assignment of an open finding."""

    about = "brokenrule"

    def is_assignable(self, record: BrokenRule, known: KnownFacts) -> bool:
        return _is_open(record)


class AssignRule(FindingAssignment, Assign[BrokenRule]):
    """Assigns an open finding to the user."""


class UnassignRule(FindingAssignment, Unassign[BrokenRule]):
    """Ends the assignment of an open finding."""


RULE_REPAIRS: tuple[Repair[BrokenRule], ...] = (ResolveRule(), AssignRule(), UnassignRule())
