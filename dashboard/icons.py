"""The icons, as paths of our own: a page asks for no font and no picture."""

from nicegui.element import Element

from dashboard.elements import tag

BRAND = "brand"

PATHS: dict[str, tuple[str, ...]] = {
    BRAND: (
        "M3 8c3 0 3-3 6-3s3 3 6 3 3-3 6-3",
        "M3 14c3 0 3-3 6-3s3 3 6 3 3-3 6-3",
        "M3 20c3 0 3-3 6-3s3 3 6 3 3-3 6-3",
    ),
    "Overview": ("M4 6h6v5H4z", "M14 13h6v5h-6z", "M10 8.5h4.5a2.5 2.5 0 0 1 2.5 2.5v2"),
    "Lag": ("M12 21a9 9 0 1 1 9-9", "M12 7v5l3.5 2", "M17 17h5", "M19.5 14.5v5"),
    "Dead letters": ("M3 6h18v12H3z", "M3 7l9 6 9-6"),
    "Runs": ("M4 19V9", "M10 19V5", "M16 19v-7", "M21 19H3"),
    "Data": ("M10.5 17a6.5 6.5 0 1 0 0-13 6.5 6.5 0 0 0 0 13z", "M15.5 15.5 21 21"),
    "Trace": ("M6 5v14", "M6 6h9", "M6 12h12", "M6 18h6"),
    "Topics": ("M4 7h16", "M4 12h16", "M4 17h10"),
    "Colours": ("M12 21a9 9 0 1 0 0-18z", "M12 21a9 9 0 0 1 0-18"),
}


def icon(name: str) -> Element:
    """A line drawing of 24 by 24 in the colour of the text around it; nothing to a reader of screens."""
    with tag(
        "svg", viewBox="0 0 24 24", fill="none", stroke="currentColor", stroke_width="1.8", stroke_linecap="round",
        stroke_linejoin="round", aria_hidden="true", focusable="false",
    ) as drawing:  # fmt: skip
        for path in PATHS[name]:
            tag("path", d=path)
    return drawing
