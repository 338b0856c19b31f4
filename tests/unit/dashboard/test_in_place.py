from collections.abc import Sequence

import pytest
from nicegui.element import Element

from dashboard.elements import tag, text
from dashboard.in_place import adopt
from tests.unit.dashboard.a_page import a_page, said


def rows(place: Element, names: Sequence[str]) -> None:
    with place:
        for name in names:
            with tag("tr", data_id=name):
                text("a", name)


@pytest.mark.parametrize(
    ("before", "after"),
    [("abc", "xabc"), ("abc", "bc"), ("abc", "cab"), ("abc", ""), ("", "ab"), ("abcd", "xbyd"), ("abc", "cxa")],
)
async def test_a_row_stays_the_element_that_it_was_wherever_it_goes(before: str, after: str) -> None:
    with a_page() as client:
        shown, fresh = tag("tbody"), tag("tbody")
        rows(shown, before)
        rows(fresh, after)
        was = dict(zip(before, shown.default_slot.children, strict=True))
        adopt(shown, fresh)
        assert said(shown).split() == list(after)
        now = dict(zip(after, shown.default_slot.children, strict=True))
        assert all(now[name] is was[name] for name in before if name in after)
        assert fresh.is_deleted
        assert {one.id for one in shown.descendants()} <= client.elements.keys()


async def test_without_ids_elements_of_one_kind_at_one_place_stay() -> None:
    with a_page():
        shown, fresh = tag("div"), tag("div")
        for place, names in ((shown, ("p", "b", "p")), (fresh, ("p", "i", "p"))):
            with place:
                for name in names:
                    text(name, "new" if place is fresh else "old")
        first, _, last = shown.default_slot.children
        adopt(shown, fresh)
        assert [one.tag for one in shown.default_slot.children] == ["p", "i", "p"]
        assert [shown.default_slot.children[0], shown.default_slot.children[2]] == [first, last]
        assert said(shown) == "new new new"
