"""Numbers, names and ids that an answer must hold, found however they were said or written.

A text is looked at in several *views*, each a list of tokens; an entity is found where some neighbouring tokens of one
view, joined without blanks, are the entity in one of its own forms. So "four two one", "4 2 1" and "421" are the same,
as are "twenty third" and "23rd", "3rd of March" and "March 3", "W. I. L. S. O. N." and "Wilson", and, for ids, "alpha
bravo dash seven" and "AB-7".
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .normalize import Normalizer

__all__ = ["Entity", "find_entities", "parse_entities"]

_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_FIGURES = {word: str(digit) for digit, word in enumerate(_DIGITS)}

# ICAO spelling alphabet, with the spellings that are in use beside the official ones.
_ALPHABET = """
    alpha alfa bravo charlie delta echo foxtrot golf hotel india juliet juliett kilo lima mike november oscar papa
    quebec romeo sierra tango uniform victor whiskey whisky xray yankee zulu
"""
_LETTERS = {word: word[0] for word in _ALPHABET.split()} | {"niner": "9"}

_SEPARATORS = frozenset({"dash", "hyphen", "slash", "dot", "point", "underscore"})
_LEADING_ZERO = re.compile(r"(?<![\d.,])0\d+(?![\d.,]*\d)")
_ORDINAL = re.compile(r"(\d+)(?:st|nd|rd|th)")
# In the alphabet of folded words, whose o is a nought.
_WITH_WORD = re.compile(r"\b([a-z0]) (?:as in|f0r|like) \1[a-z0]+\b")
_X_RAY = re.compile(r"\bx[ -]ray\b")
_MARKS = "$€£¥%"
_WORD = re.compile(rf"[{_MARKS}]?(?:\d+\.\d+|[^\W_]+)%?")

_YEAR = "january february march april may june july august september october november december"
_MONTHS = _YEAR.split()
_ISO_DATE = re.compile(r"\b(\d{4})-(0[1-9]|1[0-2])-(\d\d)\b")

View = Sequence[str]


@dataclass(frozen=True, slots=True)
class Entity:
    """One thing that an answer must hold.

    Attributes:
        value: as the dataset writes it.
        aliases: other forms of the same thing; one of all is enough.
        type: ``id`` for what may be spelled out with a spelling alphabet; any other word only groups. A value with
            letters and digits in it is an id whatever it is called.
    """

    value: str
    aliases: tuple[str, ...] = ()
    type: str | None = None

    @property
    def is_id(self) -> bool:
        """Whether words of a spelling alphabet may stand for its letters."""
        texts = (self.value, *self.aliases)
        mixed = any(re.search(r"\d", text) and re.search(r"[^\W\d_]", text) for text in texts)
        return self.type == "id" or (self.type is None and mixed)


def parse_entities(expected: Any) -> list[Entity]:
    """Read an item's ``expect.entities``: texts, or mappings ``{value, type, aliases}``; what is neither is skipped."""
    found = []
    for entry in expected if isinstance(expected, list | tuple) else [expected]:
        if isinstance(entry, str) and entry.strip():
            found.append(Entity(entry))
        elif isinstance(entry, Mapping) and isinstance(entry.get("value"), str) and entry["value"].strip():
            aliases = entry.get("aliases") or ()
            aliases = (aliases,) if isinstance(aliases, str) else aliases
            kind = entry.get("type")
            found.append(Entity(entry["value"], tuple(map(str, aliases)), kind if isinstance(kind, str) else None))
    return found


def find_entities(entities: Sequence[Entity], text: str, normalise: Normalizer) -> list[bool]:
    """Say of each entity whether the text holds it.

    Args:
        entities: what is looked for.
        text: an answer.
        normalise: brings number words and figures together where it knows the language (Whisper's English one does).
    """
    said = _views(text, normalise)
    spelled = [_spelled(view) for view in said]
    return [
        any(
            _holds(view, form)
            for value in (entity.value, *entity.aliases)
            for view, form in _pairs(entity, value, said, spelled, normalise)
        )
        for entity in entities
    ]


