"""Records for staff that belong to no basket: broken rules that a check has found, and the audit log."""

from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _
from django.utils.translation import gettext_noop

from baskets.models.words import having_words, words_of

# The kinds of entries about the access of staff; the other kinds are about their work.
ACCESS_KINDS = (
    *("signed_in", "sign_in_failed", "refused", "rights_changed"),
    *("password_changed", "second_factor", "sessions_ended"),
)
# The kinds of entries about changes of partners, their keys, issuers and webhooks, and about repairs and maintenance.
CHANGE_KINDS = ("created", "changed", "removed", "revoked", "repaired", "tested", "imported", "purged", "maintained", "taken_out")


class BrokenRule(models.Model):
    """One rule that `check_baskets` has found broken, with its last findings and whether staff settled it.

    A run that finds the rule broken opens it again; a run that does not sets `gone_at`.
    """

    slug = models.CharField(verbose_name=_("slug"), max_length=100, primary_key=True, db_collation="C")
    rule = models.PositiveSmallIntegerField(verbose_name=_("rule"), help_text="Its number among the rules that are never broken.")
    sentence = models.TextField(verbose_name=_("sentence"))
    total = models.BigIntegerField(verbose_name=_("total"), help_text="How many rows broke it, when it was looked at last.")
    examples = models.JSONField(default=list)
    found_at = models.DateTimeField()
    seen_at = models.DateTimeField(help_text="When it was found broken last.")
    gone_at = models.DateTimeField(null=True, help_text="When a check found it whole again.")
    settled_at = models.DateTimeField(null=True)
    settled_by = models.CharField(verbose_name=_("settled by"), max_length=200, blank=True)
    note = models.TextField(verbose_name=_("note"), blank=True)

    class Meta:
        verbose_name = _("broken rule")
        verbose_name_plural = _("broken rules")
        permissions = [("repair_settle_rule", gettext_noop("Can resolve a broken rule"))]
        constraints = [
            models.CheckConstraint(name="broken_rule_has_rows", condition=Q(total__gt=0)),
            models.CheckConstraint(
                name="settled_rule_names_who",
                condition=Q(settled_at__isnull=True, settled_by="") | (Q(settled_at__isnull=False) & ~Q(settled_by="")),
            ),
        ]

    def __str__(self) -> str:
        return self.slug


ENTRY_WORDS = words_of("note")


class DeskEntryQuerySet(models.QuerySet["DeskEntry"]):
    """Named queries for entries of the audit log."""

    def with_words(self, text: str) -> "DeskEntryQuerySet":
        """Entries whose reason or note has every word of a text, or a word that begins like it."""
        return having_words(self, ENTRY_WORDS, text)


class DeskEntry(models.Model):
    """One entry of the audit log. Never edited. Stores the name of the account and does not reference it.

    `number` counts the entries about one subject, so that only one of two concurrent actions on the same page succeeds; it
    is null where no order is needed.
    """

    class Kind(models.TextChoices):
        """What was done."""

        TAKEN = "taken", _("taken")
        HANDED_BACK = "handed_back", _("handed back")
        SETTLED = "settled", _("settled")
        EXPORTED = "exported", _("exported")
        CHECKED = "checked", _("rules checked")
        SIGNED_IN = "signed_in", _("signed in")
        SIGN_IN_FAILED = "sign_in_failed", _("sign-in failed")
        REFUSED = "refused", _("page refused")
        RIGHTS_CHANGED = "rights_changed", _("rights changed")
        PASSWORD_CHANGED = "password_changed", _("password changed")
        SECOND_FACTOR = "second_factor", _("second factor")
        SESSIONS_ENDED = "sessions_ended", _("sessions ended")
        CREATED = "created", _("created")
        CHANGED = "changed", _("changed")
        REMOVED = "removed", _("removed")
        REVOKED = "revoked", _("revoked")
        REPAIRED = "repaired", _("repaired")
        TESTED = "tested", _("test event sent")
        IMPORTED = "imported", _("imported")
        PURGED = "purged", _("purged")
        MAINTAINED = "maintained", _("maintenance run")
        TAKEN_OUT = "taken_out", _("user's data exported")

    kind = models.CharField(max_length=20, choices=Kind)
    about = models.CharField(
        max_length=50, help_text="The kind of record, by the name of its model; account or role; or the list that was exported."
    )
    subject = models.CharField(max_length=255, blank=True, db_collation="C")
    number = models.PositiveIntegerField(null=True)
    partner = models.ForeignKey("Partner", on_delete=models.PROTECT, null=True, related_name="+", db_index=False)
    at = models.DateTimeField()
    actor_kind = models.CharField(max_length=10, help_text="staff, system or key")
    actor = models.CharField(max_length=200, help_text="Staff name, command or key prefix, as it was called then.")
    request_id = models.CharField(verbose_name=_("request id"), max_length=200, blank=True)
    note = models.TextField(blank=True)
    data = models.JSONField(default=dict)

    objects = DeskEntryQuerySet.as_manager()

    class Meta:
        verbose_name = _("journal entry")
        verbose_name_plural = _("journal entries")
        permissions = [("export_list", gettext_noop("Can export what a list shows"))]
        indexes = [
            models.Index(fields=["kind", "-id"], name="journal_by_kind"),
            models.Index(fields=["actor", "-id"], name="journal_by_actor"),
            models.Index(fields=["partner", "-id"], name="journal_by_partner", condition=Q(partner__isnull=False)),
            models.Index(fields=["at"], name="journal_by_time"),
            models.Index(fields=["subject", "-id"], name="journal_by_subject"),
            GinIndex(ENTRY_WORDS, name="journal_by_word"),
        ]
        constraints = [
            models.UniqueConstraint(name="one_entry_per_subject_and_number", fields=["about", "subject", "number"]),
            models.CheckConstraint(
                name="entry_kind_is_known",
                condition=Q(kind__in=["taken", "handed_back", "settled", "exported", "checked", *ACCESS_KINDS, *CHANGE_KINDS]),
            ),
            models.CheckConstraint(name="entry_names_who", condition=~Q(actor="") & Q(actor_kind__in=["staff", "system", "key"])),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.about} {self.subject} (#{self.pk})"
