"""`headrace push`: records given by hand or by another program, one JSON object a line."""

from pathlib import Path
from typing import Annotated

import typer

from commands.output import WRONG_USAGE, fail
from commands.publish_runs import TIMEOUT_SECONDS, AsJson, PublishRuns, Timeout
from producers.jsonl.source import DeletedKeysSource, JsonLinesSource, Lines
from producers.source import SourceDescription, check_source_name, check_takes_records
from runtime.settings import load_settings
from schemas.registry import UnknownDataset, dataset_named

PUSH = "push"


def push(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="The dataset that the records belong to.")],
    file: Annotated[Path, typer.Argument(metavar="FILE.jsonl|-", help="One JSON object a line; - is standard input.")],
    delete: Annotated[bool, typer.Option("--delete", help="The lines are keys of records to delete.")] = False,
    source: Annotated[str, typer.Option(metavar="NAME", help="Whom the records come from.")] = PUSH,
    wait: Annotated[bool, typer.Option("--wait", help="Return when Postgres has taken the records.")] = False,
    timeout: Timeout = TIMEOUT_SECONDS,
    as_json: AsJson = False,
) -> None:
    """Publish lines of JSON to a dataset, untouched. Blank lines are skipped; one that is no record becomes a failure.

    What is something else as a whole, such as a JSON array or CSV, is refused. Gzip and UTF-16 are read.

    Exit code 0 only if every record was confirmed (with --wait: taken by Postgres); 1 otherwise; 2 for wrong usage.

    Examples:

      headrace push customers new.jsonl --wait

      echo CUST001 | headrace push customers - --delete --wait

      jq -c '.items[]' export.json | headrace push records - --source export

      jq -r .customer_id gone.jsonl | headrace push customers - --delete
    """
    settings = load_settings()
    try:
        description = SourceDescription(check_source_name(source), PUSH, check_takes_records(dataset_named(dataset)))
    except (UnknownDataset, ValueError) as error:
        fail(str(error), WRONG_USAGE)
    lines = DeletedKeysSource(description, Lines(file)) if delete else JsonLinesSource(description, file)
    PublishRuns(settings, as_json, wait, timeout).execute([lines], {})
