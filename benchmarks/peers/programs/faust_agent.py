"""Stock Faust as its documentation shows it: event by event, or with `take` (second word: take)."""

import os
import sys
from typing import Any

import faust

from benchmarks.customers import Raw
from benchmarks.peers.programs.rules import CLEAN, GROUP, RAW, SERVERS, clean


def record(event: Any) -> Raw:
    m = event.message
    return Raw(m.topic, m.partition, m.offset, int(m.timestamp * 1000), m.key, m.value, m.headers)


def main(take: bool) -> None:
    app = faust.App(
        GROUP,
        broker=f"kafka://{SERVERS}",
        datadir=os.environ["PEER_FOLDER"],
        topic_disable_leader=True,
        topic_allow_declare=False,
        consumer_auto_offset_reset="earliest",
        web_enabled=False,
        producer_compression_type="lz4",
        producer_linger_ms=5,
    )
    raw = app.topic(RAW, key_type=bytes, value_type=bytes, value_serializer="raw")
    out = app.topic(CLEAN, key_type=bytes, value_type=bytes, value_serializer="raw")

    async def by_event(stream: Any) -> None:
        async for event in stream.events():
            outcome = clean(record(event))
            await out.send(key=outcome.key, value=outcome.value, partition=event.message.partition)

    async def by_batch(stream: Any) -> None:
        async for events in stream.take_events(1000, within=0.1):
            for event in events:
                outcome = clean(record(event))
                await out.send(key=outcome.key, value=outcome.value, partition=event.message.partition)

    app.agent(raw)(by_batch if take else by_event)
    faust.Worker(app, loglevel="ERROR").execute_from_commandline()


if __name__ == "__main__":
    wanted = sys.argv.pop() == "take" if len(sys.argv) > 1 else False
    main(wanted)
