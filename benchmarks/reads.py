"""Reads of the running stack's API, beside a FastAPI 'hello', the same pages as tutorials write them, and bare servers.

    HEADRACE_HOME=/tmp/bench .venv/bin/headrace up --free-ports     # or any running stack
    HEADRACE_HOME=/tmp/bench python -m benchmarks.reads             # a table, and benchmarks/results.json

Needs wrk (`apt-get install wrk`): 16 connections, one thread, so many seconds each. Candidates take turns; the first
round is warm-up, and medians of the others count. The contenders are served by the same server with the same settings
as our API. Requests a second are the machine's; CPU time of the process that answers can be compared where other work
goes on, too.
"""

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Annotated, Any, NamedTuple
from urllib.parse import quote

import httpx
import msgspec
import psutil
import typer
from rich.console import Console
from rich.table import Table

from api.search.service import search_body
from benchmarks.results import RESULTS, record
from benchmarks.tutorial_api import create_app
from local_stack.addresses import assign_ports
from local_stack.processes import examine
from local_stack.state_folder import StateFolder
from runtime.http_server import serve
from runtime.settings import Settings, load_settings
from schemas.registry import dataset_named
from stores.search_index import alias_name

CONNECTIONS = 16
DEEP_PAGES = 100
"""Pages of 100 before the deep one: as far as a stack with its first ingestion goes."""

cli = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class Load(NamedTuple):
    """Answers to one URL: so many a second, the time in ms that half and all but 1 % of them took at most, and the µs
    of CPU that one cost the process that answered: the API, the contender, or Elasticsearch.
    """

    per_second: float
    p50: float
    p99: float
    cpu_us: float


@cli.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    rounds: Annotated[int, typer.Option(min=1, help="How often; medians count.")] = 3,
    seconds: Annotated[int, typer.Option(min=1, help="How long each URL is asked in a round.")] = 4,
    results: Annotated[Path, typer.Option(help="The file that keeps the figures of all benchmarks.")] = RESULTS,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure the running stack, print, and keep the figures."""
    if context.invoked_subcommand:
        return
    settings = load_settings()
    if shutil.which("wrk") is None:
        raise typer.BadParameter("wrk is not on PATH; install it: apt-get install wrk")
    running = {row.name: row.pid for row in examine(StateFolder.at(settings.home)) if row.pid}
    with contenders() as (base, contender_pid):
        urls = candidates(settings, base)
        for url in urls.values():
            httpx.get(url, timeout=60, trust_env=False).raise_for_status()
        pids = {base: contender_pid, settings.api_url: running.get("api")}
        pids[settings.elasticsearch_url or ""] = running.get("elasticsearch")
        answering = {
            name: next((pid for address, pid in pids.items() if address and url.startswith(f"{address}/")), None)
            for name, url in urls.items()
        }
        # The first is warm-up: Elasticsearch answers twice as many searches once its code is compiled.
        loads = [{name: ask(url, seconds, answering[name]) for name, url in urls.items()} for _ in range(1 + rounds)][
            1:
        ]
    medians = {
        name: Load(*(median(figures) for figures in zip(*(one[name] for one in loads), strict=True))) for name in urls
    }
    figures = as_figures(medians)
    record("reads", figures, results)
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(figures)).decode())
    else:
        show(medians)


@cli.command(hidden=True)
def contender(port: int) -> None:
    """Serve the tutorial's API."""
    serve(create_app(load_settings()), "127.0.0.1", port, name="contender", variable="PORT")


@contextmanager
def contenders() -> Iterator[tuple[str, int]]:
    """The address of the tutorial's API, and the process in which it runs."""
    port = assign_ports({"PORT": 0}, environment={}, remembered={}, free=True)["PORT"]
    words = [sys.executable, "-m", "benchmarks.reads", "contender", str(port)]
    process = subprocess.Popen(words)
    base = f"http://127.0.0.1:{port}"
    try:
        for _ in range(100):
            try:
                httpx.get(base, trust_env=False)
                break
            except httpx.ConnectError:
                time.sleep(0.2)
        yield base, process.pid
    finally:
        process.terminate()
        process.wait()


