"""`check_baskets`: the command for `invariant_checker.check`."""

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError
from django.db import DatabaseError, InterfaceError

from baskets.db.errors import Fault, fault_of
from baskets.domain import runner
from baskets.domain.actors import Actor
from baskets.domain.cells import supply_check
from baskets.domain.maintenance import invariant_checker
from baskets.domain.support import assignments
from baskets.management.base import ServiceCommand
from baskets.management.progress import progress


class Command(ServiceCommand):
    """Check the invariants of the stored data."""

    help = "Check the rules on the stored data, in one snapshot. Report violations, also on the work list of staff. Repair nothing."
    supports_dry_run = False

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--cells",
            action="store_true",
            help="Check the stock of all cells that BASKETS_CELL_DATABASES names, and the moves between them; nothing else.",
        )

    def handle(self, *, cells: bool, **_: Any) -> None:
        """Check every rule and print the violations."""
        if cells:
            done = supply_check.check()
            text = f"All {done.checked} rules of stock hold in {done.cells} cells.\n" + ", ".join(
                f"{pieces} {name}" for name, pieces in done.totals.items()
            )
            self._print_findings(done.findings, checked=done.checked, text=text, cells=done.cells, totals=done.totals)
            return
        with progress(doing="Checking", total=invariant_checker.invariant_count(), unit="rules") as advance:
            found = invariant_checker.check(advance=advance)
        checked = invariant_checker.invariant_count()
        self._print_findings(found, checked=checked, text=f"All {checked} rules hold.", record=True)

    def _print_findings(
        self, found: list[invariant_checker.Finding], *, checked: int, text: str, record: bool = False, **data: Any
    ) -> None:
        """Print the findings, or `text` without any.

        :param record: also record them on the work list.
        """
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
        self.print_result(text=_report(found) if found else text, checked=checked, findings=findings, **data)
        if record:
            self._record(findings)
        if found:
            raise CommandError(f"{len({finding.invariant.slug for finding in found})} of {checked} rules are broken.")

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
