"""`headrace publish`: read sources and publish their records, or a CSV file that no block declares."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from commands.output import WRONG_USAGE, fail
from commands.publish_runs import TIMEOUT_SECONDS, AsJson, PublishRuns, Timeout
from producers.csv.source import is_address
from producers.source import Source, check_source_name, key_columns
from producers.sources import SourcesError, build_source, load_sources
from runtime.settings import Settings, load_settings
from stores.checkpoints import Checkpoint

CSV_WORD = "csv"

SourcesFile = Annotated[Path | None, typer.Option("--sources", metavar="FILE", help="Another file than SOURCES_FILE.")]


def _csv(words: str, metavar: str | None = None, *names: str) -> Any:
    """An option of `publish csv PATH`."""
    return typer.Option(*names, metavar=metavar, help=f"csv PATH: {words}")


def publish(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="SOURCE… | csv PATH", help="Names in sources.toml, or a CSV file or its address."),
    ] = None,
    sources_file: SourcesFile = None,
    every: Annotated[bool, typer.Option("--all", help="Every source of the file but webhooks.")] = False,
    dataset: Annotated[str, _csv("the dataset that the rows belong to.")] = "records",
    source: Annotated[str | None, _csv("the source's name; by default the file's.", "NAME")] = None,
    mapping: Annotated[list[str] | None, _csv("where a field comes from.", "FIELD=COLUMN", "--map")] = None,
    key: Annotated[str | None, _csv("its id, joined if several; @row: its place.", "COLUMN[,…]")] = None,
    default: Annotated[
        list[str] | None, _csv("what a field is where the row has nothing for it.", "FIELD=VALUE")
    ] = None,
    required: Annotated[list[str] | None, _csv("without it a row is a failure.", "FIELD")] = None,
    null: Annotated[
        list[str] | None, _csv("means nothing in numbers, dates, addresses; by default NA and such.", "TEXT")
    ] = None,
    text_null: Annotated[list[str] | None, _csv("means nothing in texts; by default nothing does.", "TEXT")] = None,
    dates: Annotated[str | None, _csv("how 01/02/2024 is meant.", "day_first|month_first")] = None,
    decimal: Annotated[str | None, _csv("the decimal mark; found out if not given.", ".|,")] = None,
    region: Annotated[str | None, _csv("of telephone numbers without a country code.", "US|GB|…")] = None,
    encoding: Annotated[str | None, _csv("found out if not given.")] = None,
    delimiter: Annotated[str | None, _csv("one character or 'tab'; found out if not given.")] = None,
    skip_lines: Annotated[int | None, _csv("lines before the header, titles for example.", "NUMBER")] = None,
    comment: Annotated[str | None, _csv("lines that begin with it are not read.", "TEXT")] = None,
    escape: Annotated[str | None, _csv("stands before quotes that are not doubled.", "CHARACTER")] = None,
    columns: Annotated[str | None, _csv("the columns' names, where no line is a header.", "NAME,…")] = None,
    incremental: Annotated[
        bool,
        typer.Option("--incremental/--full", help="Only what is new or changed, or all (the default)."),
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="A recorded run: return when Postgres has the records.")] = False,
    timeout: Timeout = TIMEOUT_SECONDS,
    as_json: AsJson = False,
) -> None:
    """Publish all records of sources to Kafka. A source that cannot be read stops no other one.

    With --incremental a source goes on where its last run ended, or was interrupted: an API sends the records whose
    content changed, a CSV file what was appended. --full sends all, and later incremental runs go on from there.

    Exit code 0 only if every record was confirmed (with --wait: taken by Postgres); 1 otherwise; 2 for wrong usage.

    Examples:

      headrace publish customers_api titanic

      headrace publish --all --wait

      headrace publish customers_api --incremental

      headrace publish csv sales.csv --source sales --map source_id=id --map name=product --wait

      headrace publish csv new.csv --dataset customers --delimiter ';' --json

      headrace publish csv weather.csv --key station,date --map name=station --map value=temp --null NA --null -999

      headrace publish csv preise.csv --key Nr --map name=Artikel --map value=Preis --decimal , --default value=0

      headrace publish csv report.csv --dataset orders --skip-lines 3 --comment '#' --dates day_first
    """
    settings = load_settings()
    words = words or []
    broken: dict[str, str] = {}
    values: dict[str, object] = {
        "map": _pairs("--map", mapping),
        "key": key_columns(key) if key else None,
        "defaults": _pairs("--default", default),
        "required": required,
        "nulls": null,
        "text_nulls": text_null,
        "dates": dates,
        "decimal": decimal,
        "region": region,
        "encoding": encoding,
        "delimiter": delimiter,
        "skip_lines": skip_lines,
        "comment": comment,
        "escape": escape,
        "columns": columns.split(",") if columns else None,
    }
    given = {setting: value for setting, value in values.items() if value is not None}
    try:
        if words[:1] == [CSV_WORD]:
            if every or sources_file:
                fail("--all and --sources belong to sources of a file, not to `csv PATH`", WRONG_USAGE)
            chosen = [_csv_source(words[1:], source, {"dataset": dataset, **given}, settings)]
        else:
            if source or given:
                fail(f"{', '.join(_options(source, given))} belong to `headrace publish csv PATH`", WRONG_USAGE)
            chosen, broken = declared_sources(words, every, sources_file or settings.sources_file, settings)
    except SourcesError as error:
        fail(str(error), WRONG_USAGE)
    checkpoint: Checkpoint = "resume" if incremental else "restart"
    trigger = "publish" if wait else None
    PublishRuns(settings, as_json, wait, timeout, trigger=trigger, checkpoint=checkpoint).execute(chosen, broken)


def declared_sources(
    names: Sequence[str], every: bool, file: Path, settings: Settings
) -> tuple[list[Source], dict[str, str]]:
    """The sources of that file with these names, or all; and by name the problems of those whose blocks are wrong.

    Ends the command if one is not there. Raises SourcesError for a file that cannot be read.
    """
    sources = load_sources(file, settings)
    known = ", ".join([*sources, *sources.broken]) or "none"
    if every:
        return [source for source in sources.values() if not source.description.pushed], sources.broken
    if not names:
        fail(f"name the sources to publish, or say --all; {file} declares: {known}", WRONG_USAGE)
    for name in names:
        if name not in sources and name not in sources.broken:
            fail(f"{file} declares no source {name!r}; it declares: {known}", WRONG_USAGE)
    wanted = list(dict.fromkeys(names))
    broken = {name: sources.broken[name] for name in wanted if name not in sources}
    return [sources[name] for name in wanted if name in sources], broken


def _csv_source(paths: Sequence[str], name: str | None, values: dict[str, object], settings: Settings) -> Source:
    if len(paths) != 1:
        fail("name one file: headrace publish csv PATH --source NAME --map FIELD=COLUMN …", WRONG_USAGE)
    path = paths[0]
    try:
        stem = Path(urlsplit(path).path if is_address(path) else path).stem
    except ValueError as error:
        fail(f"csv: {path!r} is no address: {error}", WRONG_USAGE)
    try:
        chosen = check_source_name(name or re.sub(r"[^A-Za-z0-9_.-]+", "_", stem).strip("_.-"))
    except ValueError as error:
        fail(f"--source: {error}", WRONG_USAGE)
    return build_source(chosen, {"kind": CSV_WORD, "path": path, **values}, settings, Path(), where="csv:")


def _pairs(option: str, pairs: Sequence[str] | None) -> dict[str, str] | None:
    found = {}
    for pair in pairs or []:
        field, equals, value = pair.partition("=")
        if not (field and equals and value):
            expected = "FIELD=COLUMN, e.g. --map name=Title" if option == "--map" else "FIELD=VALUE"
            fail(f"{option} {pair!r}: expected {expected}", WRONG_USAGE)
        found[field] = value
    return found or None


def _options(source: str | None, given: Iterable[str]) -> list[str]:
    renamed = {"defaults": "default", "nulls": "null", "text_nulls": "text-null", "skip_lines": "skip-lines"}
    return [f"--{renamed.get(name, name)}" for name in [*(["source"] if source else []), *given]]
