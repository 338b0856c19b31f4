"""State of the stores, their tables and held records: for probes, and for endpoints that need a store."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from http import HTTPStatus
from typing import Any, Literal

from confluent_kafka import KafkaException
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from api.answers import encode
from api.clients import Clients
from api.database import reading
from api.request_counts import limits_of, shared_counts
from api.search.service import search_target
from api.single_flight import Shared
from rehearsals.file import running
from runtime.kafka.clients import reason as kafka_reason
from schemas.registry import all_datasets
from services.failures.listing import count_held
from stores.outages import GRANTED, Unavailable
from stores.redis_client import RedisError, ResponseError, redis_words
from stores.rights import single_rights
from stores.search_server import SearchRefused, TransportError
from stores.table_fit import fit_of

PROBE_SECONDS = 2.0

_REFUSED = "it answers, and refuses our work:"
"""Begins what is told of a store that is there, and of which we may not use all that we need."""

INDEX_RIGHTS = "its user or API key needs `read` and `write` on the indices of the namespace, and `monitor`"

SHARED_SECONDS = 1.0
"""Callers who ask `/api/health` or `/readyz` within so many seconds share an answer."""

TABLES_SECONDS = 15.0
"""Between two comparisons of declarations with tables."""

_CONNECTIONS = text("""
    SELECT (SELECT sum(numbackends) FROM pg_stat_database), current_setting('max_connections')::int
        - current_setting('superuser_reserved_connections')::int
        - coalesce(current_setting('reserved_connections', true)::int, 0)""")
"""Connections that are taken, and those that roles without privileges may take."""

_LACKING = text("""
    SELECT w.name, string_agg(w.wanted, ', ' ORDER BY w.wanted) FROM unnest(
        CAST(:names AS text[]), CAST(:wanted AS text[]), CAST(:whole AS boolean[])) AS w (name, wanted, whole)
    JOIN pg_class ON pg_class.oid = to_regclass(quote_ident(w.name))
    WHERE NOT CASE WHEN w.whole THEN has_table_privilege(oid, wanted) ELSE has_any_column_privilege(oid, wanted) END
    GROUP BY 1 ORDER BY 1""")
"""Rights that the API needs and its user has not, by table."""

NOTHING = {"size": 0, "terminate_after": 1, "track_total_hits": False}
"""A search that is asked as others are, and finds as little as can be."""

Store = Literal["postgres", "redis", "elasticsearch", "kafka"]


@dataclass(frozen=True)
class Finding:
    """Answer of a store to what a read does with it: up after `ms`, down with a reason, or disabled because there is
    none.

    One that is up with a reason serves some: it has no connection left for others, or our user lacks some rights.
    """

    status: Literal["up", "down", "disabled"]
    ms: float | None = None
    reason: str | None = None


Findings = dict[Store, Finding]


async def probe_all(clients: Clients) -> Findings:
    """Ask all stores at once; takes PROBE_SECONDS at most."""
    stores: tuple[Store, ...] = ("postgres", "redis", "elasticsearch", "kafka")
    found = await asyncio.gather(*(_probe(clients, store) for store in stores))
    return dict(zip(stores, found, strict=True))


async def require(clients: Clients, *stores: Store) -> None:
    """Raises Unavailable for the first of the stores that does not answer within PROBE_SECONDS."""
    for store, finding in zip(stores, await asyncio.gather(*(_probe(clients, s) for s in stores)), strict=True):
        _refuse_without(store, finding)


def _refuse_without(store: Store, finding: Finding) -> None:
    if finding.status == "down":
        raise Unavailable(store, finding.reason or "no answer")


class HealthReports:
    """Reports of how the API is."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._postgres = Shared(partial(_probe, clients, "postgres"), SHARED_SECONDS)
        self._misfits = Shared(partial(_misfits, clients.engine), TABLES_SECONDS)
        self._lacking = Shared(partial(_lacking, clients.engine), TABLES_SECONDS)
        self.shared = Shared(self._encoded, SHARED_SECONDS)
        """Status and body of an answer for which asking began SHARED_SECONDS before the call, or later."""

    async def require_postgres(self) -> None:
        """Raises Unavailable if Postgres does not answer, asked within the last SHARED_SECONDS; whoever asks shares."""
        _refuse_without("postgres", await self._postgres.get())

    async def report(self, findings: Findings, **more: object) -> dict[str, Any]:
        """The body of an answer, for stores in this state; `more` comes before the components."""
        troubles: dict[str, Any] = {}
        if findings["postgres"].status == "up":
            # It answered a moment ago; its own finding will say so if it does not.
            try:
                if misfits := await self._misfits.get():
                    troubles["misfits"] = misfits
                troubles |= await self._held()
                if lacking := await self._lacking.get():
                    postgres = findings["postgres"]
                    reason = "; ".join(filter(None, (postgres.reason, lacking)))
                    findings = {**findings, "postgres": replace(postgres, reason=reason)}
            except Unavailable:
                pass
        components = {
            store: {name: value for name, value in asdict(finding).items() if value is not None}
            for store, finding in findings.items()
        }
        settings = self._clients.settings
        # Whoever is alarmed should know.
        rehearsals = [str(one) for one in running(settings.home)] if settings.rehearsals else []
        return {
            "status": _overall(findings, troubles),
            **more,
            "components": components,
            **troubles,
            **({"rehearsals": rehearsals} if rehearsals else {}),
        }

    async def _encoded(self) -> tuple[HTTPStatus, bytes]:
        body = await self.report(await probe_all(self._clients))
        return status_of(body), encode(body)

    async def _held(self) -> dict[str, Any]:
        try:
            async with reading(self._clients.engine) as connection:
                held = await count_held(connection)
        except SQLAlchemyError:
            return {}  # without the table nothing is held
        reason = (
            f"{held:,} records are held: nearly all of their sources' records failed; "
            "`headrace failures list`, then `release` or `discard`"
        )
        return {"held": held, "reason": reason} if held else {}


