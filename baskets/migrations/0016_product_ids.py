"""Listed products have an id that every call can name. See ADR 34."""

from django.db import migrations, models
from django.db.models import Q

# As Note [Product ids] in `models/products.py` explains it; written out, because a migration does not change later.
INSIDE = (
    r"\u0001-\u001f/\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    r"\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
AT_THE_ENDS = INSIDE + r" \u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"
PATTERN = f"^[^{AT_THE_ENDS}]([^{INSIDE}]*[^{AT_THE_ENDS}])?$"


class Migration(migrations.Migration):
    dependencies = [("baskets", "0015_stock_reports")]

    operations = [
        # No call can name these, so none can be sold. Their history stays.
        migrations.RunSQL(
            sql=[("UPDATE baskets_product SET listed = false, updated_at = statement_timestamp() WHERE listed AND product_id !~ %s", [PATTERN])],
            reverse_sql=migrations.RunSQL.noop,
        ),
        migrations.AddConstraint(
            model_name="product",
            constraint=models.CheckConstraint(name="listed_product_id_is_valid", condition=Q(listed=False) | Q(product_id__regex=PATTERN)),
        ),
    ]
