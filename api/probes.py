"""Asks each store for a sign of life; takes PROBE_SECONDS at most."""

import asyncio
import time
from dataclasses import dataclass
from typing import Literal

from confluent_kafka import KafkaException
from elastic_transport import TransportError
from elasticsearch import ApiError
from redis.exceptions import RedisError
from sqlalchemy import text

from api.clients import Clients
from api.database import reading
from runtime.kafka.clients import reason as kafka_reason
from stores.outages import Unavailable

PROBE_SECONDS = 2.0

_CONNECTIONS = text("""
    SELECT (SELECT sum(numbackends) FROM pg_stat_database), current_setting('max_connections')::int
        - current_setting('superuser_reserved_connections')::int
        - coalesce(current_setting('reserved_connections', true)::int, 0)""")
"""Connections that are taken, and those that roles without privileges may take."""

Store = Literal["postgres", "redis", "elasticsearch", "kafka"]


@dataclass(frozen=True)
class Finding:
    """Answer of a store: up after `ms`, down with a reason, or disabled because there is none.

    One that is up with a reason answers us, and not everybody.
    """

    status: Literal["up", "down", "disabled"]
    ms: float | None = None
    reason: str | None = None


async def probe_all(clients: Clients) -> dict[Store, Finding]:
    """Ask all at once."""
    stores: tuple[Store, ...] = ("postgres", "redis", "elasticsearch", "kafka")
    found = await asyncio.gather(*(probe(clients, store) for store in stores))
    return dict(zip(stores, found, strict=True))


async def probe(clients: Clients, store: Store) -> Finding:
    """Ask one."""
    if store in clients.settings.absent_stores:
        return Finding("disabled")
    started = time.perf_counter()
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            trouble = await _ask(clients, store)
    except TimeoutError:
        return Finding("down", reason=f"no answer within {PROBE_SECONDS:g} s")
    except KafkaException as error:
        return Finding("down", reason=kafka_reason(error))
    except Unavailable as error:
        return Finding("down", reason=error.reason)
    except (RedisError, ApiError, TransportError, OSError) as error:
        return Finding("down", reason=str(error) or type(error).__name__)
    return Finding("up", ms=round((time.perf_counter() - started) * 1000, 2), reason=trouble)


async def require(clients: Clients, *stores: Store) -> None:
    """Raises Unavailable for the first of the stores that does not answer."""
    for store, finding in zip(stores, await asyncio.gather(*(probe(clients, s) for s in stores)), strict=True):
        if finding.status == "down":
            raise Unavailable(store, finding.reason or "no answer")


async def _ask(clients: Clients, store: Store) -> str | None:
    """The trouble of a store that answers, or None."""
    match store:
        case "postgres":
            async with reading(clients.engine) as connection:
                taken, places = (await connection.execute(_CONNECTIONS)).one()
            # Our pool keeps its connections, so reads go on; whoever opens one is refused.
            return None if taken < places else f"all {places} connections that the server allows are taken"
        case "redis":
            assert clients.redis is not None  # noqa: S101 (judged by the caller)
            await clients.redis.ping()
        case "elasticsearch":
            assert clients.elasticsearch is not None  # noqa: S101 (judged by the caller)
            health = await clients.elasticsearch.options(request_timeout=PROBE_SECONDS).cluster.health()
            if health["status"] == "red":
                raise Unavailable(store, "the cluster's status is red: some shards are not allocated")
        case "kafka":
            await asyncio.to_thread(clients.kafka.list_topics, timeout=PROBE_SECONDS)
    return None
