"""Tables and pictures of benchmarks/results.json: docs/benchmarks/*.svg, and what stands between marks in documents.

    python -m benchmarks.report            # README.md, docs/performance.md and docs/benchmarks
    python -m benchmarks.report --check    # changes nothing; ends with 1 if something differs

A mark is `<!-- figures: NAME -->`, and what it begins ends with `<!-- end -->`. A benchmark that has not been run says
so in its table and has no picture. Idempotent: same figures, same bytes.
"""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.pictures import Bar, chart, figure
from benchmarks.results import RESULTS, read

PROJECT = Path(__file__).parent.parent
DOCUMENTS = ("README.md", "docs/performance.md")
PICTURES = "docs/benchmarks"

MARKED = re.compile(r"(<!-- figures: ([a-z_]+) -->)(.*?)(<!-- end -->)", re.DOTALL)

TITLES = {
    "ours": "Headrace: Faust on batches",
    "bare": "bare confluent-kafka loop",
    "stock": "stock Faust, event by event",
    "loop": "bare loop",
    "source": "Headrace's source",
    "sink": "Headrace's sink",
}

COLUMNS = {
    "records_per_second": "records/s",
    "rows_per_second": "rows/s",
    "documents_per_second": "documents/s",
    "megabytes_per_second": "MB/s",
    "seconds": "s",
    "cold_records_per_second": "cold",
    "cpu_us": "CPU µs",
    "server_cpu_us": "servers' CPU µs",
    "cpu_s": "CPU s",
    "peak_megabytes": "peak MB",
    "peak_mb": "peak MB",
    "note": "",
}
"""What a candidate's row may hold, in the order of the columns."""

Figures = dict[str, Any]


def main(
    results: Annotated[Path, typer.Option(help="The file that keeps the figures of all benchmarks.")] = RESULTS,
    project: Annotated[Path, typer.Option(help="Where the documents are.")] = PROJECT,
    check: Annotated[bool, typer.Option("--check", help="Change nothing; end with 1 if something differs.")] = False,
) -> None:
    """Write tables and pictures."""
    known = read(results)
    wanted = {project / PICTURES / f"{name}.svg": text for name, text in pictures(known["benchmarks"]).items()}
    for name in DOCUMENTS:
        wanted[project / name] = filled((project / name).read_text(), known)
    differing = [file for file, text in wanted.items() if not file.exists() or file.read_text() != text]
    for file in differing:
        typer.echo(f"{'differs' if check else 'written'}: {file.relative_to(project)}")
        if not check:
            file.parent.mkdir(exist_ok=True)
            file.write_text(wanted[file])
    raise typer.Exit(1 if check and differing else 0)


def filled(document: str, known: Figures) -> str:
    """The document with the figures between its marks. Raises KeyError for a mark that names none. Pure."""

    def one(mark: re.Match[str]) -> str:
        text = FIGURES[mark[2]](known)
        return f"{mark[1]}{text}{mark[4]}"

    return MARKED.sub(one, document)


def table(benchmark: str) -> Callable[[Figures], str]:
    """Gives the table of a benchmark whose candidates have rows, or the line that it was not run."""

    def text(known: Figures) -> str:
        measured = known["benchmarks"].get(benchmark)
        if measured is None:
            return NOT_YET
        rows = rows_of(measured)
        columns = [name for name in COLUMNS if any(name in row for row in rows.values())]
        lines = [[_title(name), *(_cell(row.get(column)) for column in columns)] for name, row in rows.items()]
        # Its reason stands in the row of a candidate that could not be measured.
        lines += [[name, *[""] * (len(columns) - 1), why] for name, why in measured.get("left_out", {}).items()]
        return _markdown(["", *(COLUMNS[name] for name in columns)], lines) + f"\n{_said(measured)}\n"

    return text


