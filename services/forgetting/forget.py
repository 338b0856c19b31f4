"""Forgets a person for ever: in Postgres, and by the change events of that in the search index and the cache.

In an order that a kill cannot spoil. First the key is on the list, so that nothing of it is stored any more; then what
raw records, failures and drifts say is erased; the row, by whose addresses these are found, goes last. Whoever was
killed in between starts again with the same command. See decision 0057.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import msgspec
from confluent_kafka import KafkaException
from confluent_kafka.admin import ConfigResource

from runtime.errors import Explained
from runtime.fault_points import crash_here
from runtime.kafka.topic_admin import REQUEST_TIMEOUT_SECONDS, admin_client
from runtime.patience import Patience
from runtime.settings import Settings
from schemas.dataset import Dataset
from schemas.events import ChangeEvent
from schemas.mentions import address
from schemas.source_kinds import LandingTable
from schemas.topics import FAILURES_TOPIC, all_topics
from services.forgetting.search import Found, Person, failure_rows, landed_rows, searchable, what_is_left
from services.trace.reads import STORE_ERRORS, read_document
from services.trace.trace import TracedStores, opened
from sinks.postgres.change_events import origin_at, put_into_outbox
from stores.cache import VersionedCache
from stores.forgotten import LOCK_LIST, hash_of, made_by, secret_id
from stores.outages import in_words
from stores.postgres_connection import Connection, postgres_connection

LANDING: tuple[LandingTable, ...] = get_args(LandingTable)
STEP = 1_000
ASK_EVERY_SECONDS = 0.1
MOST_FOLLOWED = 100
"""Keys that are looked for in the followers."""

ERASED = "(erased)"

_ADD = """
    INSERT INTO forgotten (hash, dataset, secret, forgotten_at) VALUES ($1, $2, $3, clock_timestamp())
    ON CONFLICT (hash) DO UPDATE SET forgotten_at = excluded.forgotten_at, secret = excluded.secret, undone_at = NULL,
        erased_at = NULL"""

_ADD_ADDRESSES = """
    INSERT INTO forgotten_addresses (hash, forgotten) SELECT unnest($1::text[]), $2 ON CONFLICT DO NOTHING"""

_COUNT = """
    UPDATE forgotten SET erased = erased || (
        SELECT coalesce(jsonb_object_agg(key, value::bigint + coalesce((forgotten.erased ->> key)::bigint, 0)), '{}')
        FROM jsonb_each_text($2::jsonb))
    WHERE hash = $1"""

_PLACES = "unnest($1::text[], $2::int[], $3::bigint[]) AS w (topic, partition, place)"

_NO_LONGER_HELD = "SET held = held - $3, deleted = deleted + $3 WHERE topic = $1 AND partition = $2"

_UNTOLD = "SELECT count(*) FROM outbox JOIN unnest($1::text[], $2::text[]) AS w (dataset, key) USING (dataset, key)"

_REMARKS = {
    "failure_replays": ("selection", "jsonb", "'{}'"),
    "etl_runs": ("failure_reason", "text", f"'{ERASED}'"),
    "schema_drift": ("example", "text", "NULL"),
}
"""By table, the column that may quote a record, its type, and what stands there afterwards."""


class CannotForget(Explained):
    """The key cannot be forgotten; the message says why, and the way out."""


@dataclass(frozen=True)
class Remains:
    """A topic in which messages of the person lie, until it has deleted them by their age: then at the latest."""

    topic: str
    until: datetime | None
    """None: it keeps them for ever, or Kafka does not tell."""


@dataclass(frozen=True)
class Forgetting:
    """The result; of a dry run what it would be. `hash` is all that is kept of the key."""

    dataset: str
    hash: str
    dry_run: bool
    erased: dict[str, int]
    """Rows by table."""
    followers: dict[str, str]
    """Elasticsearch and Redis: gone, or why that is not known yet."""
    topics: list[Remains]
    left: dict[str, int]
    """Rows by `table.column` in which the key or an address of the person still stands."""


async def forget(settings: Settings, dataset: Dataset, asked: str, *, dry_run: bool, wait: float) -> Forgetting:
    """Erase whom a key stands for, and let nothing of it be stored again. Idempotent: what was killed is done again.

    Records of other datasets that are about it are deleted too. Waits up to `wait` seconds for the followers. Raises
    CannotForget, and what asyncpg raises. A store that is away follows later.
    """
    try:
        key = dataset.normal_key(asked)
    except ValueError as error:
        raise CannotForget(str(error)) from None
    secrets = _secrets(settings)
    async with postgres_connection(settings) as connection:
        person = await _person(connection, dataset, key)
        name, secret = await _name(connection, person, secrets)
        if not dry_run:
            await _put_on_list(connection, name, person, secret, secrets)
            crash_here("forgetting_begun")
        found = await _search(connection, settings, person)
        if dry_run:
            erased = await _would_erase(connection, person, found)
            return Forgetting(dataset.name, name, dry_run, erased, {}, await _topics(settings, person), {})
        erased = await _erase_texts(connection, person, found)
        await connection.execute(_COUNT, name, _json(erased))
        crash_here("forgetting_texts_erased")
        rows = await _delete_rows(connection, settings, person, name)
        erased |= {table: len(keys) for table, keys in rows.items()}
        followers = await _followed(settings, connection, person, rows, wait)
        left = await what_is_left(connection, person)
    return Forgetting(dataset.name, name, dry_run, erased, followers, await _topics(settings, person), left)


async def forgotten_list(settings: Settings) -> list[dict[str, Any]]:
    """The forgotten keys, by hash: the audit trail, latest first, each with the place in FORGET_SECRET of the secret
    that it is `made_by`, None for one that is not there. Raises what asyncpg raises.
    """
    async with postgres_connection(settings) as connection:
        rows = await connection.fetch("SELECT * FROM forgotten ORDER BY forgotten_at DESC, hash")
        return [
            {
                **row,
                "erased": msgspec.json.decode(row["erased"]),
                "made_by": made_by(row["secret"], settings.forget_secrets),
            }
            for row in rows
        ]


def secrets_needed(settings: Settings, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each secret of FORGET_SECRET, and for those that lack in it: whether hashes of `rows` that count are
    made by it. Pure.
    """
    counted = Counter(row["made_by"] for row in rows if not row["undone_at"])
    places = range(1, len(settings.forget_secrets) + 1)
    lines = [
        f"Secret {place} of FORGET_SECRET: {counted[place]:,} hashes that count"
        + ("" if counted[place] or place == 1 else "; it may be taken out")
        for place in places
    ]
    if counted[None]:
        lines.append(
            f"NOT in FORGET_SECRET: the secret of {counted[None]:,} hashes that count; both sinks wait until it is back"
        )
    return lines


