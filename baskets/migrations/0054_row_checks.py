"""Holds the checks of the tables that nearly every call writes to by a domain for each table, and lists words as lists again. See ADR 70."""

from importlib import import_module

from django.db import migrations
from django.db.models import F, Q
from django.db.models.lookups import Exact, IsNull

from baskets.db.constraints import RowCheck
from baskets.db.operations import UseRowChecks

hot_path = import_module("baskets.migrations.0040_hot_path")
UNLIMITED, LIMITED = hot_path.UNLIMITED, hot_path.LIMITED


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("baskets", "0053_short_checks")]

    operations = [
        migrations.RunSQL(UNLIMITED, LIMITED),
        UseRowChecks("basket"),
        UseRowChecks("basketitem", rewritten=[RowCheck(name="item_list_is_known", condition=Q(list__in=["cart", "saved"]))]),
        UseRowChecks(
            "checkoutsession",
            rewritten=[
                RowCheck(
                    name="session_released_if_aborted_expired_or_late",
                    condition=Q(status="ORDERED") & Q(Exact(IsNull(F("released_at"), False), F("late")))
                    | Q(status__in=["ACTIVE", "ABORTED", "EXPIRED"], late=False)
                    & Q(Exact(IsNull(F("released_at"), True), IsNull(F("finished_at"), True))),
                )
            ],
        ),
        UseRowChecks("checkoutitem"),
        UseRowChecks(
            "stockreservation",
            rewritten=[
                RowCheck(name="reservation_status_is_known", condition=Q(status__in=["HELD", "SOLD", "RELEASED", "FAILED", "SHORT"]))
            ],
        ),
        UseRowChecks("stock"),
        UseRowChecks("event", rewritten=[RowCheck(name="actor_kind_is_known", condition=Q(actor_kind__in=["key", "staff", "system"]))]),
        migrations.RunSQL(LIMITED, UNLIMITED),
    ]
