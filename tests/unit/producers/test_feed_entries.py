"""Feeds of every dialect become JSON objects of one shape; what is no feed is named."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.feed_entries import Feed, NotAFeed, read_feed

ITEMS = (
    "<item><title>New &amp; shiny</title><guid>2</guid><link>http://n/2</link>"
    "<description>&lt;p&gt;Hello&lt;/p&gt;&lt;p&gt;there&lt;/p&gt;</description><author>ann@n.example (Ann)</author>"
    "<pubDate>Mon, 06 Sep 2021 12:00:00 +0200</pubDate><category>a</category><category>b</category></item>"
    "<item><title>Old</title><link>http://n/1</link><pubDate>some day</pubDate></item>"
)
RSS_2 = (
    f'<?xml version="1.0"?><rss version="2.0"><channel><title>News</title><link>http://n/</link>{ITEMS}</channel></rss>'
)
RSS_09 = RSS_2.replace('version="2.0"', 'version="0.91"')
RSS_1 = (
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns="http://purl.org/rss/1.0/" '
    'xmlns:dc="http://purl.org/dc/elements/1.1/"><channel rdf:about="http://n/"><title>News</title></channel>'
    '<item rdf:about="http://n/2"><title>New</title><link>http://n/2</link><dc:date>2021-09-06T12:00:00+02:00</dc:date>'
    "</item></rdf:RDF>"
)
ATOM = (
    '<feed xmlns="http://www.w3.org/2005/Atom"><title>Nachrichten für alle</title><entry><id>urn:n:2</id>'
    '<title>Neu</title><link href="http://n/2"/><content type="html">&lt;b&gt;fett&lt;/b&gt;</content>'
    "<published>2021-09-06T12:00:00+02:00</published><updated>2021-09-07T00:00:00Z</updated>"
    "<author><name>Ann</name></author></entry></feed>"
)


def values(feed: Feed) -> list[dict[str, Any]]:
    assert {entry.problem for entry in feed.entries} <= {None}
    return [json.loads(entry.value) for entry in feed.entries]


def entries(body: str | bytes, content_type: str | None = None) -> list[dict[str, Any]]:
    feed = read_feed(body.encode() if isinstance(body, str) else body, content_type)
    assert feed.problem is None
    return values(feed)


@pytest.mark.parametrize("body", [RSS_2, RSS_09])
def test_an_rss_feed_is_read_oldest_entry_first(body: str) -> None:
    old, new = entries(body)
    assert old == {
        "id": "http://n/1", "title": "Old", "link": "http://n/1", "published": "some day",
        "feed": {"title": "News", "link": "http://n/"},
    }  # fmt: skip
    assert new["id"] == "2"
    assert (new["title"], new["text"]) == ("New & shiny", "Hello there")
    assert (new["published"], new["tags"]) == ("2021-09-06T10:00:00Z", ["a", "b"])
    assert new["summary"] == "<p>Hello</p><p>there</p>"


def test_an_rss_1_feed_is_read() -> None:
    [entry] = entries(RSS_1)
    assert (entry["id"], entry["title"], entry["updated"]) == ("http://n/2", "New", "2021-09-06T10:00:00Z")


def test_an_atom_feed_is_read_in_the_encoding_that_the_server_declares() -> None:
    [entry] = entries(ATOM.encode("latin-1"), "application/atom+xml; charset=iso-8859-1")
    assert (entry["id"], entry["author"], entry["text"]) == ("urn:n:2", "Ann", "fett")
    assert (entry["published"], entry["updated"]) == ("2021-09-06T10:00:00Z", "2021-09-07T00:00:00Z")
    assert entry["feed"]["title"] == "Nachrichten für alle"


def test_an_entry_without_id_and_link_has_the_same_id_each_time_until_it_changes() -> None:
    def identity(description: str, title: str = "News") -> str:
        body = (
            f"<rss version='2.0'><channel><title>{title}</title><item><description>{description}</description></item>"
        )
        [entry] = entries(f"{body}</channel></rss>")
        return str(entry["id"])

    assert identity("a") == identity("a") == identity("a", "Renamed") != identity("b")


def test_scripts_are_left_out() -> None:
    body = RSS_2.replace("&lt;p&gt;there", "&lt;script&gt;alert(1)&lt;/script&gt;&lt;p&gt;there")
    assert "alert" not in entries(body)[1]["summary"]


@pytest.mark.parametrize(
    "hostile",
    [
        *("&lt;![ ", "&lt;a " * 8000, "&lt;![CDATA[x", "&lt;!-- ", "&lt;" * 8000, "&amp;#" + "9" * 5000 + ";"),
        *("a." * 20_000, "a" * 50_000, "&lt;a href='http://[x'>", "<links>x</links>", "<category>x</category>" * 500),
        *("<updated_parsed>x</updated_parsed>", "<authors a='b'/><author>y</author>", "<tags>x</tags>"),
    ],
    ids=lambda text: str(text)[:20],
)
@pytest.mark.parametrize("element", ["description", "title", "author", "link", "category", "pubDate", "guid", "links"])
def test_a_hostile_entry_leaves_its_neighbours_whole(element: str, hostile: str) -> None:
    """Each is stored or a failure with its bytes; the last one is a piece of XML of its own."""
    own = hostile if hostile.startswith("<") else f"<{element}>{hostile}</{element}>"
    feed = read_feed(RSS_2.replace("<title>Old</title>", f"<title>Old</title>{own}").encode())
    bad, good = feed.entries
    assert good.problem is None
    assert json.loads(good.value)["title"] == "New & shiny"
    assert bad.value
    assert bad.problem is None or bad.problem.startswith("unreadable_entry;")


def test_an_entry_on_which_the_parser_fails_is_kept_with_its_bytes_in_its_place() -> None:
    feed = read_feed(RSS_2.replace("<title>Old</title>", "<authors a='b'/><author>y</author>").encode())
    assert [entry.problem for entry in feed.entries] == [
        "unreadable_entry;the parser fails on it: KeyError -1",
        None,
    ]
    assert b"<item><authors a='b'/><author>y</author><link>" in feed.entries[0].value
    assert "an entry cannot be read" in (feed.problem or "")


BROKEN = ("<authors a='b'/><author>y</author>", "<gml:pos xmlns:gml='http://www.opengis.net/gml'/>")


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize(
    "feed", [RSS_2, RSS_1, ATOM, RSS_2.replace("</channel></rss>", "")], ids=["2", "1", "atom", "cut"]
)
def test_what_the_parser_fails_on_around_the_entries_takes_none_with_it(feed: str, broken: str) -> None:
    titles = ("<title>News</title>", "<title>Nachrichten für alle</title>")
    whole = [json.loads(entry.value)["id"] for entry in read_feed(feed.encode()).entries]
    for title in titles:
        feed = feed.replace(title, title + broken)
    found = read_feed(feed.encode())
    assert set(whole) <= {json.loads(entry.value)["id"] for entry in found.entries}


@pytest.mark.parametrize(
    "encoding", ["punycode", "idna", "hex", "zip", "rot13", "undefined", "unicode_escape", "no such"]
)
def test_what_is_declared_and_is_no_encoding_of_text_is_not_tried(encoding: str) -> None:
    declared = RSS_2.replace('<?xml version="1.0"?>', f'<?xml version="1.0" encoding="{encoding}"?>').replace(
        "Old", "Öl"
    )
    for content_type in (None, "application/xml", f"application/xml; charset={encoding}"):
        assert entries(declared, content_type)[0]["title"] == "Öl"


def test_what_entities_become_is_bounded() -> None:
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
    body = f'<!DOCTYPE rss [<!ENTITY l0 "lol">{laughs}]>' + RSS_2.replace("Old", "&l11;")
    feed = read_feed(body.encode())
    assert sum(len(entry.value) for entry in feed.entries) < 10_000


@pytest.mark.parametrize("reference", ["&#xD83D;", "&#55357;", "&#x110000;", "&#99999999999999999999;"])
def test_a_reference_to_no_character_becomes_the_replacement_character(reference: str) -> None:
    feed = read_feed(RSS_2.replace("Old", f"Old {reference}").encode())
    assert values(feed)[0]["title"] == "Old \ufffd"


@given(st.binary(max_size=300))
def test_any_bytes_are_a_feed_or_none(noise: bytes) -> None:
    for body in (noise, RSS_2.encode()[:150] + noise + RSS_2.encode()[150:]):
        try:
            read_feed(body)
        except NotAFeed:
            continue


def test_a_feed_without_entries_is_a_feed() -> None:
    assert entries("<rss version='2.0'><channel><title>News</title></channel></rss>") == []


def test_a_feed_that_is_cut_off_gives_its_whole_entries_and_says_so() -> None:
    feed = read_feed(RSS_2[: RSS_2.index("some day")].encode())
    assert [entry["id"] for entry in values(feed)] == ["2"]
    assert "the feed is cut off, and its last entry is left out" in (feed.problem or "")


def test_a_feed_with_a_mistake_inside_gives_all_its_entries_and_says_so() -> None:
    feed = read_feed(RSS_2.replace("&amp;", "&").encode())
    assert [entry["id"] for entry in values(feed)] == ["http://n/1", "2"]
    assert "not well-formed" in (feed.problem or "")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html><body>Not here</body></html>",
        b'{"a": 1}',
        b"/etc/hostname",
        b"http://127.0.0.1:9/feed",
        b"\x00\xff" * 99,
    ],
)
def test_what_is_no_feed_is_named_with_its_beginning(body: bytes) -> None:
    """Of text, feedparser would open the file or address that it looks like."""
    with pytest.raises(NotAFeed, match="it is no RSS or Atom feed"):
        read_feed(body)
