"""The entries of an RSS or Atom feed as JSON objects of one shape, whatever the feed's dialect. Pure.

Feeds of strangers make feedparser slow without bound, and raise anything: producers/rss/process.py reads them apart.
"""

import calendar
import datetime
import hashlib
import io
import re
from collections.abc import Mapping
from functools import partial
from time import struct_time
from typing import Any, NamedTuple

import feedparser
import msgspec
from feedparser.mixin import _FeedParserMixin as FeedParserMixin

from producers.rss.markup import joined, text_of, without_active_parts, without_references
from producers.text.found_encoding import CHARSET, is_text_encoding
from schemas.text import unmarked

LONGEST_FEED_MEMBER = 1000
"""Characters: a longer title or link of the feed, which every entry repeats, is left out."""

LONGEST_AUTHOR = 1000
"""Characters: feedparser looks for an e-mail address in an author's name, and needs the square of its length."""

_UNREADABLE_KEPT = 65_536
_sync_author = FeedParserMixin._sync_author_detail  # noqa: SLF001


def _sync_short_author(self: Any, key: str = "author") -> None:
    if len(str(self._get_context().get(key) or "")) <= LONGEST_AUTHOR:
        _sync_author(self, key)


FeedParserMixin._sync_author_detail = _sync_short_author  # noqa: SLF001

_DECLARED = re.compile(rb"\A\s*<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([^\"'>]{0,100})[\"'][^>]*\?>")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
_BEGINS = re.compile(rb"(?=<(?:[a-z0-9]{1,50}:)?(?:item|entry)[\s>])", re.IGNORECASE)
_CLOSES = re.compile(rb"</(?:[a-z0-9]{1,50}:)?(?:item|entry)\s{0,50}>", re.IGNORECASE)
_ROOT = re.compile(rb"<((?:[a-z0-9]{1,50}:)?)(rss|feed|rdf)(?:\s[^<>]*)?>", re.IGNORECASE)
_REFERENCE = re.compile(rb"&#(x[0-9a-f]{1,20}|[0-9]{1,20});", re.IGNORECASE)
_ENDS = re.compile(rb"</(?:[a-z0-9]+:)?(?:rss|feed|rdf)\s*>?\s*(?:<!--.*-->\s*)?\Z", re.IGNORECASE | re.DOTALL)
_OFFSET = r"[+-](?:0\d|1[0-4])(?::?[0-5]\d)?"
_YEAR = re.compile(r"(?<![\d+])(?<!\s-)\d{4}(?!\d)")
_IN_FIGURES = re.compile(r"[\d\s:.,/+TWZ-]*")
_ISO = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d))?|(\d\d)(\d\d))?"
    r"(?:[T ](?:[01]?\d|2[0-4])(?::?[0-5]\d(?::?(?:[0-5]\d|60)(?:[.,]\d+)?)?)?"
    rf"\s*(?:Z|UTC?|GMT|{_OFFSET})?)?",
    re.IGNORECASE,
)
_AFTER_CLOCK = re.compile(r"\d:\d\d(?!\d)(?::\d\d)?(.*)", re.DOTALL)
_ZONE = re.compile(
    rf"(?:Z|UTC?|[AECMP][DS]?T|MES?T|(?:GMT)?{_OFFSET}|GMT|(?P<unknown>[CEW]ES?T|MSK))?(?:\s*\([^()]*\))?(?:\s*\d{{4}})?",
    re.IGNORECASE,
)
_HOURS_AHEAD = {"WET": 0, "WEST": 1, "CET": 1, "CEST": 2, "EET": 2, "EEST": 3, "MSK": 3}
"""Zones that feedparser takes for UTC, as all that it does not know."""


class Entry(NamedTuple):
    """An entry as JSON; one that could not be read as it is, with the `reason_code;message` why."""

    value: bytes
    problem: str | None = None


class Feed(NamedTuple):
    """A feed that was read. `problem` is what is wrong with its XML although the entries could be read."""

    entries: list[Entry]
    problem: str | None


class NotAFeed(ValueError):
    """The body is no feed; the message says what it is instead."""


class _Around(NamedTuple):
    """Facts of a feed that its entries need. `shown` is repeated in each."""

    address: str
    atom: bool
    shown: dict[str, Any]


