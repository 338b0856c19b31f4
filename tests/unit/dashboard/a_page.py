"""A page of NiceGUI that no browser shows."""

from collections.abc import Iterator
from contextlib import contextmanager

from nicegui import Client, ui
from nicegui.element import Element


@contextmanager
def a_page() -> Iterator[Client]:
    """Elements that are made inside belong to it. NiceGUI knows where by the task: this is no fixture therefore."""
    client = Client(ui.page("/nowhere"))
    with client:
        yield client
    client.delete()


def said(place: Element) -> str:
    """All the words in it."""
    return " ".join(words for one in place.descendants() if (words := getattr(one, "_text", None)))
