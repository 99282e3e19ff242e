"""`check_baskets`: the command for `invariant_checker.check`."""

import json
from typing import Any

from django.core.management.base import CommandError
from django.db import DatabaseError, InterfaceError

from baskets.db.errors import Fault, fault_of
from baskets.domain import runner
from baskets.domain.actors import Actor
from baskets.domain.maintenance import invariant_checker
from baskets.domain.support import assignments
from baskets.management.base import ServiceCommand
from baskets.management.progress import progress


class Command(ServiceCommand):
    """Check the invariants of the stored data."""

    help = "Check the rules on the stored data, in one snapshot. Report violations, also on the work list of staff. Repair nothing."
    supports_dry_run = False

    def handle(self, **_: Any) -> None:
        """Check every rule and print the violations."""
        with progress(doing="Checking", total=invariant_checker.invariant_count(), unit="rules") as advance:
            found = invariant_checker.check(advance=advance)
        findings = [
            {
                "slug": finding.invariant.slug,
                "rule": finding.invariant.rule,
                "sentence": finding.invariant.sentence,
                "total": finding.total,
                "examples": finding.examples,
            }
            for finding in found
        ]
        self.print_result(
            text=_report(found) if found else f"All {invariant_checker.invariant_count()} rules hold.",
            checked=invariant_checker.invariant_count(),
            findings=findings,
        )
        self._record(findings)
        if found:
            raise CommandError(f"{len(found)} of {invariant_checker.invariant_count()} rules are broken.")

    def _record(self, findings: list[dict[str, Any]]) -> None:
        """Record the result on the work list. On a read-only database, such as a standby, print a notice instead."""
        actor = Actor.system("check_baskets")
        try:
            runner.run(lambda: assignments.record_check(checked=invariant_checker.invariant_count(), found=findings, actor=actor))
        except (DatabaseError, InterfaceError) as error:
            if fault_of(error) is Fault.INTERNAL:
                raise
            self.stderr.write("The result is not on the work list of staff: the database could not be written to.")


def _report(found: list[invariant_checker.Finding]) -> str:
    lines = []
    for finding in found:
        lines.append(f"{finding.invariant.slug} (rule {finding.invariant.rule}), {finding.total} times not true:")
        lines.append(f"  {finding.invariant.sentence}")
        lines += [f"  - {json.dumps(example)}" for example in finding.examples]
        if finding.total > len(finding.examples):
            lines.append(f"  - and {finding.total - len(finding.examples)} more")
    return "\n".join(lines)
