"""Former names of commands: they work for one release and print a notice on standard error."""

import pytest

from tests.commands.conftest import Run

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(("old", "new"), [("rehearse", "load_test"), ("trust_issuer", "add_issuer"), ("distrust_issuer", "remove_issuer")])
def test_former_name_is_the_same_command(run: Run, old: str, new: str) -> None:
    help_text = run(old, "--help").out
    assert f"former name of `{new}`" in " ".join(help_text.split())
    options = {word for word in run(new, "--help").out.split() if word.startswith("--")}
    assert options <= set(help_text.split())


def test_former_name_prints_a_notice_and_leaves_the_result_alone(run: Run) -> None:
    old, new = (run(name, "acme", "login", "--json") for name in ("distrust_issuer", "remove_issuer"))
    notice = "`distrust_issuer` is deprecated and will be removed in the next release: use `remove_issuer`.\n"
    assert (old.code, old.out) == (new.code, new.out) == (1, "")
    assert old.err == notice + new.err
