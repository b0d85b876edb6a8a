from __future__ import annotations

from typing import Any

import pytest

from rteval.scoring.entities import Entity, find_entities, parse_entities
from rteval.scoring.normalize import normalizer

ENGLISH = normalizer("whisper_english")

FOUND = [
    pytest.param("421", "Your number is four two one.", id="figures said one by one"),
    pytest.param("421", "Your number is 4 2 1.", id="figures written one by one"),
    pytest.param("421", "Your number is 4-2-1.", id="figures with dashes"),
    pytest.param("four two one", "Your number is 421.", id="expected in words"),
    pytest.param("23rd", "It ends on the twenty third of March.", id="ordinal in words"),
    pytest.param("twenty third", "It ends on March 23.", id="ordinal without its ending"),
    pytest.param("00421", "It is zero zero four two one.", id="leading zeros said"),
    pytest.param("double oh seven", "It is 007.", id="double"),
    pytest.param("1200", "That is 1,200 in all.", id="separator of thousands"),
    pytest.param("1,200", "That is one thousand two hundred.", id="thousands in words"),
    pytest.param("12.50", "It costs twelve dollars and fifty cents.", id="sum of money without its sign"),
    pytest.param("$12.50", "It costs $12.50.", id="sum of money"),
    pytest.param("800 555 1234", "Call (800) 555-1234.", id="telephone number with brackets"),
    pytest.param("García", "I spoke to Maria Garcia.", id="accents"),
    pytest.param("O'Brien", "It was O Brien.", id="apostrophe"),
    pytest.param("Wilson", "That is W-I-L-S-O-N.", id="name spelled out"),
    pytest.param("ABC123", "Order A B C one two three.", id="letters and figures"),
    pytest.param("AB-1234", "Order AB 1234.", id="dash"),
    pytest.param("AB-7", "Order alpha bravo dash seven.", id="spelling alphabet"),
    pytest.param("AB7", "A as in apple, B for boy, 7.", id="letters with their words"),
    pytest.param("XO9", "It is X-ray Oscar niner.", id="x-ray, oscar and niner"),
    pytest.param("B47", "This is a B 47 part.", id="after an article"),
    pytest.param("New York", "He lives in New York now.", id="two words"),
    pytest.param("427", "It is 42 7.", id="figures in two parts"),
    pytest.param("A17B", "It is A-1 7 B.", id="letters and figures in parts"),
    pytest.param("15%", "Fifteen percent off.", id="per cent"),
    pytest.param("$1,250.75", "One thousand two hundred fifty dollars and seventy five cents.", id="large sum"),
    pytest.param("March 3rd", "It is on the third of March.", id="day before its month"),
    pytest.param("3 March 2026", "On March the third, twenty twenty six.", id="month before its day"),
    pytest.param("2026-10-04", "It was October fourth, 2026.", id="date of a database"),
    pytest.param("December 24", "Until 2026-12-24 at most.", id="date written for a machine"),
    pytest.param("Sept. 9", "The 9th of September.", id="short month"),
    pytest.param("1234-05-06", "Order one two three four zero five zero six.", id="a number that looks like a date"),
    pytest.param("?", None, id="nothing but punctuation is never found"),
]


@pytest.mark.parametrize(("value", "text"), FOUND)
def test_an_entity_is_found_however_it_was_said(value: str, text: str | None) -> None:
    assert find_entities([Entity(value)], text or "What? Really?", ENGLISH) == [text is not None]


MISSED = [
    pytest.param(Entity("421"), "Your number is 4217.", id="longer number"),
    pytest.param(Entity("421"), "Your number is four two one seven.", id="longer number in words"),
    pytest.param(Entity("42"), "Your number is 4 2 1.", id="part of a number said figure by figure"),
    pytest.param(Entity("2"), "Your number is 4 2 1.", id="one figure of it"),
    pytest.param(Entity("00421"), "Your number is 421.", id="leading zeros left out"),
    pytest.param(Entity("421"), "Your number is 00421.", id="leading zeros added"),
    pytest.param(Entity("Ann"), "Anna called.", id="beginning of another name"),
    pytest.param(Entity("Mike", type="name"), "Press M now.", id="a name is not its letter"),
    pytest.param(Entity("M", type="name"), "Mike called.", id="a letter is not a name"),
    pytest.param(Entity("$5"), "There are 5 of them.", id="mark that is missing"),
    pytest.param(Entity("12.50"), "There are 1,250 of them.", id="point that is missing"),
    pytest.param(Entity("AB7"), "Alpha Charlie seven.", id="another letter"),
    pytest.param(Entity("March 3"), "On the thirteenth of March.", id="another day"),
    pytest.param(Entity("2026-03-03"), "On March 3rd.", id="year left out"),
    pytest.param(Entity("3 May"), "On 3 March.", id="another month"),
]


@pytest.mark.parametrize(("entity", "text"), MISSED)
def test_what_was_not_said_is_not_found(entity: Entity, text: str) -> None:
    assert find_entities([entity], text, ENGLISH) == [False]


def test_one_of_the_aliases_is_enough() -> None:
    entities = [Entity("15:30", ("half past three", "3:30 pm"), "time"), Entity("Porto")]
    assert find_entities(entities, "At half past three in Lisbon.", ENGLISH) == [True, False]


def test_other_languages_have_their_names_and_figures() -> None:
    german = normalizer("whisper_english", "de")
    entities = [Entity("Jürgen Groß"), Entity("4711"), Entity("AB7", type="id")]
    assert find_entities(entities, "Jürgen Groß hat die 47 11 und A B 7.", german) == [True, True, True]


PARSED = [
    pytest.param(["421", "Emma"], [Entity("421"), Entity("Emma")], id="texts"),
    pytest.param("421", [Entity("421")], id="one text"),
    pytest.param([{"value": "AB7", "type": "id", "aliases": ["7AB"]}], [Entity("AB7", ("7AB",), "id")], id="mapping"),
    pytest.param([{"value": "x", "aliases": "y"}], [Entity("x", ("y",))], id="one alias"),
    pytest.param([7, {}, " ", {"value": 3}, None], [], id="what is no entity is none"),
]


@pytest.mark.parametrize(("written", "entities"), PARSED)
def test_entities_are_texts_or_mappings(written: Any, entities: list[Entity]) -> None:
    assert parse_entities(written) == entities
