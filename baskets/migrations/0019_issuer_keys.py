"""Keeps the keys that issuers publish with the issuer, and the lease of the worker that fetches them."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('baskets', '0018_opaque_positions'),
    ]

    operations = [
        migrations.AddField(
            model_name='tokenissuer',
            name='fetch_lease',
            field=models.UUIDField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name='tokenissuer',
            name='fetch_problem',
            field=models.CharField(blank=True, db_default='', editable=False, help_text='Why the last fetch failed.', max_length=500),
        ),
        migrations.AddField(
            model_name='tokenissuer',
            name='fetched_at',
            field=models.DateTimeField(editable=False, help_text='When that set was fetched.', null=True),
        ),
        migrations.AddField(
            model_name='tokenissuer',
            name='fetched_keys',
            field=models.JSONField(editable=False, help_text='The usable keys of the last set that had any.', null=True),
        ),
        migrations.AddField(
            model_name='tokenissuer',
            name='next_fetch_at',
            field=models.DateTimeField(editable=False, help_text='No fetch before; while one runs: when its lease ends.', null=True),
        ),
        migrations.AddConstraint(
            model_name='tokenissuer',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('fetched_at__isnull', True), ('fetched_keys__isnull', True)), models.Q(('fetched_at__isnull', False), ('fetched_keys__isnull', False), models.Q(('keys_url', ''), _negated=True)), _connector='OR'), name='fetched_keys_have_their_time_and_their_address'),
        ),
    ]
