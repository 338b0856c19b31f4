"""Filters as plain forms: what is chosen is in the URL, so that it can be kept, sent on, and gone back to."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from dashboard.elements import tag, text


@contextmanager
def filters(path: str, wanted: Mapping[str, str], action: str = "Filter") -> Iterator[None]:
    """A form that leads to `path` with its fields in the query."""
    with tag("form", "filters", method="get", action=path, role="search"):
        yield
        text("button", action, "button main", type="submit")
        if wanted:
            text("a", "Clear", "button quiet", href=path)


def words(
    name: str, label: str, wanted: Mapping[str, str], hint: str = "", *, search: bool = False, long: bool = False
) -> None:
    """A field of text. `search`: the key / goes there."""
    with tag("label", "field long" if long else "field"):
        text("span", label)
        # The default, not the value: a page that is brought up to date leaves alone what somebody types.
        tag(
            "input", type="search" if search else "text", name=name, defaultValue=wanted.get(name, ""),
            placeholder=hint or None, autocomplete="off", spellcheck="false", data_search=search, maxlength="1000",
        )  # fmt: skip


def choice(name: str, label: str, values: Sequence[str], wanted: Mapping[str, str], first: str = "any") -> None:
    """A field of which one value is chosen; the empty one is called `first`."""
    with tag("label", "field"):
        text("span", label)
        with tag("select", name=name):
            for value in values:
                option = text("option", value.replace("_", " ") or first, value=value)
                if value == wanted.get(name, ""):
                    option.props["selected"] = ""
