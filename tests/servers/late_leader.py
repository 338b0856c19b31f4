"""A proxy before a broker that refuses the first records of each partition, as not its leader, and takes the next ones.

A broker does so while it takes a partition over, as in the moment after a topic was created.
"""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

PRODUCE = 0
PRODUCE_VERSION = 10
NOT_LEADER_OR_FOLLOWER = 6
REFUSED_AFTER_SECONDS = 0.3
"""Time for a producer to send more before it learns that the first records were not taken."""

LENGTH = struct.Struct(">i")
HEAD = struct.Struct(">hhih")
"""Kind of request, its version, its number, length of the client's name."""


@asynccontextmanager
async def late_leader(broker: str) -> AsyncIterator[str]:
    """The address to use in the place of the broker's."""
    host, _, port = broker.rpartition(":")
    seen = set[bytes]()
    connections, refusals = list[asyncio.Task[None]](), list[asyncio.Task[None]]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_broker, to_broker = await asyncio.open_connection(host, int(port))
        own_port = writer.get_extra_info("sockname")[1]
        advertised, own = (host.encode() + LENGTH.pack(number) for number in (int(port), own_port))
        in_order = asyncio.Lock()  # as a broker answers

        async def refuse(number: int, place: bytes) -> None:
            async with in_order:
                await asyncio.sleep(REFUSED_AFTER_SECONDS)
                _send(writer, _refusal(number, place))

        async def requests() -> None:
            while True:
                request = await _frame(reader)
                kind, version, number, name = HEAD.unpack_from(request)
                if kind == PRODUCE:
                    assert version == PRODUCE_VERSION
                    place = _place(request[HEAD.size + name :])
                    if place not in seen:
                        seen.add(place)
                        refusals.append(asyncio.create_task(refuse(number, place)))
                        continue
                _send(to_broker, request)

        async def answers() -> None:
            while True:
                answer = await _frame(from_broker)
                async with in_order:
                    _send(writer, answer.replace(advertised, own))

        try:
            await asyncio.gather(requests(), answers())
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # one side has closed
        finally:
            writer.close()
            to_broker.close()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(asyncio.create_task(serve(reader, writer)))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, *refusals, return_exceptions=True)


async def _frame(reader: asyncio.StreamReader) -> bytes:
    return await reader.readexactly(LENGTH.unpack(await reader.readexactly(LENGTH.size))[0])


def _send(writer: asyncio.StreamWriter, frame: bytes) -> None:
    writer.write(LENGTH.pack(len(frame)) + frame)


def _place(body: bytes) -> bytes:
    """Topic and partition of the one batch that librdkafka puts into a request: an array of topics, as it is sent."""
    topics = 1 + 1 + 2 + 4  # after no tags, no transactional id, acks and timeout
    partitions = topics + 1 + body[topics + 1]
    return body[topics : partitions + 1 + LENGTH.size]


def _refusal(number: int, place: bytes) -> bytes:
    problem = struct.pack(">hqqq", NOT_LEADER_OR_FOLLOWER, -1, -1, -1)
    no_details_and_tags, not_throttled, no_tags = b"\x01\x00\x00\x00", LENGTH.pack(0), b"\x00"
    return LENGTH.pack(number) + no_tags + place + problem + no_details_and_tags + not_throttled + no_tags
