"""The field of a limit: a number, the default of the service, or no limit. A 0 would be read as "nothing", so it does not lift one."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext


class LimitWidget(forms.MultiWidget):
    """A number, and a box beside it."""

    use_fieldset = False

    def __init__(self) -> None:
        super().__init__({"": forms.NumberInput(), "lifted": forms.CheckboxInput()})

    def decompress(self, value: int | None) -> list[Any]:
        """Split a stored limit: 0 stands for none."""
        return [value or None, value == 0]

    def render(self, name: str, value: Any, attrs: dict[str, Any] | None = None, renderer: Any = None) -> SafeString:
        """Render the number, the box and its label."""
        both = super().render(name, value, attrs, renderer)
        return format_html('{} <label class="beside" for="{}_1">{}</label>', both, (attrs or {}).get("id", ""), gettext("no limit"))

    def id_for_label(self, id_: str) -> str:
        """Return the id of the number: the label of the field names it."""
        return f"{id_}_0" if id_ else id_


class LimitField(forms.MultiValueField):
    """A limit as the domain takes it: a number from 1, 0 for no limit, None for the default of the service."""

    widget = LimitWidget

    def __init__(self, *, max_value: int, **options: Any) -> None:
        numbers = forms.IntegerField(required=False, min_value=1, max_value=max_value)
        super().__init__((numbers, forms.BooleanField(required=False)), required=False, require_all_fields=False, **options)
        self.widget.widgets[0].attrs |= numbers.widget_attrs(numbers.widget)

    def compress(self, data_list: list[Any]) -> int | None:
        """Join the number and the box.

        :raises ValidationError: there is a number beside "no limit".
        """
        number, is_lifted = data_list or (None, False)
        if is_lifted and number is not None:
            raise ValidationError(gettext("Enter a number, or choose no limit; one of the two."))
        return 0 if is_lifted else number