async def undo(settings: Settings, hash_begin: str) -> str:
    """Let records of a forgotten key be stored again; returns its hash. What is erased stays so. Idempotent.

    Raises CannotForget for no hash, or several, that begin so.
    """
    async with postgres_connection(settings) as connection:
        rows = await connection.fetch("SELECT hash FROM forgotten WHERE starts_with(hash, $1)", hash_begin.lower())
        if len(rows) != 1 or not hash_begin:
            how_many = "no hash begins" if not rows else f"{len(rows)} hashes begin"
            raise CannotForget(f"{how_many} with {hash_begin!r}; `headrace forget --list` shows them")
        async with connection.transaction():
            await connection.execute(LOCK_LIST)
            await connection.execute("UPDATE forgotten SET undone_at = clock_timestamp() WHERE hash = $1", rows[0][0])
        return str(rows[0][0])


def _secrets(settings: Settings) -> tuple[bytes, ...]:
    if not settings.forget_secrets:
        raise CannotForget(
            "FORGET_SECRET is not set: the key of the hashes by which later records of a forgotten key are known. "
            "Set it for all processes, to 32 random characters or more (`openssl rand -hex 32`), and never lose it"
        )
    return settings.forget_secrets


async def _person(connection: Connection, dataset: Dataset, key: str) -> Person:
    """The key, with the addresses that its row has."""
    names = [f.name for f in dataset.fields if f.type.personal and f.name not in dataset.key]
    shown = ", ".join(f't."{name}"::text' for name in names)
    row = await _fetch_row(connection, dataset, key, shown) if names else None
    return Person(dataset, key, tuple(value for value in row or () if value))


async def _fetch_row(connection: Connection, dataset: Dataset, key: str, shown: str) -> Any:
    return await connection.fetchrow(
        f'SELECT {shown} FROM "{dataset.table}" t WHERE {_is_key(dataset)}',  # noqa: S608 (names of ours)
        *dataset.key_fields(key).values(),
    )


def _is_key(dataset: Dataset) -> str:
    return " AND ".join(f't."{name}"::text = ${number}' for number, name in enumerate(dataset.key, 1))


async def _name(connection: Connection, person: Person, secrets: Sequence[bytes]) -> tuple[str, bytes]:
    """The hash by which the person is on the list, or is to be, and the secret that made it."""
    hashes = {hash_of(person.name, secret): secret for secret in secrets}
    query = "SELECT hash FROM forgotten WHERE hash = ANY($1) AND undone_at IS NULL"
    name: str = await connection.fetchval(query, list(hashes)) or next(iter(hashes))
    return name, hashes[name]


