"""Adds the sandbox of a partner."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('baskets', '0034_names_of_records'),
    ]

    operations = [
        migrations.AddField(
            model_name='partner',
            name='sandbox_of',
            field=models.OneToOneField(editable=False, help_text='The partner whose sandbox this is; empty: this partner sells.', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='sandbox', to='baskets.partner'),
        ),
        migrations.AddConstraint(
            model_name='partner',
            constraint=models.CheckConstraint(condition=models.Q(('sandbox_of__isnull', True), models.Q(('sandbox_of', models.F('id')), _negated=True), _connector='OR'), name='sandbox_is_another_partner'),
        ),
    ]
