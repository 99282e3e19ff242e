"""Adds the issuers whose tokens a partner trusts."""

import django.contrib.postgres.fields
import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('baskets', '0008_feed_and_lists'),
    ]

    operations = [
        migrations.CreateModel(
            name='TokenIssuer',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(db_collation='C', help_text='What it is called here.', max_length=100)),
                ('issuer', models.CharField(blank=True, help_text='What `iss` must be. Empty: anything.', max_length=255)),
                ('audience', models.CharField(blank=True, help_text='What `aud` must be or contain. Empty: anything.', max_length=255)),
                ('algorithms', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=5), size=None)),
                ('keys', models.JSONField(help_text='A JSON Web Key Set.', null=True)),
                ('keys_url', models.CharField(blank=True, help_text='Where the issuer publishes its key set.', max_length=2000)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('created_by', models.CharField(editable=False, help_text='Staff name or command.', max_length=150)),
                ('partner', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='issuers', to='baskets.partner')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('partner', 'name'), name='one_issuer_per_partner_and_name'), models.CheckConstraint(condition=models.Q(models.Q(('keys__isnull', False), ('keys_url', '')), models.Q(('keys__isnull', True), models.Q(('keys_url', ''), _negated=True)), _connector='OR'), name='issuer_has_keys_or_their_address'), models.CheckConstraint(condition=models.Q(('algorithms__contained_by', ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA']), ('algorithms__len__gt', 0)), name='issuer_signs_with_known_algorithms')],
            },
        ),
    ]