def rows_of(measured: Figures) -> Figures:
    """The candidates' rows. Where a benchmark has them flat, `<candidate>_<figure>`, they are put together. Pure."""
    if isinstance(measured.get("rows"), dict):
        return dict(measured["rows"])
    found: Figures = {}
    for name, one in measured.items():
        if isinstance(one, dict) and {"per_second", "range"} <= one.keys():
            low, high = one["range"]
            rate = {"median": one["per_second"], "low": low, "high": high}
            found[name] = {"documents_per_second": rate, "cpu_us": one["cpu_us"]}
            if "elasticsearch_cpu_us" in one:
                found[name]["server_cpu_us"] = one["elasticsearch_cpu_us"]
    for key, value in measured.items():
        for column in COLUMNS:
            if key.endswith(f"_{column}") and isinstance(value, int | float | dict):
                found.setdefault(key.removesuffix(f"_{column}"), {}).setdefault(column, value)
    return {name: row for name, row in found.items() if any(column.endswith("_per_second") for column in row)}


def whole(known: Figures) -> str:
    """Rates, the cost of each process, and latencies of the whole."""
    measured = known["benchmarks"].get("whole")
    if measured is None:
        return NOT_YET
    low, high = measured["records_per_second_range"]
    cheapest, dearest = measured["cpu_us_per_record_range"]
    lines = [
        ["into every store, records/s", f"{measured['records_per_second']:,.0f} ({low:,} to {high:,})"],
        ["into Postgres, records/s", f"{measured['postgres_records_per_second']:,}"],
        ["CPU per record, all processes", f"{measured['cpu_us_per_record']:g} µs ({cheapest:g} to {dearest:g})"],
    ]
    for name, one in (("just started", "latency_cold_ms"), ("warm", "latency_warm_ms")):
        waits = measured[one]
        lines.append(
            [
                f"raw record to change event at {waits['rate']:,}/s, {name}",
                f"p50 {waits['p50']:g} ms, p99 {waits['p99']:g} ms, worst {waits['worst']:g} ms",
            ]
        )
    costs = sorted(measured["cpu_us_per_record_by_process"].items(), key=lambda item: -item[1])
    shares = [[name, f"{cpu:g}", f"{measured['peak_megabytes'][name]:,}"] for name, cpu in costs if cpu]
    return (
        _markdown([f"{measured['records']:,} customers", ""], lines)
        + _markdown(["process", "CPU µs a record", "peak MB"], shares)
        + f"\n{_said(measured)}\n"
    )


def reads(known: Figures) -> str:
    """Requests per second of the API and of what it is compared with."""
    measured = known["benchmarks"].get("reads")
    if measured is None:
        return NOT_YET
    hello = measured["requests"]["hello"]["per_second"]
    lines = [
        [name, f"{one['per_second']:,.0f}", f"{one['per_second'] / hello:.2f}", f"{one['p50']:g}", f"{one['p99']:g}"]
        for name, one in measured["requests"].items()
    ]
    return _markdown(["", "requests/s", "of hello", "p50 ms", "p99 ms"], lines) + f"\n{_said(measured)}\n"


def ratios(known: Figures) -> str:
    """The figures that are compared from day to day."""
    lines = [[f"`{name}`", f"{value:g}"] for name, value in known.get("ratios", {}).items() if value is not None]
    return _markdown(["", ""], lines) if lines else NOT_YET


def picture(known: Figures) -> str:
    """The README's picture; nothing before there is one."""
    drawn = pictures(known["benchmarks"])
    name, says = next(((name, says) for name, says in IN_THE_README.items() if name in drawn), (None, ""))
    return f"\n![{says}]({PICTURES}/{name}.svg)\n" if name else ""


def fast(known: Figures) -> str:
    """The README's sentence."""
    measured = known["benchmarks"].get("faust_stage")
    if measured is None:
        return ""
    rate = measured["rows"]["ours"]["records_per_second"]["median"]
    return f" {rate:,.0f} records/s in one process, {measured['ours_to_stock']:.0f} times stock Faust. "


NOT_YET = "\nNot measured yet.\n"

FIGURES: dict[str, Callable[[Figures], str]] = {
    name: table(name)
    for name in (
        "faust_stage",
        "faust_stage_memory",
        "postgres_sink",
        "elasticsearch_sink",
        "csv_source",
        "command_line",
        "peers_normalize",
        "peers_store",
        "peers_whole",
    )
} | {"whole": whole, "reads": reads, "ratios": ratios, "picture": picture, "fast": fast}

