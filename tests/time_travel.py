"""Lets time pass by moving what is stored into the past. No clock is touched: the service reads the clock of the database."""

import time
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.apps import apps
from django.db import connection, models
from django.db.models import F

from baskets.models import Basket, CheckoutSession, Stock, StockAdjustment, StockReservation


def await_full_period(*, seconds: float, left: float) -> None:
    """Wait, if a period of the database's clock ends soon: a test that reads the clock several times needs the same period.

    :param seconds: the length of the periods, which begin with the hour.
    :param left: what the test needs.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT %(seconds)s - extract(epoch FROM clock_timestamp())::numeric %% %(seconds)s", {"seconds": seconds})
        rest = float(cursor.fetchone()[0])
    if rest < left:
        time.sleep(rest + 0.1)


def age_rows(by: timedelta, *querysets: "models.QuerySet[Any]") -> None:
    """Move every timestamp of some rows into the past."""
    for rows in querysets:
        names = [field.name for field in rows.model._meta.local_concrete_fields if isinstance(field, models.DateTimeField)]
        if names:
            rows.update(**{name: F(name) - by for name in names})


def age_all_rows(by: timedelta) -> None:
    """Let time pass for everything that the service stores."""
    age_rows(by, *(model._base_manager.all() for model in apps.get_app_config("baskets").get_models()))


def age_basket(basket_id: UUID, by: timedelta) -> None:
    """Let time pass for one basket: its checkouts, its holds, and the stock reports of the products that it has bought."""
    bought = Stock.objects.filter(product__reservations__basket_id=basket_id, product__reservations__status="SOLD")
    Stock.objects.filter(pk__in=bought).update(reported_as_of=F("reported_as_of") - by)
    StockAdjustment.objects.filter(product__in=bought).update(as_of=F("as_of") - by)
    age_rows(
        by,
        Basket.objects.filter(pk=basket_id),
        CheckoutSession.objects.filter(basket_id=basket_id),
        StockReservation.objects.filter(basket_id=basket_id),
    )