def status_of(report: Mapping[str, Any]) -> HTTPStatus:
    """The status of an answer with this body: it cannot serve without Postgres."""
    return HTTPStatus.SERVICE_UNAVAILABLE if report["status"] == "unhealthy" else HTTPStatus.OK


def _overall(findings: Findings, troubles: dict[str, Any]) -> str:
    if findings["postgres"].status == "down":
        return "unhealthy"
    return "degraded" if troubles or any(finding.reason for finding in findings.values()) else "healthy"


async def _misfits(engine: AsyncEngine) -> dict[str, str]:
    """Datasets whose tables lack something, with what they lack. Raises Unavailable."""
    async with reading(engine) as connection:
        return await connection.run_sync(_compare)


async def _lacking(engine: AsyncEngine) -> str:
    """The rights on tables that our user lacks, with the way out; empty for none. Raises Unavailable."""
    names, wanted, whole = map(list, zip(*single_rights("api"), strict=True))
    async with reading(engine) as connection:
        found = await connection.execute(_LACKING, {"names": names, "wanted": wanted, "whole": whole})
        lacking = [f"{rights} on {table}" for table, rights in found]
    return f"{_REFUSED} its user lacks {'; '.join(lacking)}; {GRANTED}" if lacking else ""


def _compare(connection: Connection) -> dict[str, str]:
    there = set(inspect(connection).get_table_names())
    found = {}
    for dataset in all_datasets():
        if dataset.table not in there:
            found[dataset.name] = f"the table {dataset.table} is not there; run `headrace setup`"
            continue
        fit = fit_of(connection, dataset)
        undone = [f"{dataset.name}.{name}: not in the table yet; run `headrace setup`" for name in fit.missing]
        if lines := fit.misfits + undone:
            found[dataset.name] = "; ".join(lines)
    return found


async def _probe(clients: Clients, store: Store) -> Finding:
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
    except ResponseError as error:
        return Finding("down", reason=f"{_REFUSED} {redis_words(error)}")
    except SearchRefused as error:
        way_out = f"; {INDEX_RIGHTS}" if error.is_denied else ""
        return Finding("down", reason=f"{_REFUSED} {str(error).rstrip(';')}{way_out}")
    except (RedisError, TransportError, OSError) as error:
        return Finding("down", reason=str(error) or type(error).__name__)
    return Finding("up", ms=round((time.perf_counter() - started) * 1000, 2), reason=trouble)


async def _ask(clients: Clients, store: Store) -> str | None:
    """The trouble of a store that answers, or None."""
    match store:
        case "postgres":
            async with reading(clients.engine) as connection:
                taken, places = (await connection.execute(_CONNECTIONS)).one()
            # Our pool keeps its connections, so reads go on; whoever opens one is refused.
            return None if taken < places else f"all {places} connections that the server allows are taken"
        case "redis":
            assert clients.redis is not None and clients.cache is not None  # noqa: S101, PT018 (judged by the caller)
            await clients.cache.try_out()
            if any(limits_of(clients.settings).values()):
                await shared_counts(clients.redis, clients.settings).try_out()
        case "elasticsearch":
            assert clients.elasticsearch is not None  # noqa: S101 (judged by the caller)
            target = search_target(clients.settings, all_datasets())
            answer = await clients.elasticsearch.ask("POST", target, NOTHING, seconds=PROBE_SECONDS)
            if failed := answer["_shards"]["failed"]:
                raise Unavailable(store, f"{failed} shards of our indices do not answer a search")
            health = await clients.elasticsearch.ask("GET", "/_cluster/health", seconds=PROBE_SECONDS)
            if health["status"] == "red":
                raise Unavailable(store, "the cluster's status is red: some shards are not allocated")
        case "kafka":
            await asyncio.to_thread(clients.kafka.ask, lambda kafka: kafka.list_topics(timeout=PROBE_SECONDS))
    return None
