"""Lints the SQL of new migrations with squawk: `python3 .ci/migrations.py DATA_FOLDER`. See `baskets/docs/deployment.md`, "Migrations".

A migration runs while the release before serves, so it must neither break that release nor hold a lock for long. What Python code in
a migration does is not seen.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
SQUAWK = PROJECT / ".venv" / "bin" / "squawk"
# The latest migration that is accepted unchanged, with all before it: no release is older.
ACCEPTED = "0042_room_for_counters"
# The oldest series that the service supports.
POSTGRESQL = "15"
# Rules that do not apply to any migration, with the reason.
EXCLUDED = {
    "require-lock-timeout": "Each session of the service has one.",
    "require-statement-timeout": "`migrate` lifts it: a large table takes its time.",
    "prefer-robust-stmts": "Django records what ran; operations that are not atomic can be run again (`baskets.db.operations`).",
    "prefer-text-field": "A longer `varchar` changes the catalog only.",
    "prefer-bigint-over-int": "Constraints limit quantities and prices to less.",
}
# Exceptions: a migration and a rule, with the reason. One that is no longer needed fails.
ALLOWED: dict[tuple[str, str], str] = {
    ("0045_share_of_partner", "constraint-missing-not-valid"): "There are few partners, and no value is set yet.",
    ("0051_moving_batches", "prefer-bigint-over-smallint"): "It is the number of a cell, at most 64.",
    ("0053_short_checks", "ban-drop-constraint"): "The same statement adds one with the same meaning.",
    ("0054_row_checks", "ban-drop-constraint"): "A domain has one with the same meaning, and the rows are validated.",
}
# Rules that do not apply to the SQL of a row check (ADR 70): the domain is made again in the transaction that drops it, and no column
# has its type.
OF_ROW_CHECKS = {"ban-drop-constraint", "ban-drop-domain", "ban-create-domain-with-constraint"}
ROW_CHECK = re.compile(r"_row\b|_row_is_valid\b")
# SQL as Django writes it, and what must be found in it: a linter that finds nothing looks like clean migrations.
SAMPLE = """BEGIN;
ALTER TABLE "t" ADD COLUMN "required" integer NOT NULL;
ALTER TABLE "t" ADD COLUMN "filled" integer DEFAULT 5 NOT NULL;
ALTER TABLE "t" ALTER COLUMN "filled" DROP DEFAULT;
ALTER TABLE "t" ADD CONSTRAINT "positive" CHECK ("filled" > 0);
ALTER TABLE "t" RENAME COLUMN "a" TO "b";
ALTER TABLE "t" DROP COLUMN "c" CASCADE;
CREATE INDEX "locking" ON "t" ("filled");
COMMIT;
"""
SAMPLE_RULES = {
    "adding-required-field",
    "ban-drop-column",
    "ban-drop-default",
    "constraint-missing-not-valid",
    "renaming-column",
    "require-concurrent-index-creation",
}


def main(data: Path) -> None:
    """Lint each migration after the accepted ones; an exit code of 1 names what is wrong."""
    if (rules := {finding["rule_name"] for finding in lint("sample", SAMPLE)}) != SAMPLE_RULES:
        sys.exit(f"squawk finds {sorted(rules)} in the sample, not {sorted(SAMPLE_RULES)}.")
    names = [path.stem for path in sorted((PROJECT / "baskets" / "migrations").glob("0*.py")) if path.stem > ACCEPTED]
    problems, unused = [], set(ALLOWED)
    for name in names:
        for finding in lint(name, sql := sql_of(name, data)):
            if is_of_row_check(finding, sql):
                continue
            if (name, finding["rule_name"]) in ALLOWED:
                unused.discard((name, finding["rule_name"]))
            else:
                problems.append(f"{name}: {finding['rule_name']}: {finding['message']} {finding['help'] or ''}")
    problems += [f"{name}: the exception from {rule} is not needed." for name, rule in sorted(unused)]
    if problems:
        sys.exit("\n".join(problems))
    sys.stdout.write(f"Migrations after {ACCEPTED}: {len(names)}, without findings.\n")


def sql_of(name: str, data: Path) -> str:
    """Return what the migration runs. Django reads names of constraints from a database, so it needs one."""
    command = [sys.executable, "-m", "basket_project", "manage", "--data-dir", str(data), "sqlmigrate", "baskets", name]
    return subprocess.run(command, cwd=PROJECT, check=True, stdout=subprocess.PIPE, text=True).stdout


def is_of_row_check(finding: dict[str, Any], sql: str) -> bool:
    """Return whether a finding is about the domain of a row check, or the CHECK that casts to it."""
    found = "\n".join(sql.splitlines()[finding["line"] : finding["line_end"] + 1])
    return finding["rule_name"] in OF_ROW_CHECKS and ROW_CHECK.search(found) is not None


def lint(name: str, sql: str) -> list[dict[str, Any]]:
    """Return squawk's findings, each with `rule_name`, `message`, `help`, and the lines from `line` to `line_end`, counted from 0."""
    command = [SQUAWK, "--reporter", "json", "--pg-version", POSTGRESQL, "--exclude", ",".join(EXCLUDED), "--stdin-filepath", f"{name}.sql"]
    process = subprocess.run(command, check=False, input=sql, stdout=subprocess.PIPE, text=True)
    findings: list[dict[str, Any]] = json.loads(process.stdout)
    return findings


if __name__ == "__main__":
    main(Path(sys.argv[1]))
