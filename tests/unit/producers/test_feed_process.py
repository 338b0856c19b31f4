"""What a feed makes the parser do is bounded: the process that reads it ends, and says why."""

import asyncio
import json
from typing import Any

import pytest

from producers.rss import process as feed_process
from producers.rss.entries import NotAFeed
from producers.rss.process import read_apart

ITEM = b"<item><guid>1</guid><title>One</title></item>"


def rss(items: bytes = ITEM, before: bytes = b"") -> bytes:
    return before + b'<rss version="2.0"><channel><title>News</title>' + items + b"</channel></rss>"


async def test_a_feed_parsed_in_its_own_process_gives_the_same_entries() -> None:
    feed = await read_apart(rss(), "application/rss+xml")
    assert [json.loads(entry.value)["title"] for entry in feed.entries] == ["One"]
    assert feed.problem is None


async def test_a_body_that_is_no_feed_is_an_error_with_its_reason() -> None:
    with pytest.raises(NotAFeed, match="it is no RSS or Atom feed"):
        await read_apart(b"<html>")


async def test_a_feed_that_keeps_the_parser_busy_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand declarations of an encoding make one regular expression of feedparser's look for hours."""
    monkeypatch.setattr(feed_process, "CPU_SECONDS", 1)
    monkeypatch.setattr(feed_process, "WALL_FACTOR", 1_000)  # however busy the machine
    with pytest.raises(NotAFeed, match="more than the 2 s of CPU time"):
        await read_apart(rss(before=b"<?xml " + b'encoding="a" ' * 10_000))


async def test_a_feed_that_becomes_many_times_its_size_is_given_up() -> None:
    """Every entry repeats the title of its feed."""
    with pytest.raises(NotAFeed, match=r"it becomes more than 16 times its 3\d,\d+ bytes"):
        await read_apart(rss(b"<item/>" * 5000).replace(b"News", b"n" * 900))


async def test_a_feed_that_needs_many_times_its_memory_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_process, "MEMORY_BYTES", 1)
    monkeypatch.setattr(feed_process, "MEMORY_PER_BYTE", 1)
    with pytest.raises(NotAFeed, match="memory"):
        await read_apart(rss(ITEM * 50_000))


async def test_the_process_knows_nothing_of_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", "secret")
    environments = []
    spawn = asyncio.create_subprocess_exec

    async def note(*command: Any, **options: Any) -> Any:
        environments.append(options["env"])
        return await spawn(*command, **options)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", note)
    await read_apart(rss())
    assert [set(environment) for environment in environments] == [{"PYTHONPATH"}]
