"""The frame around every page: title, places to go, colours, shortcuts, and whether the API answers."""

import asyncio
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

from nicegui import ui
from nicegui.element import Element
from starlette.requests import Request

from dashboard.elements import instead, tag, text
from dashboard.icons import BRAND, icon
from dashboard.in_place import adopt
from dashboard.live import Answer, Live
from dashboard.parts import skeleton, told_problem
from dashboard.who import who_acts


class Place(NamedTuple):
    """An entry of the navigation; `g` and then `key` go there."""

    path: str
    name: str
    key: str


PLACES = (
    Place("/", "Overview", "o"),
    Place("/lag", "Lag", "l"),
    Place("/failures", "Dead letters", "f"),
    Place("/runs", "Runs", "r"),
    Place("/data", "Data", "d"),
    Place("/trace", "Trace", "t"),
    Place("/topics", "Topics", "p"),
)

SHORTCUTS = (
    *((f"g {place.key}", place.name) for place in PLACES),
    ("/", "To the search or filter of the page"),
    ("j k", "Next and previous row; Enter opens it"),
    ("t", "Colours: as the system has them, dark, light"),
    ("?", "This list"),
    ("Esc", "Close it"),
)

EVERY_SECONDS = 1.0
"""Between two questions to the API while a page shows the answer: a push is seen within two."""

PULSE_SECONDS = 3.0

AT_ONCE_SECONDS = 0.8
"""A page waits so long for each first answer, so that it comes whole where the API is quick."""

ALTOGETHER_SECONDS = 2.0
"""It waits so long for all of them together: what comes later is filled in."""

RESPONSE_SECONDS = 30.0
"""After so long NiceGUI gives up a page. Its own 3 s are no more than ALTOGETHER_SECONDS on a busy machine."""


class Part:
    """A part of a page: built from answers to `questions` once all are there, and again when one of them differs."""

    def __init__(
        self, questions: Collection[str], build: Callable[[Mapping[str, Answer]], None], *, tall: bool = False
    ) -> None:
        self._questions = questions
        self._build = build
        self._latest: dict[str, Answer] = {}
        with tag("div", "stack") as self._region:
            skeleton(tall=tall)

    def draw(self) -> None:
        """Build it from the latest answers. If that fails, it stays as it was."""
        region = self._region
        if len(self._latest) < len(self._questions) or region.is_deleted or region.parent_slot is None:
            return
        with region.parent_slot, tag("div", "stack") as fresh:
            try:
                self._build(self._latest)
            except Exception:
                fresh.delete()
                raise
        adopt(region, fresh)

    def update(self, path: str, answer: Answer) -> None:
        """Take an answer, and draw if it says something else than the one before."""
        before = self._latest.get(path)
        self._latest[path] = answer
        if before is None or _said(before) != _said(answer):
            self.draw()


class Page:
    """A page that is being shown: where its parts go, and how they stay up to date."""

    def __init__(self, live: Live, request: Request) -> None:
        self.live = live
        self.api = live.api
        self.who = who_acts(request)
        self.query = request.query_params
        self._client = ui.context.client
        self.beside = tag("div")
        """A place that no part of the page takes away when it changes."""
        self._watching: list[tuple[str, float, Callable[[Answer], None]]] = []
        self._stops: list[Callable[[], None]] = []
        self._client.on_connect(self._start)
        self._until = time.monotonic() + ALTOGETHER_SECONDS
        self._client.on_disconnect(self._left)
        self._client.on_delete(self._stop)

    async def ask(self, path: str) -> Answer:
        """The API's answer now, shared with whoever asks at the same time."""
        return await self.live.ask(path)

    async def soon(self, path: str) -> Answer | None:
        """The answer if it comes at once; None if the page is to be sent without it, and filled in when it comes."""
        asking = asyncio.ensure_future(self.ask(path))
        left = max(0.05, self._until - time.monotonic())
        done, _ = await asyncio.wait({asking}, timeout=min(AT_ONCE_SECONDS, left))
        return asking.result() if done else None

    async def show(
        self, path: str, build: Callable[[Any], None], *, every: float = EVERY_SECONDS, tall: bool = False
    ) -> Callable[[], None]:
        """Build a part of the page from the API's answer to `path`, and bring it up to date whenever that changes.

        Where the API does not answer, the part says so, and comes back by itself. What is returned builds it again from
        the latest answer: for what else the part depends on.
        """
        return await self.show_all({path: every}, partial(_from_one, path, build), tall=tall)

    async def show_all(
        self, questions: Mapping[str, float], build: Callable[[Mapping[str, Answer]], None], *, tall: bool = False
    ) -> Callable[[], None]:
        """The same from several answers, by path with the seconds between two questions; built once all are there."""
        part = Part(questions, build, tall=tall)
        first = await asyncio.gather(*(self.soon(path) for path in questions))
        for path, answer in zip(questions, first, strict=True):
            if answer:
                part.update(path, answer)
        self._keep(part, questions)
        return part.draw

    def show_later(self, path: str, build: Callable[[Any], None], *, every: float = EVERY_SECONDS) -> None:
        """As `show`, but the part is filled in when the answer comes: for parts of a page that is there already."""
        self._keep(Part((path,), partial(_from_one, path, build)), {path: every})

    async def show_once(self, path: str, build: Callable[[Any], None], *, quiet: bool = False) -> None:
        """Build a part from the first good answer, whenever that comes, and then leave it: somebody may type into it.

        Until then it says that it is loading, or what is wrong; `quiet` if another part of the page says that.
        """
        region = tag("div", "stack")
        built: list[bool] = []

        def update(answer: Answer) -> None:
            if built or region.is_deleted or (quiet and answer.problem):
                return
            with instead(region):
                if answer.problem:
                    told_problem(answer.problem)
                else:
                    built.append(True)
                    build(answer.data)

        if answer := await self.soon(path):
            update(answer)
        elif not quiet:
            with region:
                skeleton()
        if not built:
            self.watch(path, update)

    def _keep(self, part: Part, questions: Mapping[str, float]) -> None:
        for path, every in questions.items():
            self.watch(path, partial(part.update, path), every=every)

    def watch(self, path: str, listener: Callable[[Answer], None], *, every: float = EVERY_SECONDS) -> None:
        """Call the listener with each answer, as long as somebody looks at the page."""
        self._watching.append((path, every, listener))
        if self._stops:
            self._stops.append(self.live.watch(path, every, listener))

    def _start(self) -> None:
        if not self._stops:
            self._stops = [self.live.watch(path, every, listener) for path, every, listener in self._watching]

    def _left(self) -> None:
        # Who has come back by a second connection is told to have left when the first one is given up: he still looks.
        if not self._client.has_socket_connection:
            self._stop()

    def _stop(self) -> None:
        while self._stops:
            self._stops.pop()()