def candidates(settings: Settings, base: str) -> dict[str, str]:
    """What is asked, by name."""
    api, customers = settings.api_url, dataset_named("customers")
    first = httpx.get(f"{api}/api/customers?page=1&limit=1", trust_env=False).json()["data"]
    if not first:
        raise typer.BadParameter("the running stack has no customers; run its first ingestion: headrace up --ingest")
    deep = httpx.get(f"{api}/api/customers?page={DEEP_PAGES}&limit=100", trust_env=False).json()
    cursor = deep["next_cursor"]
    urls = {
        "hello": f"{base}/",
        "customer, cached": f"{api}/api/customers/{quote(first[0]['customer_id'])}",
        "page of 10": f"{api}/api/customers?page=1&limit=10",
        "page of 100": f"{api}/api/customers?page=1&limit=100",
        "page of 100, tutorial": f"{base}/customers?page=1&limit=100",
        f"page {DEEP_PAGES} of 100, by cursor": f"{api}/api/customers?cursor={quote(cursor or '')}&limit=100",
        f"page {DEEP_PAGES} of 100, tutorial": f"{base}/customers?page={DEEP_PAGES}&limit=100",
        "health": f"{api}/api/health",
    }
    if cursor is None:
        urls = {name: url for name, url in urls.items() if f"page {DEEP_PAGES}" not in name}
    if settings.elasticsearch_url is not None:
        word = first[0]["last_name"]
        body = quote(msgspec.json.encode(search_body([customers], word, 0, 10)))
        index = alias_name(customers, settings)
        urls |= {
            "search": f"{api}/search?q={quote(word)}&dataset=customers",
            "search, bare Elasticsearch": f"{settings.elasticsearch_url}/{index}/_search?source={body}"
            "&source_content_type=application/json",
        }
    return urls


def ask(url: str, seconds: int, pid: int | None) -> Load:
    """Put load on one URL, which process `pid` answers. Raises RuntimeError unless every answer is a success."""
    words = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "30s", "--latency", url]
    before = cpu_seconds(pid)
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    spent = cpu_seconds(pid) - before
    if wrong := re.search(r"Non-2xx.*|Socket errors.*", said):
        raise RuntimeError(f"{url}: {wrong[0]}")
    per_second, answers = _number(said, r"Requests/sec:\s+([\d.]+)()"), _number(said, r"(\d+)() requests in")
    cpu_us = round(spent / answers * 1e6, 1)
    return Load(per_second, _milliseconds(said, "50%"), _milliseconds(said, "99%"), cpu_us)


def cpu_seconds(pid: int | None) -> float:
    """The CPU time that a process and its children have taken so far; 0 for None."""
    if pid is None:
        return 0.0
    process = psutil.Process(pid)
    return sum(sum(one.cpu_times()[:2]) for one in (process, *process.children(recursive=True)))


def _milliseconds(said: str, share: str) -> float:
    return _number(said, rf"\s{share}\s+([\d.]+)(us|ms|s)\b")


def _number(said: str, pattern: str) -> float:
    found = re.search(pattern, said)
    if found is None:
        raise RuntimeError(f"wrk says nothing like {pattern!r}:\n{said}")
    return float(found[1]) * {"us": 0.001, "ms": 1, "s": 1000, "": 1}[found[2]]


def as_figures(medians: dict[str, Load]) -> dict[str, Any]:
    """The figures for scripts."""
    return {
        "requests": {name: load._asdict() for name, load in medians.items()},
        "cached_cpu_to_hello": round(medians["customer, cached"].cpu_us / medians["hello"].cpu_us, 2),
        "cached_to_hello": _share(medians, "customer, cached", "hello"),
        "page_to_hello": _share(medians, "page of 10", "hello"),
        "page_of_100_to_tutorial": _share(medians, "page of 100", "page of 100, tutorial"),
        "search_to_elasticsearch": _share(medians, "search", "search, bare Elasticsearch"),
    }


def _share(medians: dict[str, Load], one: str, other: str) -> float | None:
    if one not in medians or other not in medians:
        return None
    return round(medians[one].per_second / medians[other].per_second, 3)


def show(medians: dict[str, Load]) -> None:
    """The table for people."""
    hello = medians["hello"].per_second
    table = Table(f"{CONNECTIONS} connections", "requests/s", "of hello", "p50 ms", "p99 ms", "CPU µs")
    for name, load in medians.items():
        table.add_row(
            name,
            f"{load.per_second:,.0f}",
            f"{load.per_second / hello:.2f}",
            f"{load.p50:.2f}",
            f"{load.p99:.2f}",
            f"{load.cpu_us:,.0f}",
        )
    Console().print(table)


if __name__ == "__main__":
    cli()
