"""Small pieces that several pages are made of."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from nicegui.element import Element

from dashboard.api_client import ApiProblem
from dashboard.elements import tag, text

Tone = Literal["ok", "warn", "bad", ""]

TONES: dict[str, Tone] = {
    **dict.fromkeys(("ok", "up", "healthy", "success", "stored", "done", "clean", "resolved", "released"), "ok"),
    **dict.fromkeys(("warn", "degraded", "running", "queued", "replayed", "held", "parked", "paused"), "warn"),
    **dict.fromkeys(("bad", "down", "unhealthy", "failed", "open", "stall", "stop", "stopped", "rewind"), "bad"),
    **dict.fromkeys(("no consumer", "no_consumer", "failed_again", "interrupted", "lost"), "bad"),
}


def tone_of(word: str | None) -> Tone:
    """The tone of a state's word; neutral for one that is not known. Pure."""
    return TONES.get((word or "").lower(), "")


def badge(word: str | None, tone: Tone | None = None) -> Element:
    """A state in a word, with its colour."""
    words = (word or "unknown").replace("_", " ")
    return text("span", words, f"badge {tone_of(word) if tone is None else tone}".strip())


@contextmanager
def panel(title: str, *, body: bool = False, classes: str = "") -> Iterator[Element]:
    """A titled box; gives the row of its title, for what goes beside it."""
    with tag("section", f"panel {classes}".strip()):
        with tag("div", "panel-head") as head:
            text("h2", title)
        if body:
            with tag("div", "panel-body"):
                yield head
        else:
            yield head


def figure(label: str, value: str, note: str = "", *, tone: Tone = "", href: str | None = None) -> None:
    """One number with its name; it leads somewhere if it can."""
    with tag("div", f"panel figure {tone}".strip()):
        text("span", label, "label")
        with tag("span", "value"):
            text("a", value, href=href) if href else text("span", value)
        if note:
            text("span", note, "note")


def command_line(words: str) -> None:
    """The command that does the same, to copy."""
    with tag("div", "line"):
        text("code", words)
        tag("button", "copy", type="button", data_copy=words, aria_label=f"Copy: {words}")


def notice(what: str, why: str = "", *, tone: Tone = "", command: str | None = None) -> None:
    """An event, its reason, and the way out."""
    with tag("div", f"notice {tone}".strip(), role="alert" if tone == "bad" else "status"), tag("div", "grow"):
        text("p", what, "what")
        if why:
            text("p", why, "why")
        if command:
            with tag("div", "way"):
                command_line(command)


def told_problem(problem: ApiProblem) -> None:
    """An answer of the API that is none."""
    notice(problem.title, problem.detail, tone="bad", command="headrace status" if problem.silent else None)


def empty(what: str, todo: str = "", command: str | None = None) -> None:
    """Nothing is here, and what to do next."""
    with tag("div", "empty"):
        text("p", what, "what")
        if todo:
            text("p", todo)
        if command:
            command_line(command)


def skeleton(*, tall: bool = False) -> None:
    """The place of what is being loaded."""
    with tag("div", "skeleton tall" if tall else "skeleton", role="status"):
        text("span", "Loading", "visually-hidden")


@contextmanager
def table(label: str, columns: Sequence[str]) -> Iterator[Element]:
    """A table whose columns are named; a name that ends in # has numbers. It scrolls by itself where it is too wide."""
    with tag("div", "table-wrap", tabindex="0", role="region", aria_label=label), tag("table"):
        with tag("thead"), tag("tr"):
            for name in columns:
                text("th", name.rstrip("#"), "n" if name.endswith("#") else "", scope="col")
        with tag("tbody") as rows:
            yield rows


def cell(content: Any, classes: str = "", *, href: str | None = None, sub: str = "", row: bool = False) -> None:
    """A cell of text; with `href` it leads there, and `row` lets j and k find it."""
    with tag("td", classes):
        if href:
            text("a", content, href=href, data_row=row)
        else:
            text("span", content)
        if sub:
            text("span", sub, "sub")


def pairs(entries: Iterable[tuple[str, str]]) -> None:
    """Names and values."""
    with tag("dl", "pairs"):
        for name, value in entries:
            text("dt", name)
            text("dd", value)


def exports(path: str) -> None:
    """The list as a file. `path` begins with /export/ and holds the list's filters."""
    base, _, query = path.partition("?")
    for kind in ("csv", "json"):
        text(
            "a", kind.upper(), "button quiet", href=f"{base}.{kind}{'?' if query else ''}{query}",
            download=True, aria_label=f"Export the whole list as {kind.upper()}",
        )  # fmt: skip
