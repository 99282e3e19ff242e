"""Adds the indexes of the search in the admin: products by word, and user ids whatever their case."""

from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.search import SearchVectorField
from django.db import migrations, models
from django.db.models.functions import Lower

from baskets.db.operations import AddIndexConcurrently

# As Note [Words of a search] in `models/words.py` explains it; written out, because a migration does not change later.
WORDS = (
    "to_tsvector('simple'::regconfig, regexp_replace(replace(translate(regexp_replace("
    r"""normalize((%(expressions)s) COLLATE "C", NFKD), '[\u0300-\u036f]', '', 'g'), '"""
    "\u00d8\u00f8\u0141\u0142\u0110\u0111\u0131\u1e9e', 'OoLlDdi\u00df'), '\u00df', 'ss'),"
    r" '[\u0001-\u002f\u003a-\u0040\u005b-\u0060\u007b-\u00a9\u00ab-\u00b4\u00b6-\u00b9\u00bb-\u00bf\u00d7\u00f7"
    r"\u2000-\u206f\u2e00-\u2e7f\u3000-\u303f]+', ' ', 'g'))"
)
# Building an index on a large table takes longer than the service allows any statement.
UNLIMITED, LIMITED = "SET statement_timeout = 0", "RESET statement_timeout"


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("baskets", "0025_activity")]

    operations = [
        migrations.RunSQL(UNLIMITED, LIMITED),
        AddIndexConcurrently(
            model_name="basket",
            index=models.Index(Lower("user_id"), condition=~models.Q(user_id=Lower("user_id")), name="baskets_by_folded_user"),
        ),
        AddIndexConcurrently(
            model_name="product",
            index=GinIndex(
                models.Func(
                    *("name", "brand", "variant", "product_id"),
                    arg_joiner=" || ' ' || ",
                    output_field=SearchVectorField(),
                    template=WORDS,
                ),
                name="products_by_word",
            ),
        ),
        migrations.RunSQL(LIMITED, UNLIMITED),
    ]
