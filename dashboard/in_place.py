"""Brings a part of a page up to date in place: what is the same stays, so that nobody loses the row he is in."""

from nicegui.element import Element


def adopt(shown: Element, fresh: Element) -> None:
    """Make what is in `shown` like what is in `fresh`, and take `fresh` away.

    Elements that are of the same kind at the same place stay, with their handlers; only what differs is sent to the
    browser.
    """
    _adopt_children(shown, fresh)
    fresh.delete()


def _adopt_children(shown: Element, fresh: Element) -> None:
    old, new = list(shown.default_slot.children), list(fresh.default_slot.children)
    for place, child in enumerate(new):
        if place < len(old) and _alike(old[place], child):
            _adopt_one(old[place], child)
        else:
            if place < len(old):
                old[place].delete()
            child.move(shown, target_index=place)
    for surplus in old[len(new) :]:
        surplus.delete()


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
