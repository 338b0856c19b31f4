"""A dialog: what is to be done, in words, before it is done."""

from dataclasses import dataclass

from nicegui import ui
from nicegui.element import Element

from dashboard.elements import tag, text
from dashboard.shell import Page


@dataclass(frozen=True)
class Sheet:
    """An open dialog: its body, and the row of its buttons, of which the first closes it."""

    dialog: ui.dialog
    body: Element
    foot: Element

    def close(self) -> None:
        """Close it, and take it away."""
        self.dialog.close()


def open_dialog(shown: Page, title: str) -> Sheet:
    """Open a dialog. It is beside the parts of the page: it stays while the part that asked for it changes."""
    with shown.beside, ui.dialog() as dialog, tag("div", "sheet"):
        with tag("div", "sheet-head"):
            text("h2", title)
        body = tag("div", "sheet-body")
        with tag("div", "sheet-foot") as foot:
            text("button", "Close", "button", type="button").on("click", dialog.close, [])
    dialog.props["aria-label"] = title
    dialog.on_value_change(lambda event: None if event.value else dialog.delete())
    dialog.open()
    return Sheet(dialog, body, foot)
