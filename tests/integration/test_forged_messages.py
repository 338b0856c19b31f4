"""Whatever somebody writes to `<dataset>.clean` or `failures`: Postgres takes it, or it is foreign. Nothing raises."""

import json
import random
from typing import Any

from runtime.settings import Settings
from sinks.postgres.batch import Decoder
from tests.forged_message import Forged
from tests.integration.postgres_sink_driver import driver

CHANCE = random.Random(1)
LONG = "".join(CHANCE.choice("abcdefghijklmnopqrstuvwxyz0123456789äöüß漢字仮名") for _ in range(20_000))
"""Text that no compression makes short enough for an index."""


ORIGINS: list[dict[str, Any]] = [
    {},
    {"topic": "RAW@0", "partition": -(2**40 * 100_000 + 1)},
    {"topic": "RAW@9999999", "partition": -(9_999_999 * 100_000 + 1)},
    {"topic": "RAW@1", "partition": -1},
    {"topic": "RAW@1", "partition": -100_001},
    {"topic": "RAW@01", "partition": -100_001},
    {"topic": "RAW@١", "partition": -100_001},
    {"topic": "RAW@", "partition": -1},
    {"topic": "users.changed", "partition": -1, "offset": 3, "timestamp": 2**70},
    {"topic": "users.changed", "partition": -1, "offset": 2**62},
    {"offset": 2**62 - 1, "timestamp": 2**63 - 1},
    {"timestamp": -(2**63)},
    {"timestamp": -(2**63) - 1},
    {"partition": 2**80},
    {"offset": 2**80},
]

CLEAN: list[dict[str, Any]] = [
    {"key": "a\0b", "data": None},
    {"key": "", "data": None},
    {"key": " C1", "data": None},
    {"key": LONG, "data": None},
    {"key": "a\0b", "data": {"customer_id": "a\0b"}},
    {"key": LONG, "data": {"customer_id": LONG}},
    {"data": {"first_name": "a\0b"}},
    {"data": {"account_balance": "1e400"}},
    {"data": {"date_of_birth": "-4713-01-01"}},
    {"run": "a\0b", "source": LONG, "kind": "\0", "unknown": ["\0", LONG]},
    {"run": LONG},
    {"reprocess": "\0"},
    {"reprocess": LONG},
    {"reprocess": "#"},
]

FAILED: list[dict[str, Any]] = [
    {"dataset": LONG},
    {"dataset": "\0", "stage": "\0", "reason": "\0", "message": "\0", "key": "\0", "source": "\0", "run": "\0"},
    {"reason": LONG},
    {"stage": LONG, "key": LONG, "source": LONG, "run": LONG, "kind": LONG, "message": LONG},
    {"headers": {"a\0": "b\0", "": "", LONG: LONG}, "held": True},
    {"problems": [{"field": "\0", "code": "\0", "message": LONG}]},
    {"failed_at": -1},
    {"failed_at": 2**62},
    {"stage": "elasticsearch", "dataset": "\0"},
]


def forged(settings: Settings) -> list[Forged]:
    """Every oddity at an offset of its own, and the messages of that offset that are as they should be."""
    raw = settings.named("customers.raw")
    row = {"customer_id": "C1", "first_name": "A", "last_name": "B", "email": "a@example.org"}

    def message(topic: str, offset: int, content: dict[str, Any], **odd: Any) -> Forged:
        origin = {"topic": raw, "partition": 0, "offset": offset, "timestamp": 1_000} | odd.pop("origin", {})
        origin["topic"] = origin["topic"].replace("RAW", raw)
        if odd.get("data"):
            odd["data"] = row | odd["data"]
        return Forged(settings.named(topic), json.dumps(content | {"origin": origin} | odd).encode(), offset)

    clean: dict[str, Any] = {"key": "C1", "data": row}
    failed: dict[str, Any] = {
        "dataset": "customers",
        "stage": "normalizer",
        "reason": "r",
        "message": "m",
        "failed_at": 5,
    }
    odd = [("customers.clean", clean, one) for one in CLEAN] + [("failures", failed, one) for one in FAILED]
    odd += [
        (topic, content, {"origin": one})
        for topic, content in (("customers.clean", clean), ("failures", failed))
        for one in ORIGINS
    ]
    return [message(topic, number, content, **one) for number, (topic, content, one) in enumerate(odd)]


async def test_nothing_that_is_forged_stops_the_sink(migrated_settings: Settings) -> None:
    messages = forged(migrated_settings)
    decoder = Decoder(migrated_settings)
    async with driver(migrated_settings) as sink:
        stopped = []
        for message in messages:
            try:
                await sink.sink.store(sink.connection, decoder.decode([message]))
            except Exception as error:  # noqa: BLE001 (whatever it is, the sink would end of it again and again)
                stopped.append(f"{message.content[:100]!r}: {error!r}"[:400])
        assert stopped == []