def _pairs(
    entity: Entity, value: str, said: Sequence[View], spelled: Sequence[View], normalise: Normalizer
) -> Iterator[tuple[View, str]]:
    """Every view of the text with every form of the value that may stand in it."""
    own = _views(value, normalise)
    forms = {"".join(view) for view in own}
    # "$5" asks for the mark; "5" takes what has one, too.
    bare = [[token.strip(_MARKS) or token for token in view] for view in said]
    yield from ((view, form) for view in (*said, *bare) for form in forms if form)
    if entity.is_id:
        forms |= {"".join(_spelled(view)) for view in own}
        yield from ((view, form) for view in spelled for form in forms if form)


def _views(text: str, normalise: Normalizer) -> list[View]:
    """The text as it was said, and with its dates in one order, where there are any."""
    said = _tokenised(text, normalise)
    in_words = _ISO_DATE.sub(lambda date: f"{int(date[3])} {_MONTHS[int(date[2]) - 1]} {date[1]}", text)
    return said + [view for view in map(_dated, _tokenised(in_words, normalise)) if view not in said]


def _tokenised(text: str, normalise: Normalizer) -> list[View]:
    """The tokens after the normaliser, and those of the text as it stands: each loses what the other keeps.

    Whisper's English normaliser joins number words to figures, and takes away leading zeros and what is in brackets.
    """
    words = _LEADING_ZERO.sub(lambda match: " ".join(_DIGITS[int(digit)] for digit in match[0]), text)
    plain = "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))
    return [_tokens(normalise(words).casefold().split()), _tokens(_WORD.findall(plain))]


def _tokens(words: Sequence[str]) -> View:
    return [_folded(word) for word in words if _folded(word)]


def _folded(word: str) -> str:
    """A word with what sounds alike made alike: "one" and 1, "23rd" and 23, the letter o and nought."""
    word = _FIGURES.get(word, word)
    ordinal = _ORDINAL.fullmatch(word)
    # Nobody can hear an O from a nought, and the normaliser makes a lone letter o a nought itself.
    return (ordinal[1] if ordinal else word).replace("o", "0")


_SPELLING = {_folded(word): _folded(letter) for word, letter in _LETTERS.items()}
_SILENT = frozenset(map(_folded, _SEPARATORS))


def _spelled(view: View) -> View:
    """The view with spelling alphabets undone: "alpha bravo dash 7" and "A as in apple, B for boy, 7" are "a b 7"."""
    text = _WITH_WORD.sub(r"\1", _X_RAY.sub("xray", " ".join(view)))
    return [_SPELLING.get(word, word) for word in text.split() if word not in _SILENT]


_MONTH_OF = {_folded(name): _folded(month) for month in _MONTHS for name in (month, month[:3])} | {"sept": "september"}
_MONTH = "|".join(sorted(_MONTH_OF, key=len, reverse=True))
_DATE = re.compile(rf"\b(?:(\d\d?) (?:0f )?({_MONTH})|({_MONTH}) (?:the )?(\d\d?))\b")


def _dated(view: View) -> View:
    """The view with the day before its month: "3rd of March", "March the 3rd" and "Mar 3" are "3 march"."""
    return _DATE.sub(lambda date: f"{date[1] or date[4]} {_MONTH_OF[date[2] or date[3]]}", " ".join(view)).split()


def _holds(view: View, form: str) -> bool:
    """Whether neighbouring tokens join to the form; figures that go on are another number."""
    for start in range(len(view)):
        joined = ""
        for end in range(start, len(view)):
            joined += view[end]
            if not form.startswith(joined):
                break
            if joined == form:
                if _is_whole(view, start, end):
                    return True
                break
    return False


def _is_whole(view: View, start: int, end: int) -> bool:
    """Whether the tokens from start to end are not a part of a longer number said figure by figure."""
    span = view[start : end + 1]
    if not all(token.isdigit() for token in span):
        return True
    around = [view[at] for at in (start - 1, end + 1) if 0 <= at < len(view)]
    if len(span) == 1 and len(span[0]) > 1:
        return True
    if len(span) == 1:
        return not any(token.isdigit() and len(token) == 1 for token in around)
    return not any(token.isdigit() for token in around)
