"""HTML elements by their names. Text is always text: nothing that comes from the API is ever rendered as HTML."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nicegui.element import Element
from nicegui.elements.mixins.text_element import TextElement


def tag(name: str, classes: str = "", /, **attributes: Any) -> Element:
    """An element to put others into. `aria_label` becomes `aria-label`, `for_` becomes `for`."""
    element = Element(name)
    _give(element, classes, attributes)
    return element


def text(name: str, content: object, classes: str = "", /, **attributes: Any) -> TextElement:
    """An element with text in it, set as a text node. `set_text` changes it."""
    element = TextElement(tag=name, text=str(content))
    _give(element, classes, attributes)
    return element


@contextmanager
def instead(place: Element) -> Iterator[None]:
    """Elements that are made within take the place of all that stands there."""
    place.clear()
    with place:
        yield


@contextmanager
def working(*buttons: Element) -> Iterator[bool]:
    """Nobody can press the buttons inside. Gives False if one is pressed already: a double click does it once."""
    if any("disabled" in one.props for one in buttons):
        yield False
        return
    for one in buttons:
        one.props["disabled"] = ""
    try:
        yield True
    finally:
        for one in buttons:
            if not one.is_deleted:
                del one.props["disabled"]


def _give(element: Element, classes: str, attributes: dict[str, Any]) -> None:
    if classes:
        element.classes(classes)
    for name, value in attributes.items():
        if value is not None and value is not False:
            element.props[name.rstrip("_").replace("_", "-")] = "" if value is True else value
