"""The closing block of `headrace up`: where everything is, what it holds, how to look and how to stop."""

import asyncio
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import httpx

from local_stack.addresses import addresses_of, without_passwords
from local_stack.installations import INSTEAD
from local_stack.state_folder import StackRecord, StateFolder
from runtime.settings import DEFAULT_HOME
from schemas.registry import all_datasets

FAILURES = "failures"

INDEXED_WITHIN_SECONDS = 20.0
"""The latest rows may still be on their way into the index: the count waits this long for them."""


@dataclass(frozen=True)
class Counts:
    """Numbers of rows and documents; None where a store did not say."""

    rows: dict[str, int]
    documents: int | None


def count(record: StackRecord) -> Counts:
    """Ask Postgres and Elasticsearch. Blocking; a store that doesn't answer is left out of this mere summary."""
    addresses = addresses_of(record)
    rows: dict[str, int]
    try:
        rows = asyncio.run(_rows(addresses["DATABASE_URL"]))
    except (OSError, TimeoutError, asyncpg.PostgresError):
        rows = {}
    if "elasticsearch" in record.without:
        return Counts(rows, None)
    stored = sum(number for name, number in rows.items() if name != FAILURES)
    deadline = time.monotonic() + (0 if record.servers_only else INDEXED_WITHIN_SECONDS)
    while (documents := _documents(addresses["ELASTICSEARCH_URL"])) is not None and documents < stored:
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    return Counts(rows, documents)


def summary_lines(state: StateFolder, record: StackRecord, counts: Counts) -> list[str]:
    """The block, about a dozen lines. Passwords are not in it: it ends in terminals' scrollback and in CI logs."""
    addresses = without_passwords(addresses_of(record))
    without = {server: f"none ({why}): {INSTEAD[server]}" for server, why in record.without.items()}
    redis = without.get("redis") or addresses["REDIS_URL"] + (f" ({record.redis})" if record.redis else "")
    lines = [f"Headrace is up in {state.home}" + (" (servers only)" if record.servers_only else "")]
    if not record.servers_only:
        lines += [
            f"  dashboard      {addresses.get('DASHBOARD_URL', 'none: restart the stack')}",
            f"  API            {addresses['API_URL']}/docs",
            f"  customer API   {addresses['MOCK_URL']}/api/customers?page=1&limit=10",
        ]
    lines += [
        f"  Kafka          {addresses['KAFKA_BOOTSTRAP_SERVERS']}",
        f"  Postgres       {addresses['DATABASE_URL']}",
        f"  Redis          {redis}",
        f"  Elasticsearch  {without.get('elasticsearch') or addresses['ELASTICSEARCH_URL']}",
    ]
    if counts.rows:
        held = ", ".join(f"{number:,} {name}" for name, number in counts.rows.items())
        lines.append(f"  holds          {held}" + (f"; {counts.documents:,} searchable" if counts.documents else ""))
    if not record.servers_only:
        lines.append(f"  try            curl '{addresses['API_URL']}/api/customers?page=1&limit=3'")
    here = "" if state.home == Path(DEFAULT_HOME).resolve() else f"HEADRACE_HOME={state.home} "
    headrace = f"{here}{_command()}"
    lines += [
        f"  passwords      {headrace} env",
        f"  look           {headrace} status, or logs -f, or lag",
        f"  stop           {headrace} down (data stays; clean deletes it)",
    ]
    return lines


def _command() -> str:
    """`headrace` as it is to be typed: its path where it is not on PATH."""
    if shutil.which("headrace"):
        return "headrace"
    beside = Path(sys.executable).with_name("headrace")
    return str(beside.relative_to(Path.cwd()) if beside.is_relative_to(Path.cwd()) else beside)


async def _rows(url: str) -> dict[str, int]:
    async with asyncio.timeout(10):
        connection = await asyncpg.connect(url)
        try:
            found: dict[str, int] = {}
            tables = {dataset.name: dataset.table for dataset in all_datasets()} | {FAILURES: "ingest_failures"}
            for name, table in tables.items():
                if await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", table):
                    found[name] = await connection.fetchval(f"SELECT count(*) FROM {table}")  # noqa: S608 (our own names)
            return found
        finally:
            await connection.close()


def _documents(url: str) -> int | None:
    try:
        httpx.post(f"{url}/_refresh", timeout=5, trust_env=False)
        answer = httpx.get(f"{url}/_count", timeout=5, trust_env=False)
        answer.raise_for_status()
        return int(answer.json()["count"])
    except (httpx.HTTPError, ValueError, KeyError):
        return None
