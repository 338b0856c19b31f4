"""The feeds of feedparser's own tests: every dialect, broken in every way; feedparser says what is in them."""

import io
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import feedparser

from producers.feed_entries import NotAFeed, read_feed
from producers.feed_markup import text_of
from tests.world.figures import Verdict, try_all
from tests.world.material import unpacked


def words(entry: Any, name: str) -> str:
    """A text without its markup, which ours keeps where the feed says that it is HTML."""
    return " ".join(text_of(str(entry.get(name) or "")).split())


def judge(path: Path) -> Verdict:
    body = path.read_bytes()
    try:
        ours = [json.loads(entry.value) for entry in reversed(read_feed(body).entries)]
    except NotAFeed:
        return "refused"
    theirs = feedparser.parse(io.BytesIO(body)).entries
    same = len(ours) == len(theirs) and all(
        words(own, "title") == words(their, "title") and own.get("link", "") == (their.get("link") or "")
        for own, their in zip(ours, theirs, strict=True)
    )
    return "right" if same else "wrong"


def test_feeds_of_every_dialect_give_their_entries_titles_and_links() -> None:
    folder = unpacked("feedparser-6.0.14.tar.gz")
    tried: dict[str, Callable[[], Verdict]] = {
        str(path.relative_to(folder)): partial(judge, path) for path in sorted(folder.rglob("tests/**/*.xml"))
    }
    try_all("feeds (feedparser's tests)", tried)
