"""Burrow's verdicts beside ours, on the same groups at the same time."""

import asyncio
import time
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from monitoring.groups_reader import GroupsReader
from monitoring.lag import our_groups
from monitoring.view import view_of
from monitoring.window import Window
from runtime.kafka.clients import QUIET, producer_config
from runtime.settings import Settings
from tests.burrow import BURROW, commit_record, running_burrow
from tests.consumer_groups import produce, topics
from tests.waiting import eventually_async

STANDS = {"STOP", "STALL", "ERR"}


class Committer:
    """A client of a group that only commits."""

    def __init__(self, settings: Settings, group: str, topic: str, offsets: str) -> None:
        self._group, self._topic, self._offsets = group, topic, offsets
        self._producer = Producer(producer_config(settings))
        self._consumer = Consumer(
            {"bootstrap.servers": settings.kafka_bootstrap_servers, "group.id": group, "log_level": QUIET}
        )

    def commit(self, offset: int) -> None:
        self._consumer.commit(offsets=[TopicPartition(self._topic, 0, offset)], asynchronous=False)
        key, value = commit_record(self._group, self._topic, offset)
        self._producer.produce(self._offsets, value, key, 0)
        assert self._producer.flush(20) == 0

    def close(self) -> None:
        self._consumer.close()


@pytest.mark.skipif(BURROW is None, reason="Burrow (Debian: apt install burrow) is not installed")
async def test_burrow_and_we_agree_on_groups_that_keep_up_fall_behind_stop_and_go_back(
    settings: Settings, tmp_path: Path
) -> None:
    names = {kind: f"{settings.namespace}.{kind}" for kind in ("keeps-up", "falls-behind", "stops", "goes-back")}
    with topics(settings, 1, 1) as [topic, offsets], running_burrow(settings, tmp_path, offsets) as burrow:
        reader, window, ours = GroupsReader(settings), Window(), our_groups(settings)
        committers = {kind: Committer(settings, name, topic, offsets) for kind, name in names.items()}
        rounds = 0

        async def pass_a_second() -> dict[str, tuple[str, str]]:
            """Ten more records, a commit of each group, and both verdicts."""
            nonlocal rounds
            rounds += 1
            await asyncio.to_thread(produce, settings, topic, 0, 10)
            end = 10 * rounds
            at = {"keeps-up": end, "falls-behind": 2 * rounds}
            at |= {"stops": end - 5} if rounds <= 15 else {}
            at |= {"goes-back": end - 5 if rounds <= 15 else max(1, 10 * (rounds - 16))}
            for kind, offset in at.items():
                await asyncio.to_thread(committers[kind].commit, offset)
            window.add(await reader.read())
            view = view_of(window, ours, now=time.time())
            assert view is not None
            groups = {kind: view.group(name) for kind, name in names.items()}
            theirs = {kind: await asyncio.to_thread(burrow.verdict, name) for kind, name in names.items()}
            await asyncio.sleep(1)
            return {kind: (str(group and group.verdict), str(theirs[kind])) for kind, group in groups.items()}

        async def both_tell() -> bool:
            now = await pass_a_second()
            seen.append(now)
            rewound = {pair for one in seen for pair in [one["goes-back"]]}
            return (
                now["keeps-up"] == ("OK", "OK")
                and now["falls-behind"] == ("WARN", "WARN")
                and {now["stops"][0], now["stops"][1]} <= STANDS
                and any(mine == "REWIND" for mine, _ in rewound)
            )

        seen: list[dict[str, tuple[str, str]]] = []
        try:
            await eventually_async(both_tell, what="both say the same", within=180)
        finally:
            await reader.close()
            for committer in committers.values():
                await asyncio.to_thread(committer.close)
    assert any(theirs in STANDS | {"WARN", "REWIND"} for _, theirs in (one["goes-back"] for one in seen))
