"""Feeds are read in a process of their own, bounded in time and memory: a parser of what strangers write has neither.

A feed of a few hundred bytes can keep feedparser busy for hours, inside one regular expression, where no thread can be
stopped; and a text of a megabyte may become gigabytes.
"""

import asyncio
import os
import resource
import signal
import sys
from typing import NamedTuple

import msgspec

from producers.rss.entries import Feed, NotAFeed, read_feed

CPU_SECONDS = 10
CPU_SECONDS_PER_MIB = 10
"""Of CPU time. Some 1.5 s are needed for a MiB."""

MEMORY_BYTES = 512 * 1_048_576
MEMORY_PER_BYTE = 64
OUTPUT_PER_BYTE = 16
"""A feed becomes about its own size: title and link are repeated in each entry, and a summary is there as text too."""

WALL_FACTOR = 10
"""The wall clock only stops what waits instead of computing: on a busy machine CPU time takes longer."""

_MIB = 1_048_576


class _Question(NamedTuple):
    body: bytes
    content_type: str | None
    address: str
    cpu_seconds: int
    memory_bytes: int


async def read_apart(body: bytes, content_type: str | None = None, address: str = "") -> Feed:
    """Call `read_feed` in that process. Raises NotAFeed, also where it takes more than a feed of its length may."""
    seconds = CPU_SECONDS + CPU_SECONDS_PER_MIB * len(body) // _MIB
    memory = MEMORY_BYTES + MEMORY_PER_BYTE * len(body)
    # Not what is in our environment: there are secrets in it.
    environment = {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-c", "from producers.rss.process import serve; serve()"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=environment,
    )
    try:
        async with asyncio.timeout(seconds * WALL_FACTOR):
            question = _Question(body, content_type, address, seconds, memory)
            said, _ = await process.communicate(msgspec.msgpack.encode(question))
    except TimeoutError:
        raise NotAFeed(f"reading it took longer than {seconds * WALL_FACTOR} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode in {-signal.SIGXCPU, -signal.SIGKILL}:
        raise NotAFeed(f"reading it took more than the {seconds} s of CPU time that a feed of its length may take")
    if process.returncode != 0:
        raise NotAFeed(f"its XML cannot be read: the parser ended with {process.returncode}")
    answer: Feed | str = msgspec.msgpack.decode(said, type=Feed | str)
    if isinstance(answer, str):
        raise NotAFeed(answer)
    return answer


def serve() -> None:
    """Read a question from standard input; write the feed, or why it is none, to standard output. Within the bounds."""
    question = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=_Question)
    size = len(question.body)
    _bound(resource.RLIMIT_CPU, question.cpu_seconds)
    _bound(resource.RLIMIT_AS, question.memory_bytes)
    _bound(resource.RLIMIT_CORE, 0)
    answer: Feed | str
    try:
        answer = feed = read_feed(question.body, question.content_type, question.address)
        if sum(len(entry.value) for entry in feed.entries) > _MIB + OUTPUT_PER_BYTE * size:
            answer = f"it becomes more than {OUTPUT_PER_BYTE} times its {size:,} bytes"
    except NotAFeed as error:
        answer = str(error)
    except MemoryError:
        answer = f"reading its {size:,} bytes needs more than {question.memory_bytes:,} bytes of memory"
    sys.stdout.buffer.write(msgspec.msgpack.encode(answer))


def _bound(what: int, value: int) -> None:
    _, hard = resource.getrlimit(what)
    resource.setrlimit(what, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))