async def _put_on_list(
    connection: Connection, name: str, person: Person, secret: bytes, secrets: Sequence[bytes]
) -> None:
    """From the commit on no sink stores anything of the key: those that were storing have committed before."""
    async with connection.transaction():
        await connection.execute(LOCK_LIST)
        others = "SELECT EXISTS (SELECT FROM forgotten WHERE secret <> ALL($1) AND undone_at IS NULL)"
        if await connection.fetchval(others, [*map(secret_id, secrets)]):
            raise CannotForget("FORGET_SECRET is another one than that of the keys forgotten before; set it again")
        await connection.execute(_ADD, name, person.dataset.name, secret_id(secret))
        addresses = [hash_of(address(one), secret) for one in person.addresses]
        await connection.execute(_ADD_ADDRESSES, addresses, name)


async def _search(connection: Connection, settings: Settings, person: Person) -> Found:
    topics = [settings.named(one.raw_topic) for one in person.datasets.values()]
    found = Found()
    async with connection.transaction(readonly=True):
        for table in LANDING:
            found.landed[table] = await landed_rows(connection, table, person, topics)
        found.failures, found.remarks = await failure_rows(connection, person)
    return found


async def _would_erase(connection: Connection, person: Person, found: Found) -> dict[str, int]:
    counts = {table: len(places) for table, places in found.landed.items()}
    counts["ingest_failures"] = len(found.failures)
    for dataset in person.datasets.values():
        where, arguments = _rows_of(dataset, person)
        query = f'SELECT count(*) FROM "{dataset.table}" t WHERE {where}'  # noqa: S608 (names of ours)
        counts[dataset.table] = await connection.fetchval(query, *arguments)
    return counts


async def _erase_texts(connection: Connection, person: Person, found: Found) -> dict[str, int]:
    """Delete the raw records and failures, and what quotes them elsewhere; returns rows by table."""
    counts = Counter[str]()
    for table, places in found.landed.items():
        for step in _steps(places):
            done = await connection.execute(
                f'DELETE FROM "{table}" t USING {_PLACES} '  # noqa: S608 (our own name)
                'WHERE (t.topic, t.partition, t."offset") = (w.topic, w.partition, w.place)',
                *map(list, zip(*step, strict=True)),
            )
            counts[table] += _rows(done)
    for ids in _steps(found.failures):
        counts["ingest_failures"] += await _delete_failures(connection, ids)
    for ids in _steps(found.remarks):
        await connection.execute(
            "UPDATE ingest_failures SET message = $2, problems = '[]', blocked_by = NULL WHERE id = ANY($1::bigint[])",
            ids, ERASED,
        )  # fmt: skip
    for table, (column, kind, instead) in _REMARKS.items():
        done = await connection.execute(
            f"UPDATE {table} SET {column} = {instead} WHERE {searchable(column, kind)} ~ $1",  # noqa: S608
            person.words,
        )
        counts[table] += _rows(done)
    return dict(counts)


async def _delete_failures(connection: Connection, ids: Sequence[int]) -> int:
    """Delete failures. Records that were held count as deleted from now on: each has one outcome still."""
    async with connection.transaction():
        await _lock_coverage(connection)
        await connection.execute("DELETE FROM failure_actions WHERE failure_id = ANY($1::bigint[])", ids)
        gone = await connection.fetch(
            "DELETE FROM ingest_failures WHERE id = ANY($1::bigint[]) RETURNING topic, partition, run_id, state", ids
        )
        held = Counter((row["topic"], row["partition"], row["run_id"]) for row in gone if row["state"] == "held")
        for (topic, partition, run), number in held.items():
            await connection.execute(f"UPDATE coverage {_NO_LONGER_HELD}", topic, partition, number)
            of_run = f"UPDATE run_outcomes {_NO_LONGER_HELD} AND run_id = $4"
            await connection.execute(of_run, topic, partition, number, run)
        return len(gone)


async def _lock_coverage(connection: Connection) -> None:
    """Wait for every sink's transaction under way and hold the next ones, which lock it first."""
    await connection.execute("LOCK TABLE coverage IN EXCLUSIVE MODE")