def read_feed(body: bytes, content_type: str | None = None, address: str = "") -> Feed:
    """The entries, oldest first: feeds put the newest on top, and of two with one id the newer must come last.

    An entry is `{id, title, link, summary, text, author, published, updated, tags, feed: {title, link}}`; what it has
    not is left out. `id` is its own, else its link, else a hash of its content; titles and `text`, the summary, are
    without markup; links are absolute, by xml:base or the feed's `address`; times are ISO 8601 in UTC, or the feed's
    own words where they are no time. Costs about a millisecond per entry.
    An entry on which the parser fails takes none with it. Raises NotAFeed.
    """
    body, content_type = _in_a_text_encoding(body, content_type)
    try:
        return _feed(body, content_type, address)
    except (NotAFeed, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 (what a parser raises on foreign bytes has no end)
        entries = _one_by_one(body, address)
        if not entries:
            raise NotAFeed(f"its XML cannot be read: {_named(error)}") from None
        return Feed(entries, f"an entry cannot be read: {_named(error)}")


def _feed(body: bytes, content_type: str | None, address: str) -> Feed:
    parsed = _parsed(body, content_type)
    if not parsed.get("version") and not parsed.entries:
        reason = _problem(parsed)
        begins = " ".join(body[:200].decode("utf-8", "replace").split())[:60]
        raise NotAFeed(f"it is no RSS or Atom feed{f' ({reason})' if reason else ''}; it begins with {begins!r}")
    problem, whole = _problem(parsed), parsed.entries
    if problem and not _ENDS.search(unmarked(body)[-1000:]):
        if not whole:
            raise NotAFeed(f"its XML is broken and no entry could be read: {problem}")
        if _is_open(body):
            whole, problem = whole[:-1], f"{problem}; the feed is cut off, and its last entry is left out"
    atom = str(parsed.get("version")).startswith("atom")
    title = _words(_text(parsed.feed, "title"), parsed.feed.get("title_detail"), atom)
    feed = {"title": title, "link": _absolute(address, _text(parsed.feed, "link"))}
    shown = _present({name: value for name, value in feed.items() if len(value or "") <= LONGEST_FEED_MEMBER})
    around = _Around(address, atom, shown)
    return Feed([_read(entry, around) for entry in reversed(whole)], problem)


def _is_open(body: bytes) -> bool:
    """True if nothing closes the last entry."""
    text = unmarked(body)
    begun, closed = (max((found.start() for found in sign.finditer(text)), default=-1) for sign in (_BEGINS, _CLOSES))
    return closed < begun


def _in_a_text_encoding(body: bytes, content_type: str | None) -> tuple[bytes, str | None]:
    """Both without a declaration of what is no encoding of text: feedparser would try it."""
    charset = CHARSET.search(content_type or "")
    if content_type and charset and not is_text_encoding(charset[1]):
        content_type = CHARSET.sub("", content_type)
    declared = _DECLARED.match(body[:1000])
    if declared and not is_text_encoding(declared[1].decode("latin-1")):
        body = body[declared.end() :]
    return body, content_type


def _parsed(body: bytes, content_type: str | None) -> Any:
    headers = {"content-type": content_type} if content_type else {}
    # Its ways of cleaning HTML take the square of what they clean.
    parse = partial(feedparser.parse, response_headers=headers, sanitize_html=False, resolve_relative_uris=False)
    try:
        # Only a file object is sure to be taken for content: of text and bytes feedparser would open the address.
        return parse(io.BytesIO(body))
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001  # its lenient parser stumbles over references to what is no character
        return parse(io.BytesIO(_REFERENCE.sub(_character, body)))


def _one_by_one(body: bytes, address: str) -> list[Entry]:
    """The entries, each read as if it were the only one; none if there is nothing that looks like one.

    Where the parser fails on the feed around them already, only the feed's root is kept of it.
    """
    around, *pieces = _BEGINS.split(body)
    root = _ROOT.search(around)
    if root is None:
        return []
    end = b"</channel></rss>" if root[2].lower() == b"rss" else b"</" + root[1] + root[2] + b">"
    try:
        _feed(around + end, None, address)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001
        around = root[0] + (b"<channel>" if root[2].lower() == b"rss" else b"")
    entries = []
    for piece in reversed(pieces):
        close = _CLOSES.search(piece)
        if close is None:  # cut off
            continue
        own = piece[: close.end()]
        try:
            entries += _feed(around + own + end, None, address).entries
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001
            entries.append(_unreadable(own, error))
    return entries


def _character(reference: re.Match[bytes]) -> bytes:
    text = reference[1].decode().lower()
    number = int(text[1:], 16) if text[0] == "x" else int(text)
    return reference[0] if 0 < number < 0xD800 or 0xDFFF < number <= 0x10FFFF else b"&#xFFFD;"


def _read(entry: Mapping[str, Any], feed: _Around) -> Entry:
    try:
        return Entry(_encoded(_entry(entry, feed)))
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 (elements may be named like what the parser keeps for itself)
        return _unreadable(repr(dict(entry)).encode("utf-8", "backslashreplace"), error)


def _unreadable(content: bytes, error: Exception) -> Entry:
    return Entry(content[:_UNREADABLE_KEPT], f"unreadable_entry;the parser fails on it: {_named(error)}")


def _named(error: Exception) -> str:
    return f"{type(error).__name__} {str(error)[:200]}"


def _entry(entry: Mapping[str, Any], feed: _Around) -> dict[str, Any]:
    contents = [content for content in entry.get("content", ()) if content.get("value")]
    content = _clean(contents[0]["value"], contents[0], feed) if contents else None
    summary = _text(entry, "summary")
    detail = entry.get("summary_detail") if summary else contents[0] if contents else None
    raw = summary or (contents[0]["value"] if contents else None)
    link, own = _text(entry, "link"), _text(entry, "id")
    if own and own == link and ("/" in own or own[0] == "?"):  # a guid that is the entry's address, and no mere name
        own = _absolute(feed.address, own)
    found = _present(
        {
            "title": _words(_text(entry, "title"), entry.get("title_detail"), feed.atom),
            "link": _absolute(feed.address, link),
            "summary": _clean(raw, detail, feed),
            "text": _words(raw, detail, feed.atom),
            "content": content,
            "author": _name(_text(entry, "author"), feed),
            "published": _time(entry.get("published_parsed"), _text(entry, "published")),
            "updated": _time(entry.get("updated_parsed"), _text(entry, "updated")) if "updated" in entry else None,
            "tags": [_name(tag["term"], feed) for tag in entry.get("tags", ()) if tag.get("term")],
            "enclosures": [
                _absolute(feed.address, item["href"]) for item in entry.get("enclosures", ()) if item.get("href")
            ],
        }
    )
    own = own or found.get("link") or hashlib.sha256(_encoded(found)).hexdigest()
    return {"id": own, **found} | ({"feed": feed.shown} if feed.shown else {})


def _absolute(address: str, link: str | None) -> str | None:
    """A link as it is if it has a scheme: resolving it would write some differently, and it may be a key."""
    return link if not link or _SCHEME.match(link) else joined(address, link)


def _text(members: Mapping[str, Any], name: str) -> str | None:
    value = members.get(name)
    return value if isinstance(value, str) else None


def _is_html(detail: object) -> bool:
    kind = detail.get("type") if isinstance(detail, dict) else None
    return kind in {None, "text/html", "application/xhtml+xml"}


def _clean(value: str | None, detail: object, feed: _Around) -> str | None:
    if not value or not _is_html(detail):
        return value
    base = detail.get("base") if isinstance(detail, dict) else None
    return without_active_parts(value, _absolute(feed.address, base if isinstance(base, str) else "") or feed.address)


def _words(value: str | None, detail: object, atom: bool) -> str | None:
    """Text without markup. RSS does not say whether it is HTML: references are read in any case."""
    if not value:
        return None
    if _is_html(detail):
        return text_of(value)
    return " ".join((value if atom else without_references(value)).split())


def _name(value: Any, feed: _Around) -> Any:
    return without_references(value) if isinstance(value, str) and not feed.atom else value


def _present(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value}


def _time(moment: object, written: str | None) -> str | None:
    if not isinstance(moment, struct_time) or (ahead := _hours_ahead(written or "", moment.tm_year)) is None:
        return written
    try:
        seconds = calendar.timegm(moment) - 3600 * ahead
        return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return written


def _hours_ahead(written: str, year: int) -> int | None:
    """The hours by which feedparser's time of that year is ahead of UTC; None where it is not the one that is written.

    It takes seconds since 1970, or weeks, for years, 31 February for 2 March, and reads past what it does not know:
    names of zones, PM.
    """
    text = written.strip()
    if text and (_IN_FIGURES.fullmatch(text) or text[:4].isdecimal()):
        return 0 if (found := _ISO.fullmatch(text)) and _is_date(found) else None
    clock = _AFTER_CLOCK.search(text)
    zone = _ZONE.fullmatch(clock[1].strip()) if clock else None
    if clock and zone is None:
        return None
    if (named := _YEAR.search(text)) and abs(int(named[0]) - year) > 1:  # another one in UTC
        return None
    return _HOURS_AHEAD[zone["unknown"].upper()] if zone and zone["unknown"] else 0


def _is_date(found: re.Match[str]) -> bool:
    try:
        datetime.date(int(found[1]), int(found[2] or found[4] or 1), int(found[3] or found[5] or 1))
    except ValueError:
        return False
    return True


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
    """The fault in the XML, if any; a wrong or missing declaration of encoding or type does no harm."""
    error = parsed.get("bozo_exception")
    harmless = feedparser.exceptions.CharacterEncodingOverride, feedparser.exceptions.NonXMLContentType
    if not parsed.get("bozo") or isinstance(error, harmless):
        return None
    return " ".join(str(error).split())[:200] or type(error).__name__
