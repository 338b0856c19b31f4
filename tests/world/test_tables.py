"""The tables of csvkit's and agate's tests and examples, and of vega's; Python's csv says what is in their rows. And
csv-spectrum's, which come with what is in them.
"""

import csv
import io
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

from producers.csv.format import NotCsv, column_names, detect_encoding, detect_format
from producers.csv.source import CsvBlock, CsvSource
from producers.source import SourceFailed
from producers.text.found_encoding import SAMPLE_BYTES, UnsureEncoding
from tests.world.figures import Verdict, try_all
from tests.world.material import unpacked

ARCHIVES = ("agate-1.14.2.tar.gz", "csvkit-2.2.0.tar.gz", "vega_datasets-0.9.0-py3-none-any.whl")


def judge(path: Path) -> Verdict:
    try:
        sample = path.read_bytes()[:SAMPLE_BYTES]
        found = detect_format(sample, detect_encoding(sample).name)
        text = path.read_bytes().decode(found.encoding).removeprefix("\ufeff")
        theirs = list(csv.reader(io.StringIO(text, newline=""), delimiter=found.delimiter))
        theirs = [row for row in theirs if any(cell.strip() for cell in row)]
        if not theirs:
            return "refused"
        columns = column_names(theirs[0])
        mapping = {"source_id": columns[0], "name": columns[-1]}
        block = CsvBlock.model_validate({"kind": "csv", "path": str(path), "dataset": "records", "map": mapping})
        records = [
            record for batch in CsvSource(block.describe("world"), block, path).read() for record in batch.records
        ]
    except (NotCsv, UnsureEncoding, SourceFailed, UnicodeDecodeError):
        return "refused"
    ours = [list(json.loads(record.value or b"").values()) for record in records if record.problem is None]
    width, named = len(columns), max(number for number, name in enumerate(theirs[0], 1) if name.strip())
    rows = [
        [*row, *[""] * (width - len(row))][:width] for row in theirs[1:] if len(row) >= named and not any(row[width:])
    ]
    if [[cell.strip() for cell in row] for row in ours] != [[cell.strip() for cell in row] for row in rows]:
        return "wrong"
    return "refused" if len(ours) < len(records) else "right"


def test_tables_of_other_projects_are_read_row_by_row() -> None:
    tried: dict[str, Callable[[], Verdict]] = {
        f"{archive}/{path.relative_to(folder)}": partial(judge, path)
        for archive in ARCHIVES
        for folder in [unpacked(archive)]
        for path in sorted(folder.rglob("*.csv"))
    }
    try_all("tables (csvkit, agate, vega)", tried)


OTHER_ANSWER = {"location_coordinates.csv": "the answer has another telephone number than the table"}


def judge_by_answers(table: Path, answers: Path) -> Verdict:
    answer = json.loads(answers.read_text())
    rows = answer if isinstance(answer, list) else [answer]
    columns = list(rows[0])
    mapping = {"source_id": columns[0], "name": columns[-1]}
    block = CsvBlock.model_validate({"kind": "csv", "path": str(table), "dataset": "records", "map": mapping})
    read = [
        record.value for batch in CsvSource(block.describe("world"), block, table).read() for record in batch.records
    ]
    return "right" if [json.loads(value or b"") for value in read] == rows else "wrong"


def test_tables_that_come_with_their_answers_are_read_as_these_say() -> None:
    folder = unpacked("csv-spectrum-2.0.0.tgz") / "package"
    tried: dict[str, Callable[[], Verdict]] = {
        path.name: partial(judge_by_answers, path, folder / "json" / f"{path.stem}.json")
        for path in sorted((folder / "csvs").glob("*.csv"))
    }
    try_all("tables with answers (csv-spectrum)", tried, OTHER_ANSWER)
