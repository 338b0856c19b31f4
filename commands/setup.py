"""`headrace setup`: migrations, topics and indices, before the first process starts."""

import asyncio
from typing import Annotated

import typer

from commands.output import fail, stderr, stdout
from commands.trouble import answered_by
from data.generate import RAW_FILE, make_raw_file
from runtime.kafka.topic_admin import ensure_topics, set_configuration
from runtime.settings import Settings, load_settings
from stores.epochs import note_epochs
from stores.grants import grant_tables
from stores.migrate import STARTING_SECONDS, migrate
from stores.search_index import ensure_indices
from stores.search_server import SearchServer
from stores.set_up_report import SetUpReport


def setup(
    go_on: Annotated[
        bool, typer.Option("--go-on", help="Exit code 0 although a dataset does not fit: it alone is paused.")
    ] = False,
) -> None:
    """Apply the database migrations, create missing topics and search indices, make the sample sales (data/raw.csv).

    A changed declaration of a dataset is compared with its table and its index. What is safe is added: a nullable
    field, a longer text. The rest is refused with what to do about it, and exit code 1. Idempotent; `headrace up` calls
    it.

    Examples:

      headrace setup

      headrace setup --go-on
    """
    settings = load_settings()
    with answered_by("Postgres", f"; it may take {STARTING_SECONDS} s to start"):
        schema = migrate(settings)
    _tell("postgres", "schema is current", schema)
    with answered_by("Kafka"):
        created = ensure_topics(settings)
        changed = set_configuration(settings)
    stdout.print(f"kafka: {len(created)} topics created" if created else "kafka: all topics exist")
    for name, config in changed.items():
        told = ", ".join(f"{one}={value}" for one, value in config.items())
        stdout.print(f"kafka: {name} has {told} now", markup=False)
    with answered_by("Postgres"):
        asyncio.run(note_epochs(settings))
        if settings.role_users:
            given = asyncio.run(grant_tables(settings))
            stdout.print(f"postgres: rights of {', '.join(given) or 'no user, as there is none yet'}", markup=False)
    indices: SetUpReport | None = None
    if settings.elasticsearch_url is None:
        stdout.print("elasticsearch: none; search answers from Postgres")
    else:
        with answered_by("Elasticsearch"):
            indices = asyncio.run(_ensure_indices(settings))
        _tell("elasticsearch", "indices are current", indices)
    _make_sample()
    if unfit := sorted({*schema.misfits, *(indices.misfits if indices else ())}):
        told = f"{', '.join(unfit)} cannot be stored as declared (see above): paused alone, the others go on"
        if go_on:
            stderr.print(told, markup=False)
        else:
            fail(told)


def _tell(store: str, well: str, report: SetUpReport) -> None:
    for line in report.changes:
        stdout.print(f"{store}: {line}", markup=False)
    for line in report.remarks:
        stderr.print(f"{store}: {line}", markup=False)
    for line in report.misfits.values():
        stderr.print(f"{store}: REFUSED: {line}", markup=False)
    if not report.misfits:
        stdout.print(f"{store}: {well}")


def _make_sample() -> None:
    try:
        made = make_raw_file()
    except OSError as error:  # an installation that may not be written to; only the source `orders` wants the file
        stderr.print(f"data: {RAW_FILE} cannot be made: {error.strerror or error}", markup=False)
    else:
        stdout.print(f"data: {RAW_FILE.name} made" if made else f"data: {RAW_FILE.name} is there")


SEARCH_SECONDS = 30.0
"""For each request: a node that was just started makes its first index slowly."""


async def _ensure_indices(settings: Settings) -> SetUpReport:
    async with SearchServer(settings, SEARCH_SECONDS, tries=4) as server:
        return await ensure_indices(server, settings)
