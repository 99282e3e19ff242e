"""The one spelling of a row lock through Django's ORM. Statements of the hot path lock in their own SQL, in the same mode."""

from typing import Self, TypeVar

from django.db import models

M = TypeVar("M", bound=models.Model)


class LockableQuerySet(models.QuerySet[M]):
    """A queryset whose rows can be locked."""

    def locked(self, *, skip_locked: bool = False) -> Self:
        """Lock the rows, in the order that all writers use. Evaluate the queryset before deciding or writing anything.

        `FOR NO KEY UPDATE`: inserts that reference the rows do not wait. Rows that are joined are not locked.

        :param skip_locked: omit rows that another transaction has locked; for sweeps only.
        """
        return self.order_by("pk").select_for_update(of=("self",), no_key=True, skip_locked=skip_locked)