IN_THE_README = {
    "peers_normalize": "Records per second from raw to clean, beside nine others",
    "faust_stage": "Records per second from raw to clean, beside a bare loop and stock Faust",
}
"""The pictures that the README may show: the first that there is."""

DRAWN = {
    "faust_stage": ("Normalizing, one process", "records_per_second", "records/s; more is better"),
    "postgres_sink": ("Storing in Postgres, one process", "rows_per_second", "rows/s; more is better"),
    "elasticsearch_sink": ("Indexing in Elasticsearch", "documents_per_second", "documents/s; more is better"),
    "csv_source": ("A CSV file to its raw topic", "rows_per_second", "rows/s; more is better"),
    "peers_normalize": ("Normalizing, one process of each, warm", "records_per_second", "records/s; more is better"),
    "peers_store": ("Storing in Postgres", "rows_per_second", "rows/s; more is better"),
    "peers_whole": ("From the raw topic into every store", "records_per_second", "records/s; more is better"),
}
"""Title, figure and unit of the pictures of benchmarks whose candidates have rows."""


def pictures(measured: dict[str, Figures]) -> dict[str, str]:
    """SVG documents by name, of all that was measured. Pure."""
    drawn: dict[str, str] = {}
    for name, (title, column, unit) in DRAWN.items():
        rows = {one: row for one, row in rows_of(measured.get(name, {})).items() if column in row}
        if rows:
            drawn[name] = chart(title, f"{unit}; lines are the lowest and the highest round", _bars(rows, column))
    if "whole" in measured:
        costs = sorted(measured["whole"]["cpu_us_per_record_by_process"].items(), key=lambda item: -item[1])
        bars = [Bar(name, cpu, cpu, cpu, _is_ours(name)) for name, cpu in costs if cpu]
        drawn["whole"] = chart(
            "What a record costs on its way into every store",
            f"CPU µs by process, {figure(measured['whole']['cpu_us_per_record'])} in all; green: ours, grey: servers",
            bars,
        )
    if "reads" in measured:
        asked = measured["reads"]["requests"]
        bars = [
            Bar(name, one["per_second"], one["per_second"], one["per_second"], not _is_contender(name))
            for name, one in asked.items()
        ]
        drawn["reads"] = chart("Reading", "requests/s with 16 connections; grey: what they are compared with", bars)
    return drawn


def _bars(rows: Figures, column: str) -> list[Bar]:
    ordered = sorted(rows.items(), key=lambda item: -_of(item[1][column])["median"])
    return [_bar(_title(name), _of(row[column])) for name, row in ordered]


def _bar(name: str, one: dict[str, float]) -> Bar:
    return Bar(name, one["median"], one["low"], one["high"], name.startswith(OURS))


OURS = ("Headrace", "sink", "source")
SERVERS = ("kafka", "postgres", "redis", "elasticsearch")


def _is_ours(process: str) -> bool:
    return not process.startswith(SERVERS)


def _is_contender(name: str) -> bool:
    return name == "hello" or "tutorial" in name or "bare" in name


def _of(value: Any) -> dict[str, float]:
    if isinstance(value, dict):
        return {key: value[key] for key in ("median", "low", "high")}
    return {"median": value, "low": value, "high": value}


def _title(name: str) -> str:
    return TITLES.get(name, name)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    one = _of(value)
    text = figure(one["median"])
    return f"{text} ({figure(one['low'])} to {figure(one['high'])})" if one["high"] > one["low"] else text


def _said(measured: Figures) -> str:
    rounds = f"{measured['rounds']} rounds, " if "rounds" in measured else ""
    said = f"{rounds}{measured['cores']} cores, Python {measured['python']}, {measured['date']}."
    return f"{measured['said']} {said}" if "said" in measured else said


def _markdown(head: list[str], rows: Iterable[list[str]]) -> str:
    aligned = ["---", *("---:" for _ in head[1:])]
    return "\n" + "\n".join(f"| {' | '.join(row)} |" for row in [head, aligned, *rows]) + "\n"


if __name__ == "__main__":
    typer.run(main)
