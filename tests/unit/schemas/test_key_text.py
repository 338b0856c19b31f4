"""One record is one, however its id was copied, and however long the id is."""

import hashlib
from typing import Annotated

import pytest
from pydantic import BaseModel

from schemas.dataset import Dataset
from schemas.errors import InvalidField
from schemas.field_reading import plain_name, with_plain_names
from schemas.fields import Date, Email, FieldType, FromSource, KeyText, Money, Phone, Text, WholeNumber
from schemas.fields.text import SHORTEST_HASH
from schemas.registry import all_datasets

UNSEEN = [
    *("\ufeff", "\u200b", "\u200c", "\u200d", "\u2060", "\u00ad", "\u200e", "\u200f", "\u202a", "\u202c", "\u2066"),
    *("\u061c", "\u180e", "\ufe0f", "\u034f", "\U000e0001"),
]


@pytest.mark.parametrize("unseen", UNSEEN, ids=ascii)
@pytest.mark.parametrize(
    ("field", "written", "kept"),
    [
        (KeyText(50), "CUST001", "CUST001"),
        (KeyText(50), "a b", "a b"),
        (KeyText(50), "Jose\u0301", "José"),
        (FromSource("name"), "shop", "shop"),
        (Email(), "ada@example.org", "ada@example.org"),
        (Phone(), "+14045550189", "+14045550189"),
        (Date(), "1815-12-10", "1815-12-10"),
        (Money(), "1,234.50", "1234.50"),
        (WholeNumber(), "17", 17),
    ],
    ids=repr,
)
def test_invisible_characters_are_no_part_of_a_key_an_address_or_a_number(
    field: FieldType, written: str, kept: object, unseen: str
) -> None:
    for at in range(len(written) + 1):
        assert field.normalize(written[:at] + unseen + written[at:]) == kept


@pytest.mark.parametrize("space", ["\u00a0", "\u202f", "\u2007", "\u3000", " \u200b ", "\u200b\u00a0"], ids=ascii)
def test_every_kind_of_space_in_a_key_is_one_space(space: str) -> None:
    assert KeyText(50).normalize(f"{space}a{space}b{space}") == "a b"


def test_a_key_of_invisible_characters_is_absent() -> None:
    assert KeyText(50).normalize("".join(UNSEEN) + " \u00a0") is None


@pytest.mark.parametrize("text", ["می\u200cخواهم", "👨\u200d👩\u200d👧", "❤\ufe0f", "क्\u200dष"], ids=ascii)
def test_text_keeps_what_its_language_needs(text: str) -> None:
    assert Text(50).normalize(text) == text


def test_an_id_longer_than_its_column_is_its_hash() -> None:
    long = "https://example.org/" + "é" * 300
    digest = hashlib.sha256(long.encode()).hexdigest()
    assert KeyText(200).normalize(long) == digest
    assert KeyText(50).normalize(f" \ufeff{long}") == digest[:50]
    assert KeyText(50).normalize(digest[:50]) == digest[:50]
    assert KeyText(20).normalize("x" * 20) == "x" * 20
    assert KeyText().normalize(long) == long


def test_a_column_too_short_for_a_hash_refuses_a_longer_id() -> None:
    with pytest.raises(InvalidField, match="at most 15 fit"):
        KeyText(SHORTEST_HASH - 1).normalize("x" * SHORTEST_HASH)


def test_text_in_the_key_of_any_dataset_is_key_text() -> None:
    class Part(BaseModel):
        shop: Annotated[str, Text(30)]
        number: Annotated[str, Text(20)]
        name: Annotated[str, Text(20)]

    declared = Dataset("parts", Part, ("shop", "number"), "parts")
    assert [type(f.type).__name__ for f in declared.fields] == ["KeyText", "KeyText", "Text"]
    in_keys = [f.type for d in all_datasets() for f in d.fields if f.name in d.key]
    assert all(isinstance(field, KeyText) for field in in_keys if isinstance(field, Text))


def test_field_names_lose_their_invisible_characters() -> None:
    assert plain_name("\ufefffirst\u00a0 name\u200b") == "first name"
    assert plain_name("\u200b") == "\u200b"
    record = {"\ufeffid": 1, "\u200bid": 2, "na\u00admе": 3, "\u200bown": 4, "own": 5}
    assert with_plain_names(record) == {"id": 1, "namе": 3, "own": 5}
    assert with_plain_names({"ids": 1}) == {"ids": 1}
