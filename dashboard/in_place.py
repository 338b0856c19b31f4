"""Brings a part of a page up to date in place: what is the same stays, so that nobody loses the row he is in."""

from collections.abc import Sequence
from typing import Any

from nicegui.element import Element


def adopt(shown: Element, fresh: Element) -> None:
    """Make what is in `shown` like what is in `fresh`, and take `fresh` away.

    An element stays, with its handlers, if there is one with its `data-id`, at whatever place; without an id, if one of
    its kind is at its place. Only what differs is sent to the browser.
    """
    _adopt_children(shown, fresh)
    fresh.delete()


def _adopt_children(shown: Element, fresh: Element) -> None:
    there, new = shown.default_slot.children, list(fresh.default_slot.children)
    wanted = {_id(child) for child in new}
    for gone in [one for one in there if _id(one) not in wanted and _id(one) is not None]:
        gone.delete()
    for place, child in enumerate(new):
        if (known := _counterpart(there[place:], child)) is None:
            if _id(child) is None and place < len(there) and _id(there[place]) is None:
                there[place].delete()
            child.move(shown, target_index=place)
            continue
        if there[place] is not known:
            known.move(shown, target_index=place)
        _adopt_one(known, child)
    for surplus in there[len(new) :]:
        surplus.delete()


def _counterpart(left: Sequence[Element], child: Element) -> Element | None:
    """The element of those that are left which is to become like `child`."""
    if (identity := _id(child)) is not None:
        return next((one for one in left if _id(one) == identity and _alike(one, child)), None)
    return left[0] if left and _id(left[0]) is None and _alike(left[0], child) else None


def _id(element: Element) -> Any:
    return element.props.get("data-id")


def _alike(one: Element, other: Element) -> bool:
    return type(one) is type(other) and one.tag == other.tag and list(one.slots) == list(other.slots)


def _adopt_one(shown: Element, fresh: Element) -> None:
    same = (shown._props, shown._classes, shown._style, shown._text) == (  # noqa: SLF001 (NiceGUI compares no elements)
        fresh._props,  # noqa: SLF001
        fresh._classes,  # noqa: SLF001
        fresh._style,  # noqa: SLF001
        fresh._text,  # noqa: SLF001
    )
    if not same:
        shown._props.clear()  # noqa: SLF001
        shown._props.update(fresh._props)  # noqa: SLF001
        shown._classes[:] = fresh._classes  # noqa: SLF001
        shown._style.clear()  # noqa: SLF001
        shown._style.update(fresh._style)  # noqa: SLF001
        shown._text = fresh._text  # noqa: SLF001
        shown.update()
    _adopt_children(shown, fresh)
