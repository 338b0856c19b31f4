"""HTML of strangers: without what is active in it, or as plain text. Pure; it takes no longer than the length explains.

Every look ahead ends at the next `<` or happens once: a parser of HTML that is kind to mistakes looks again from each
of them, and eight thousand half-open tags take it seconds.
"""

import re
from collections.abc import Iterator
from html import escape, unescape
from typing import NamedTuple
from urllib.parse import urljoin

from feedparser.sanitizer import _HTMLSanitizer as HTMLSanitizer

_KEPT = HTMLSanitizer.acceptable_elements
# Without what is a language of its own, or an address besides those below.
_KEPT_ATTRIBUTES = HTMLSanitizer.acceptable_attributes - {
    *("style", "action", "background", "data", "datasrc", "dynsrc", "icon", "lowsrc", "ping", "template", "urn", "vrml")
}
_ADDRESSES = {"cite", "href", "longdesc", "poster", "src"}
_SCHEMES = {"http", "https", "mailto", "tel", "ftp", "sms", "magnet", "xmpp", "irc", "news"}
_DROPPED_WHOLE = HTMLSanitizer.unacceptable_elements_with_end_tag
_BLOCKS = {"p", "div", "br", "hr", "li", "tr", "td", "th", "dt", "dd", "pre", "blockquote"} | {
    f"h{n}" for n in range(1, 7)
}
LONGEST_BASE = 2000
"""Characters of an address that others are relative to: a longer one would be written once per link."""

_TAG = re.compile(r"<(/?)([a-z][a-z0-9:-]*)((?:[^<>\"']|\"[^\"<]*\"|'[^'<]*')*)>", re.IGNORECASE)
_BROKEN_TAG = re.compile(r"<(/?)([a-z][a-z0-9:-]*)[^<>]*()>", re.IGNORECASE)
_DECLARATION = re.compile(r"<[!?][^<>]*>")
_ENDS = {name: re.compile(f"</{name}", re.IGNORECASE) for name in _DROPPED_WHOLE}
_ATTRIBUTE = re.compile(r"([^\s=<>\"'/]+)(?:\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s\"'<>]+)))?")
_BARE_AMPERSAND = re.compile(r"&(?!#[0-9]{1,9};|#x[0-9a-f]{1,9};|[a-z][a-z0-9]{0,31};)", re.IGNORECASE)
_WHOLE_REFERENCE = re.compile(r"&(?:#[0-9]{1,7}|#x[0-9a-f]{1,6}|[a-z][a-z0-9]{1,31});", re.IGNORECASE)
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]{0,30}):", re.IGNORECASE)
_IGNORED_IN_ADDRESSES = re.compile(r"[\x00-\x20\x7f-\x9f\u200b-\u200f\ufeff]+")
_ENDLESS_NUMBER = re.compile(r"&#(?:[0-9]{8,}|x[0-9a-f]{8,});?", re.IGNORECASE)


class _Tag(NamedTuple):
    name: str
    closing: bool
    attributes: str


def without_active_parts(markup: str, base: str = "") -> str:
    """HTML with the elements and attributes that only show something; addresses made absolute by `base`."""
    base = base if len(base) <= LONGEST_BASE else ""
    pieces = []
    for token in _tokens(markup):
        if isinstance(token, str):
            pieces.append(_BARE_AMPERSAND.sub("&amp;", token).replace("<", "&lt;"))
        elif token.name in _KEPT:
            pieces.append(f"</{token.name}>" if token.closing else f"<{token.name}{_attributes(token, base)}>")
    return "".join(pieces)


def text_of(markup: str) -> str:
    """The text that a reader of the HTML sees, on one line."""
    pieces = []
    for token in _tokens(markup):
        if isinstance(token, str):
            pieces.append(_unescaped(token))
        elif token.name in _BLOCKS and not token.closing:  # <p>one</p><p>two</p> are two words
            pieces.append(" ")
    return " ".join("".join(pieces).split())


def without_references(text: str) -> str:
    """Text with the characters that its references stand for; only whole ones: `?a=1&copy=2` has none."""
    return _WHOLE_REFERENCE.sub(lambda found: unescape(found[0]), text)


def _tokens(markup: str) -> Iterator[str | _Tag]:
    """Text and tags. Comments, declarations, scripts and styles are left out; a `<` that begins nothing is text."""
    done, at = 0, markup.find("<")
    while at >= 0:
        tag = None
        if found := _TAG.match(markup, at) or _BROKEN_TAG.match(markup, at):
            end, name = found.end(), found[2].lower()
            if name in _DROPPED_WHOLE and not found[1]:
                close = _ENDS[name].search(markup, end)
                end = close.start() if close else len(markup)
            else:
                tag = _Tag(name, bool(found[1]), found[3])
        elif markup.startswith("<!--", at):
            close_at = markup.find("-->", at + 4)
            end = close_at + 3 if close_at >= 0 else len(markup)
        elif skipped := _DECLARATION.match(markup, at):
            end = skipped.end()
        else:
            at = markup.find("<", at + 1)
            continue
        if done < at:
            yield markup[done:at]
        if tag:
            yield tag
        done, at = end, markup.find("<", end)
    if done < len(markup):
        yield markup[done:]


def _attributes(tag: _Tag, base: str) -> str:
    written = []
    for found, *values in _ATTRIBUTE.findall(tag.attributes):
        name = found.lower()
        value = _unescaped(next(filter(None, values), ""))
        if name not in _KEPT_ATTRIBUTES or (name in _ADDRESSES and not _is_harmless(value)):
            continue
        if base and name in _ADDRESSES:
            value = joined(base, value)
        written.append(f' {name}="{escape(value)}"')
    return "".join(written) + (" /" if tag.attributes.endswith("/") else "")


def _is_harmless(address: str) -> bool:
    scheme = _SCHEME.match(_IGNORED_IN_ADDRESSES.sub("", address[:200]))
    return scheme is None or scheme[1].lower() in _SCHEMES


def joined(base: str, address: str) -> str:
    """An address that may be relative to another, absolute; as it is where that cannot be."""
    try:
        return urljoin(base, address)
    except ValueError:
        return address


def _unescaped(text: str) -> str:
    # Python refuses to read a number of thousands of digits.
    return unescape(_ENDLESS_NUMBER.sub("\ufffd", text))