def _from_one(path: str, build: Callable[[Any], None], answers: Mapping[str, Answer]) -> None:
    if problem := answers[path].problem:
        told_problem(problem)
    else:
        build(answers[path].data)


def _said(answer: Answer) -> Any:
    return str(answer.problem) if answer.problem else answer.data


@contextmanager
def page(
    live: Live, request: Request, here: str, title: str, lead: str = "", crumbs: Sequence[tuple[str, str]] = ()
) -> Iterator[tuple[Page, Element]]:
    """The frame; what is made inside goes into its column. Gives the page, and the place for its tools.

    `here` is the place that the navigation marks.
    """
    shown = Page(live, request)
    ui.page_title(f"{title} · Headrace")
    if around := ui.context.client.content.parent_slot:
        around.parent.tag = "div"  # Quasar's q-page calls itself the main part, and ours is within it
    text("a", "Skip to the content", "skip", href="#main")
    with tag("div", "frame"):
        _side(shown, here)
        with tag("main", "content", id="main", tabindex="-1"):
            if crumbs:
                with tag("nav", aria_label="Where this is"), tag("ol", "crumbs"):
                    for path, name in crumbs:
                        with tag("li"):
                            text("a", name, href=path)
            with tag("div", "head"):
                with tag("div", "titles"):
                    text("h1", title, "break")
                    if lead:
                        text("p", lead, "lead")
                tools = tag("div", "tools")
            with tag("div", "stack"):
                yield shown, tools
    text("div", "", "visually-hidden", role="status", data_said=True)
    _help()


def _side(shown: Page, here: str) -> None:
    with tag("header", "side"):
        with tag("a", "brand", href="/", aria_label="Headrace, overview"):
            icon(BRAND)
            text("span", "Headrace")
        counts: dict[str, Any] = {}
        with tag("nav", aria_label="Pages"), tag("ul", "places"):
            for place in PLACES:
                current = "page" if place.path == here else None
                with tag("li"), tag("a", href=place.path, aria_current=current, data_key=place.key):
                    icon(place.name)
                    text("span", place.name)
                    counts[place.path] = text("span", "", "count")
        with tag("div", "side-foot"):
            pulse = text("span", "Connecting", "pulse")
            with tag("button", "icon-button", type="button", data_theme_switch=True, aria_label="Change the colours"):
                icon("Colours")
            text("button", "?", "icon-button", type="button", data_open_help=True, aria_label="Shortcuts")

    def update(answer: Answer) -> None:
        lost = answer.problem is not None
        pulse.set_text("No answer" if lost else "Live")
        pulse.classes(replace=f"pulse {'lost' if lost else 'live'}")
        count = sum(group["count"] for group in (answer.data or {}).get("data", ()))
        words = "" if lost or not count else f"{count:,}"
        if counts["/failures"].text != words:
            counts["/failures"].set_text(words)

    shown.watch("/failures", update, every=PULSE_SECONDS)


def _help() -> None:
    with tag("dialog", data_help=True, aria_labelledby="help-title"):
        with tag("div", "sheet-head"):
            text("h2", "Shortcuts", id="help-title")
            text("button", "Close", "button", type="button", data_close_help=True)
        with tag("div", "sheet-body"), tag("dl", "pairs"):
            for keys, does in SHORTCUTS:
                with tag("dt"):
                    for key in keys.split():
                        text("kbd", key)
                        text("span", " ")
                text("dd", does)