async def _delete_rows(
    connection: Connection, settings: Settings, person: Person, name: str
) -> dict[str, list[tuple[Dataset, str]]]:
    """Delete the row and those about it, and have the relay tell the followers; in one transaction with the trail."""
    deleted: dict[str, list[tuple[Dataset, str]]] = {}
    async with connection.transaction():
        await _lock_coverage(connection)
        for dataset in person.datasets.values():
            where, arguments = _rows_of(dataset, person)
            place = "raw_partition, raw_offset, raw_timestamp" if dataset.written_by == "pipeline" else "-1, -1, -1"
            parts = ", ".join(f't."{one}"::text' for one in dataset.key)
            query = (
                f"DELETE FROM \"{dataset.table}\" t WHERE {where} RETURNING nextval('row_version'), {place}, {parts}"  # noqa: S608
            )
            events = []
            for version, partition, offset, timestamp, *key in await connection.fetch(query, *arguments):
                text = dataset.key_text(dict(zip(dataset.key, key, strict=True)))
                origin = origin_at(dataset, settings, partition, offset, timestamp)
                events.append(ChangeEvent(text, "deleted", version, origin))
            if events:
                await put_into_outbox(connection, dataset, events)
            deleted[dataset.table] = [(dataset, event.key) for event in events]
        await connection.execute(
            "DELETE FROM tombstones WHERE dataset = $1 AND key = $2", person.dataset.name, person.key
        )
        counts = {table: len(keys) for table, keys in deleted.items()}
        await connection.execute(_COUNT, name, _json(counts))
        await connection.execute("UPDATE forgotten SET erased_at = now() WHERE hash = $1", name)
    return deleted


def _rows_of(dataset: Dataset, person: Person) -> tuple[str, list[str]]:
    """The condition for a row `t` of the dataset to be the person's or about them, and its arguments. Pure."""
    if dataset == person.dataset:
        return _is_key(dataset), list(dataset.key_fields(person.key).values())
    fields = [field for field, other in dataset.about.items() if other == person.dataset.name]
    return " OR ".join(f't."{field}" = $1' for field in fields), [person.key]


async def _followed(
    settings: Settings, connection: Connection, person: Person, rows: dict[str, list[tuple[Dataset, str]]], wait: float
) -> dict[str, str]:
    """The words of search index and cache, once they have followed or `wait` seconds have passed.

    The cache's entries are deleted here; the index follows the change event, so that nothing older comes after it.
    """
    keys = list(dict.fromkeys([(person.dataset, person.key), *(one for many in rows.values() for one in many)]))
    patience = Patience(wait)
    async with opened(settings) as stores:
        while True:
            waiting = await connection.fetchval(
                _UNTOLD, [dataset.name for dataset, _ in keys], [key for _, key in keys]
            )
            found = {store: await _held(stores, store, keys) for store in ("elasticsearch", "redis")}
            found = {store: said for store, said in found.items() if store not in settings.absent_stores}
            if not waiting and all(said == "gone" for said in found.values()):
                return found
            patience.note(1)
            if not patience.remaining:
                late = "; the relay has not told of it yet: is it running?" if waiting else ""
                return {store: said + late * (said != "gone") for store, said in found.items()}
            await asyncio.sleep(ASK_EVERY_SECONDS)


async def _held(stores: TracedStores, store: str, keys: Sequence[tuple[Dataset, str]]) -> str:
    try:
        for dataset, key in keys[:MOST_FOLLOWED]:
            if store == "redis" and stores.redis is not None:
                # With its floor, whose name is the key: who has a lease of it cannot fill it any more (decision 0044).
                await stores.redis.delete(VersionedCache(stores.redis, stores.settings).entry(dataset.name, key))
            elif stores.elasticsearch is not None:
                document = await read_document(stores.elasticsearch, stores.settings, dataset, key)
                if document.version is not None:
                    return "has it still, and will follow"
    except STORE_ERRORS as error:
        return f"does not answer, and will follow: {in_words(error)}"
    return "gone"


async def _topics(settings: Settings, person: Person) -> list[Remains]:
    """The topics that may hold messages of the person, and until when: retention takes whole segments at their end."""
    of = {f"{name}." for name in person.datasets}
    names = [
        settings.named(topic.name)
        for topic in all_topics()
        if topic.name == FAILURES_TOPIC or any(map(topic.name.startswith, of))
    ]

    def ask() -> list[Remains]:
        admin = admin_client(settings)
        there = admin.list_topics(timeout=REQUEST_TIMEOUT_SECONDS).topics
        resources = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in names if name in there]
        if not resources:
            return []
        answers = admin.describe_configs(resources, request_timeout=REQUEST_TIMEOUT_SECONDS)
        found = []
        for resource, answer in answers.items():
            config = answer.result()
            kept, segment = int(config["retention.ms"].value), int(config["segment.ms"].value)
            until = datetime.now(UTC) + timedelta(milliseconds=kept + segment) if kept >= 0 else None
            found.append(Remains(resource.name, until))
        return found

    try:
        return await asyncio.to_thread(ask)
    except KafkaException:
        return [Remains(name, None) for name in names]


def _steps(items: Sequence[Any]) -> list[list[Any]]:
    return [list(items[start : start + STEP]) for start in range(0, len(items), STEP)]


def _rows(done: str) -> int:
    return int(done.rpartition(" ")[2])


def _json(counts: dict[str, int]) -> str:
    return msgspec.json.encode(counts).decode()
