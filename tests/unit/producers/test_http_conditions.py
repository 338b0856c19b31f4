import pytest

from producers.http.headers import conditions, validators
from stores.checkpoints import Page

OLD, DATE = "Thu, 01 Jan 2026 12:00:00 GMT", "Thu, 01 Jan 2026 12:01:00 GMT"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"etag": '"x"'}, ('"x"', None)),
        ({"etag": 'W/"x"', "last-modified": OLD, "date": DATE}, ('W/"x"', None)),
        ({"etag": ""}, (None, None)),
        ({"etag": f'"{"x" * 2000}"'}, (None, None)),
        ({"etag": '"é"'}, (None, None)),
        ({"etag": '"a\tb"'}, (None, None)),
        ({"last-modified": OLD, "date": "Thu, 01 Jan 99999999999999999999 12:00:00 GMT"}, (None, None)),
        ({"last-modified": OLD, "date": DATE}, (None, OLD)),
        ({"last-modified": DATE, "date": DATE}, (None, None)),
        ({"last-modified": OLD}, (None, None)),
        ({"last-modified": "yesterday", "date": DATE}, (None, None)),
        ({"last-modified": "Thu, 01 Jan 2026 12:00:00 -0000", "date": DATE}, (None, None)),
        ({}, (None, None)),
    ],
)
def test_only_validators_that_tell_this_version_from_a_later_one_are_kept(
    headers: dict[str, str], expected: tuple[str | None, str | None]
) -> None:
    assert validators(headers) == expected


def test_an_entity_tag_is_preferred_to_a_date_and_a_page_with_neither_is_asked_for_unconditionally() -> None:
    assert conditions(Page(1, '"x"', None, b"")) == {"If-None-Match": '"x"'}
    assert conditions(Page(1, None, OLD, b"")) == {"If-Modified-Since": OLD}
    assert conditions(Page(1, None, None, b"")) == {}
