"""The feeds of feedparser's own tests: every dialect, broken in every way; feedparser says what is in them."""

import io
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import feedparser

from producers.rss.entries import NotAFeed, read_feed
from producers.rss.markup import text_of
from tests.world.figures import Verdict, try_all
from tests.world.material import unpacked

ADDRESS = "http://feeds.example.org/blog/feed.xml"

EXPLAINED = {
    "illformed/rss_incomplete_cdata.xml": "its only entry is cut off, and ours leaves such an entry out",
    "wellformed/atom10/entry_id_no_normalization_4.xml": "HTTP:// is kept, in links as in ids",
    "wellformed/atom10/entry_id_with_attributes.xml": "an id that is a mere name is no relative link",
    "wellformed/lang/http_content_language_entry_title_inherit_2.xml": "an id that is a mere name is no relative link",
    "wellformed/node_precedence/atom10_id.xml": "an id that is a mere name is no relative link",
    "wellformed/sanitize/entry_title_crazy.xml": "theirs keeps the text of a script in the title",
}


def title(entry: Any) -> str:
    """As ours has it: without markup, where the feed says that it is HTML."""
    written = str(entry.get("title") or "")
    is_html = entry.get("title_detail", {}).get("type") in {"text/html", "application/xhtml+xml"}
    return text_of(written) if is_html else " ".join(written.split())


def judge(path: Path) -> Verdict:
    body = path.read_bytes()
    try:
        ours = [json.loads(entry.value) for entry in reversed(read_feed(body, None, ADDRESS).entries)]
    except NotAFeed:
        return "refused"
    theirs = feedparser.parse(
        io.BytesIO(body), response_headers={"content-location": ADDRESS, "content-type": "application/xml"}
    ).entries
    same = len(ours) == len(theirs) and all(
        own.get("title", "") == title(their)
        and own.get("link", "") == (their.get("link") or "")
        and own["id"] == (their.get("id") or own["id"])
        for own, their in zip(ours, theirs, strict=True)
    )
    return "right" if same else "wrong"


def test_feeds_of_every_dialect_give_their_entries_titles_and_links() -> None:
    folder = unpacked("feedparser-6.0.14.tar.gz")
    tried: dict[str, Callable[[], Verdict]] = {
        str(path.relative_to(folder)): partial(judge, path) for path in sorted(folder.rglob("tests/**/*.xml"))
    }
    explained = {f"feedparser-6.0.14/tests/{name}": why for name, why in EXPLAINED.items()}
    try_all("feeds (feedparser's tests)", tried, explained)
