"""The entries of an RSS or Atom feed as JSON objects of one shape, whatever the feed's dialect. Pure."""

import calendar
import datetime
import hashlib
import io
import re
from collections.abc import Mapping
from html.parser import HTMLParser
from time import struct_time
from typing import Any, NamedTuple

import feedparser
import msgspec

# What hostile input makes the parsers raise: UnicodeError is a ValueError, OverflowError an ArithmeticError.
_HOSTILE = (ValueError, ArithmeticError, LookupError, RecursionError)
_REFERENCE = re.compile(rb"&#(x[0-9a-f]{1,20}|[0-9]{1,20});", re.IGNORECASE)
_ENDS = re.compile(rb"</(?:[a-z0-9]+:)?(?:rss|feed|rdf)\s*>\s*(?:<!--.*-->\s*)?\Z", re.IGNORECASE | re.DOTALL)


class Feed(NamedTuple):
    """A feed that was read. `problem` is what is wrong with its XML although the entries could be read."""

    entries: list[bytes]
    problem: str | None


class NotAFeed(ValueError):
    """The body is no feed; the message says what it is instead."""


def read_feed(body: bytes, content_type: str | None = None) -> Feed:
    """The entries, oldest first: feeds put the newest on top, and of two with one id the newer must come last.

    An entry is `{id, title, link, summary, text, author, published, updated, tags, feed: {title, link}}`; what it has
    not is left out. `id` is its own, else its link, else a hash of its content; `text` is the summary without markup;
    times are ISO 8601 in UTC, or the feed's own words where they are no time. Costs about a millisecond per entry.
    Raises NotAFeed.
    """
    try:
        parsed = _parsed(body, content_type)
    except _HOSTILE as error:
        raise NotAFeed(f"its XML cannot be read: {str(error)[:200]}") from None
    if not parsed.get("version") and not parsed.entries:
        reason = _problem(parsed)
        begins = " ".join(body[:200].decode("utf-8", "replace").split())[:60]
        raise NotAFeed(f"it is no RSS or Atom feed{f' ({reason})' if reason else ''}; it begins with {begins!r}")
    if parsed.bozo and not parsed.entries:
        raise NotAFeed(f"its XML is broken and no entry could be read: {_problem(parsed)}")
    problem, whole = _problem(parsed), parsed.entries
    if problem and not _ENDS.search(body[-1000:]):
        whole, problem = whole[:-1], f"{problem}; the feed is cut off, and its last entry is left out"
    feed = _present({"title": parsed.feed.get("title"), "link": parsed.feed.get("link")})
    return Feed([_encoded(_entry(entry, feed)) for entry in reversed(whole)], problem)


def _parsed(body: bytes, content_type: str | None) -> Any:
    headers = {"content-type": content_type} if content_type else {}
    # Only a file object is sure to be taken for content: of text and bytes feedparser would open the file or address.
    try:
        return feedparser.parse(io.BytesIO(body), response_headers=headers)
    except _HOSTILE:  # its lenient parser stumbles over references to what is no character
        mended = _REFERENCE.sub(_character, body)
        return feedparser.parse(io.BytesIO(mended), response_headers=headers)


def _character(reference: re.Match[bytes]) -> bytes:
    text = reference[1].decode().lower()
    number = int(text[1:], 16) if text[0] == "x" else int(text)
    return reference[0] if 0 < number < 0xD800 or 0xDFFF < number <= 0x10FFFF else b"&#xFFFD;"


def _entry(entry: Mapping[str, Any], feed: dict[str, Any]) -> dict[str, Any]:
    contents = [content.get("value") for content in entry.get("content", ())]
    summary = entry.get("summary") or next(filter(None, contents), None)
    found = _present(
        {
            "title": entry.get("title"),
            "link": entry.get("link"),
            "summary": summary,
            "text": _without_markup(summary) if summary else None,
            "content": next(filter(None, contents), None),
            "author": entry.get("author"),
            "published": _time(entry.get("published_parsed"), entry.get("published")),
            "updated": _time(entry.get("updated_parsed"), entry["updated"]) if "updated" in entry else None,
            "tags": [tag["term"] for tag in entry.get("tags", ()) if tag.get("term")],
            "enclosures": [link["href"] for link in entry.get("enclosures", ()) if link.get("href")],
        }
    )
    own = entry.get("id") or entry.get("link") or hashlib.sha256(_encoded(found)).hexdigest()
    return {"id": own, **found} | ({"feed": feed} if feed else {})


def _present(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value}


def _time(moment: struct_time | None, written: str | None) -> str | None:
    if moment is None:
        return written
    try:
        seconds = calendar.timegm(moment)
        return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return written


def _encoded(entry: dict[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(entry)
    except UnicodeEncodeError:  # half a surrogate pair, as &#xD83D; gives one
        return msgspec.json.encode(_repaired(entry))


def _repaired(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {name: _repaired(member) for name, member in value.items()}
    return [_repaired(item) for item in value] if isinstance(value, list) else value


def _problem(parsed: Mapping[str, Any]) -> str | None:
    """What is wrong with the XML; a wrong or missing declaration of encoding or type does no harm."""
    error = parsed.get("bozo_exception")
    harmless = feedparser.exceptions.CharacterEncodingOverride, feedparser.exceptions.NonXMLContentType
    if not parsed.get("bozo") or isinstance(error, harmless):
        return None
    return " ".join(str(error).split())[:200] or type(error).__name__


_BLOCKS = {"p", "div", "br", "hr", "li", "tr", "td", "th", "dt", "dd", "pre", "blockquote"} | {
    f"h{n}" for n in range(1, 7)
}


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.pieces: list[str] = []

    def handle_data(self, data: str) -> None:
        self.pieces.append(data)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002 (its signature)
        if tag in _BLOCKS:  # <p>one</p><p>two</p> are two words
            self.pieces.append(" ")


def _without_markup(markup: str) -> str:
    text = _Text()
    text.feed(markup)
    text.close()
    return " ".join("".join(text.pieces).split())
