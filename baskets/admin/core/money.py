"""Writes amounts of money. They are stored in minor units; how many make one major unit is a property of the currency."""

from decimal import Decimal

from babel import Locale, UnknownLocaleError
from babel.numbers import format_currency, get_currency_precision
from django.utils.translation import get_language

# The amount as the locale groups it, then the code: a symbol such as "$" names several currencies.
PATTERN = "#,##0.00\N{NO-BREAK SPACE}¤¤"


def major_units(minor_units: int, currency: str) -> Decimal:
    """Convert an amount to major units, with the decimals of the currency: EUR has two, JPY none, KWD three.

    Source: ISO 4217, as in the Unicode CLDR.
    """
    return Decimal(minor_units).scaleb(-get_currency_precision(currency))


def format_amount(minor_units: int, currency: str) -> str:
    """Write an amount in the language of the page: `format_amount(290000, "EUR")` is `2,900.00 EUR` in English."""
    return format_currency(major_units(minor_units, currency), currency, format=PATTERN, locale=_locale())


def format_plain_amount(minor_units: int, currency: str) -> str:
    """Write an amount for a file, alike in every language: `format_plain_amount(290000, "EUR")` is `2900.00 EUR`."""
    return f"{major_units(minor_units, currency):f} {currency}"


def _locale() -> Locale:
    try:
        return Locale.parse(get_language() or "en", sep="-")
    except (UnknownLocaleError, ValueError):
        return Locale("en")
