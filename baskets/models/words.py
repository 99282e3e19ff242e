"""Finds rows by words: PostgreSQL's text search, with one definition of a word for the index and for what is searched."""

import re
import unicodedata
from typing import Any, TypeVar

from django.contrib.postgres.search import SearchQuery, SearchVectorField
from django.db.models import Func, QuerySet

Rows = TypeVar("Rows", bound="QuerySet[Any]")

# Note [Words of a search]
# Staff search products and the journal by words. A word is what stands between blanks and punctuation, without accents: the
# same in the index, by PostgreSQL, and of a search, by Python. PostgreSQL removes the case of both, by the locale of the
# database. `simple` knows no language: no word is dropped or shortened.
# Extensions such as pg_trgm would find the middle of a word as well, but not every server has them. See ADR 46.
ACCENTS = r"[\u0300-\u036f]"
BETWEEN_WORDS = (
    r"[\u0001-\u002f\u003a-\u0040\u005b-\u0060\u007b-\u00a9\u00ab-\u00b4\u00b6-\u00b9\u00bb-\u00bf\u00d7\u00f7"
    r"\u2000-\u206f\u2e00-\u2e7f\u3000-\u303f]+"
)
# Letters that do not decompose into a letter and an accent.
LETTERS, PLAIN_LETTERS = "\u00d8\u00f8\u0141\u0142\u0110\u0111\u0131\u1e9e", "OoLlDdi\u00df"
SHARP_S = "\u00df"
# Of a shorter word, the whole is searched for: too many words begin with one letter.
MIN_PREFIX_LENGTH = 2


def split_words(text: str) -> list[str]:
    """Split a text into the words that a search compares, in the case they have. See Note [Words of a search].

    >>> split_words("Caf\u00e9-T\u00fcr, GROSS")
    ['Cafe', 'Tur', 'GROSS']
    """
    plain = re.sub(ACCENTS, "", unicodedata.normalize("NFKD", text)).translate(str.maketrans(LETTERS, PLAIN_LETTERS))
    return re.sub(BETWEEN_WORDS, " ", plain.replace(SHARP_S, "ss").replace("\x00", " ")).split()


def words_of(*fields: str) -> Func:
    """Build the expression of the words in some fields of a model, for an index and for `having_words`."""
    return Func(
        *fields,
        arg_joiner=" || ' ' || ",
        template=(
            "to_tsvector('simple'::regconfig, regexp_replace(replace(translate(regexp_replace("
            f"normalize((%(expressions)s) COLLATE \"C\", NFKD), '{ACCENTS}', '', 'g'), '{LETTERS}', '{PLAIN_LETTERS}'), '{SHARP_S}', 'ss'),"
            f" '{BETWEEN_WORDS}', ' ', 'g'))"
        ),
        output_field=SearchVectorField(),
    )


def having_words(rows: Rows, words: Func, text: str) -> Rows:
    """Choose the rows that have every word of a text, or a word that begins like it.

    Accents and case do not count. A text without a word matches no row.

    :param words: the indexed expression, by `words_of`.
    """
    wanted = split_words(text)
    if not wanted:
        return rows.none()
    query = " & ".join(f"'{word}'{':*' if len(word) >= MIN_PREFIX_LENGTH else ''}" for word in wanted)
    return rows.alias(words=words).filter(words=SearchQuery(query, config="simple", search_type="raw"))
