"""Feeds of every dialect become JSON objects of one shape; what is no feed is named."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.rss.entries import Feed, NotAFeed, read_feed

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


def entries(body: str | bytes, content_type: str | None = None, address: str = "") -> list[dict[str, Any]]:
    feed = read_feed(body.encode() if isinstance(body, str) else body, content_type, address)
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
def test_a_feed_that_breaks_the_parser_outside_its_entries_keeps_its_entries(feed: str, broken: str) -> None:
    titles = ("<title>News</title>", "<title>Nachrichten für alle</title>")
    whole = [json.loads(entry.value)["id"] for entry in read_feed(feed.encode()).entries]
    for title in titles:
        feed = feed.replace(title, title + broken)
    found = read_feed(feed.encode())
    assert set(whole) <= {json.loads(entry.value)["id"] for entry in found.entries}


@pytest.mark.parametrize(
    "encoding", ["punycode", "idna", "hex", "zip", "rot13", "undefined", "unicode_escape", "no such"]
)
def test_a_declared_encoding_that_is_not_one_of_text_is_ignored(encoding: str) -> None:
    declared = RSS_2.replace('<?xml version="1.0"?>', f'<?xml version="1.0" encoding="{encoding}"?>').replace(
        "Old", "Öl"
    )
    for content_type in (None, "application/xml", f"application/xml; charset={encoding}"):
        assert entries(declared, content_type)[0]["title"] == "Öl"


def test_the_expansion_of_entities_is_bounded() -> None:
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
    body = f'<!DOCTYPE rss [<!ENTITY l0 "lol">{laughs}]>' + RSS_2.replace("Old", "&l11;")
    feed = read_feed(body.encode())
    assert sum(len(entry.value) for entry in feed.entries) < 10_000


@pytest.mark.parametrize("reference", ["&#xD83D;", "&#55357;", "&#x110000;", "&#99999999999999999999;"])
def test_a_reference_to_no_character_becomes_the_replacement_character(reference: str) -> None:
    feed = read_feed(RSS_2.replace("Old", f"Old {reference}").encode())
    assert values(feed)[0]["title"] == "Old \ufffd"


@given(st.binary(max_size=300))
def test_any_bytes_are_read_as_a_feed_or_refused(noise: bytes) -> None:
    for body in (noise, RSS_2.encode()[:150] + noise + RSS_2.encode()[150:]):
        try:
            read_feed(body)
        except NotAFeed:
            continue


@pytest.mark.parametrize("content_type", [None, "text/html; charset=utf-8", "text/plain", "application/octet-stream"])
@pytest.mark.parametrize(
    "body",
    [
        "<rss version='2.0'><channel><title>News</title></channel></rss>",
        "<feed xmlns='http://www.w3.org/2005/Atom'><title>News</title></feed>",
        RSS_1.partition("<item")[0] + "</rdf:RDF>",
    ],
    ids=["rss", "atom", "rdf"],
)
def test_a_feed_without_entries_is_a_feed_whatever_it_is_served_as(body: str, content_type: str | None) -> None:
    assert entries(body, content_type) == []


def test_a_mistake_in_a_feed_without_entries_is_said_and_one_that_is_cut_off_is_refused() -> None:
    body = "<rss version='2.0'><channel><title>A & B</title></channel></rss>"
    feed = read_feed(body.encode())
    assert (feed.entries, "not well-formed" in (feed.problem or "")) == ([], True)
    with pytest.raises(NotAFeed, match="no entry could be read"):
        read_feed(body[:-20].encode())


def rss_item(item: str, root: str = "version='2.0'") -> str:
    return f"<rss {root}><channel><title>News</title><link>/</link><item>{item}</item></channel></rss>"


def atom_entry(entry: str, root: str = "") -> str:
    return f"<feed xmlns='http://www.w3.org/2005/Atom' {root}><title>News</title><entry>{entry}</entry></feed>"


@pytest.mark.parametrize(
    ("body", "link", "identity"),
    [
        (rss_item("<link>/a/1?x=2#y</link>"), "https://n.example/a/1?x=2#y", "https://n.example/a/1?x=2#y"),
        (rss_item("<link>1.html</link>"), "https://n.example/blog/1.html", "https://n.example/blog/1.html"),
        (rss_item("<link>?p=1</link>"), "https://n.example/blog/feed?p=1", "https://n.example/blog/feed?p=1"),
        (rss_item("<link>//m.example/1</link>"), "https://m.example/1", "https://m.example/1"),
        (rss_item("<link>HTTP://M.example?</link>"), "HTTP://M.example?", "HTTP://M.example?"),
        (rss_item("<link>tag:1</link>"), "tag:1", "tag:1"),
        (rss_item("<link>/a</link><guid>7</guid>"), "https://n.example/a", "7"),
        (rss_item("<guid>7</guid>"), "https://n.example/blog/7", "7"),
        (rss_item("<guid>/a/7</guid>"), "https://n.example/a/7", "https://n.example/a/7"),
        (rss_item("<guid isPermaLink='false'>/a/7</guid><link>/b</link>"), "https://n.example/b", "/a/7"),
        (rss_item("<link>1</link>", "version='2.0' xml:base='/x/'"), "https://n.example/x/1", "https://n.example/x/1"),
        (rss_item("<link>1</link>", "version='2.0' xml:base='http://m.example/x/'"), "http://m.example/x/1",
         "http://m.example/x/1"),
        (atom_entry("<id>urn:1</id><link href='../1'/>", "xml:base='a/b/'"), "https://n.example/blog/a/1", "urn:1"),
        (atom_entry("<link href='1'/>", "xml:base='http://m.example/'").replace("<entry>", "<entry xml:base='e/'>"),
         "http://m.example/e/1", "http://m.example/e/1"),
    ],
)  # fmt: skip
def test_a_relative_link_is_absolute_by_its_base_or_the_feeds_address(body: str, link: str, identity: str) -> None:
    [entry] = entries(body, None, "https://n.example/blog/feed")
    assert (entry["link"], entry["id"]) == (link, identity)


def test_every_address_in_an_entry_is_absolute() -> None:
    body = rss_item(
        "<guid>1</guid><enclosure url='/a.mp3' type='audio/mpeg' length='1'/>"
        "<description>&lt;img src='i.png'&gt; &lt;a href='/x'&gt;x&lt;/a&gt;</description>"
    )
    [entry] = entries(body, None, "https://n.example/blog/feed")
    assert (entry["enclosures"], entry["feed"]["link"]) == (["https://n.example/a.mp3"], "https://n.example/")
    assert entry["summary"] == '<img src="https://n.example/blog/i.png"> <a href="https://n.example/x">x</a>'
    [entry] = entries(body)
    assert (entry["enclosures"], entry["feed"]["link"]) == (["/a.mp3"], "/")


@pytest.mark.parametrize(
    ("written", "title"),
    [
        ("Salt &#038; Pepper", "Salt & Pepper"),
        ("Salt &amp; Pepper", "Salt & Pepper"),
        ("Salt &amp;#038; Pepper", "Salt & Pepper"),
        ("Salt &amp;amp; Pepper", "Salt & Pepper"),
        ("<![CDATA[Salt &#038; Pepper]]>", "Salt & Pepper"),
        ("<![CDATA[Salt & Pepper &hellip; &rsquo;24 &#x1F9C2;]]>", "Salt & Pepper … ’24 \U0001f9c2"),
        ("It&amp;apos;s 2 &amp;plus; 2", "It's 2 + 2"),
        ("<![CDATA[<b>Salt</b> &amp; <i>Pepper</i>]]>", "Salt & Pepper"),
        ("&lt;em&gt;Salt&lt;/em&gt;\n  and Pepper", "Salt and Pepper"),
        ("1 &lt; 2 and 3 &gt; 2", "1 < 2 and 3 > 2"),
        ("The &lt;title&gt; element", "The <title> element"),
        ("/find?a=1&amp;copy=2", "/find?a=1&copy=2"),
        ("&amp;unknown; &amp; &amp;#99999999999;", "&unknown; & &#99999999999;"),
    ],
)
def test_the_title_of_an_rss_entry_is_what_its_readers_see(written: str, title: str) -> None:
    [entry] = entries(rss_item(f"<title>{written}</title>"))
    assert entry["title"] == title


@pytest.mark.parametrize(
    ("written", "title"),
    [
        ("<title>Salt &amp; Pepper</title>", "Salt & Pepper"),
        ("<title type='text'>Use &amp;amp; and &lt;b&gt; so&lt;/b&gt;</title>", "Use &amp; and <b> so</b>"),
        ("<title type='html'>Salt &amp;amp; &lt;b&gt;Pepper&lt;/b&gt;</title>", "Salt & Pepper"),
        ("<title type='html'><![CDATA[Salt &#038; Pepper]]></title>", "Salt & Pepper"),
        ("<title type='xhtml'><div xmlns='http://www.w3.org/1999/xhtml'>Salt &amp; <b>Pepper</b></div></title>",
         "Salt & Pepper"),
        ("<title type='html'>1 &amp;lt; 2</title>", "1 < 2"),
    ],
)  # fmt: skip
def test_the_title_of_an_atom_entry_is_what_its_type_says(written: str, title: str) -> None:
    [entry] = entries(atom_entry(written))
    assert entry["title"] == title


def test_names_in_rss_are_without_references_too() -> None:
    item = "<dc:creator>Dolce &amp;amp; Gabbana</dc:creator><category><![CDATA[Food &amp; Drink]]></category>"
    body = rss_item(item, "version='2.0' xmlns:dc='http://purl.org/dc/elements/1.1/'").replace(
        "News", "Q &amp;#038; A", 1
    )
    [entry] = entries(body)
    assert (entry["author"], entry["tags"], entry["feed"]["title"]) == ("Dolce & Gabbana", ["Food & Drink"], "Q & A")
    [entry] = entries(atom_entry("<author><name>a &amp;amp; b</name></author><category term='c &amp;amp; d'/>"))
    assert (entry["author"], entry["tags"]) == ("a &amp; b", ["c &amp; d"])


def test_a_feed_that_is_cut_off_gives_its_whole_entries_and_says_so() -> None:
    feed = read_feed(RSS_2[: RSS_2.index("some day")].encode())
    assert [entry["id"] for entry in values(feed)] == ["2"]
    assert "the feed is cut off, and its last entry is left out" in (feed.problem or "")


@pytest.mark.parametrize(
    "junk", ["<script>count()</script>", "<br>", "junk", "<", "\0\0", "<!-- served in 1 s -->\n<div>" + "x" * 2000]
)
@pytest.mark.parametrize("whole", [RSS_2, RSS_1, ATOM, RSS_2.removesuffix("</channel></rss>")])
def test_what_follows_the_last_entry_takes_none_away(whole: str, junk: str) -> None:
    feed = read_feed((whole + junk).encode())
    assert [entry["id"] for entry in values(feed)] == [entry["id"] for entry in values(read_feed(whole.encode()))]
    assert feed.problem


@pytest.mark.parametrize(
    ("written", "published"),
    [
        ("1706745600", None),
        ("1706745600123", None),
        ("2024-W05", None),
        ("2024-366", None),
        ("-0001-01-01T00:00:00Z", None),
        ("+10000-01-01T00:00:00Z", None),
        ("Sat, 01 Jan 0001 00:00:00 +1400", None),
        ("01/02/2024", None),
        ("2024-12-31T23:59:60Z", "2025-01-01T00:00:00Z"),
        ("2024-01-01T05:00:00+14:00", "2023-12-31T15:00:00Z"),
        ("20240131", "2024-01-31T00:00:00Z"),
        ("2024-01-31 10:00:00.5", "2024-01-31T10:00:00Z"),
        ("Wed, 31 Jan 24 10:00:00 +0100", "2024-01-31T09:00:00Z"),
        ("Wed, 31 Jan 2024 10:00:00 GMT", "2024-01-31T10:00:00Z"),
        *((f"Wed, 31 Jan 2024 10:00:00 {zone}", None) for zone in ("+2500", "PM", "IST", "UTC+02:00", "+0100 PM")),
        ("Wed, 31 Jan 2024 10:00:00 CET", "2024-01-31T09:00:00Z"),
        ("Wed, 31 Jul 2024 10:00:00 CEST", "2024-07-31T08:00:00Z"),
        ("Wed, 31 Jan 2024 10:00 PST", "2024-01-31T18:00:00Z"),
        ("Wed, 31 Jan 2024 10:00:00 GMT+0200", "2024-01-31T08:00:00Z"),
        ("Wed, 31 Jan 2024 10:00:00 +0000 (UTC)", "2024-01-31T10:00:00Z"),
        ("Wed Jan 31 10:00:00 2024", "2024-01-31T10:00:00Z"),
        ("31 Jan 2024", "2024-01-31T00:00:00Z"),
        ("2024-02-30", None),
        ("2024-13-01T10:00:00Z", None),
        ("20240231", None),
        ("2024-13", None),
        ("2024-01-31T10:75:00Z", None),
        ("2024-01-31 10:00:00 PM", None),
        ("2024-01-31 10:00:00 CET", None),
        ("2024年1月31日", None),
        ("2004년 05월 28일  01:31:15", None),
        ("2024-01-31T10:00+0200", "2024-01-31T08:00:00Z"),
    ],
)
def test_a_time_is_the_one_that_is_written_or_stays_as_it_is(written: str, published: str | None) -> None:
    [entry] = entries(f'<rss version="2.0"><channel><item><pubDate>{written}</pubDate></item></channel></rss>')
    assert entry["published"] == (published or written)


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
def test_a_body_that_is_no_feed_is_refused_with_its_beginning(body: bytes) -> None:
    """Of text, feedparser would open the file or address that it looks like."""
    with pytest.raises(NotAFeed, match="it is no RSS or Atom feed"):
        read_feed(body)
