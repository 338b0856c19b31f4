"""Texts of the web in other encodings, from chardet's own tests, as a column of an ordinary table of twenty rows."""

import csv
import io
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from producers.text.found_encoding import UnsureEncoding, find_encoding
from tests.world.figures import Verdict, explain, try_all
from tests.world.material import unpacked

ROWS = 20
LANGUAGES = "arabic bulgarian croatian czech greek hebrew hungarian polish romanian russian slovak slovene turkish"

WAVE_DASH = "which of two dashes a byte means is the only difference between Shift JIS and the encoding of Windows"


def tables(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Name, encoding and table for every text in a folder of `<encoding>[-<language>]/<file>` that has enough lines."""
    for path in sorted(folder.glob("*/*")):
        label, _, language = path.parent.name.lower().rpartition("-")
        encoding = label if language in LANGUAGES.split() else path.parent.name.lower()
        try:
            text = path.read_bytes().decode(encoding)
        except (LookupError, UnicodeDecodeError):
            continue  # named for another encoding than it is in, or none of Python's
        lines = [" ".join(line.replace("\ufeff", "").split()) for line in text.splitlines()]
        told = [line for line in lines if not line.isascii()][:ROWS]
        if len(told) == ROWS:
            yield f"{path.parent.name}/{path.name}", encoding, _table(told)


def _table(texts: list[str]) -> str:
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["id", "email", "signed_up", "text"])
    for number, text in enumerate(texts, start=1):
        writer.writerow([number, f"customer{number}@example.org", f"2024-03-{number:02d}", text])
    return table.getvalue()


def judge(table: str, encoding: str) -> Verdict:
    data = table.encode(encoding)
    try:
        found = find_encoding(data)
    except UnsureEncoding:
        return "refused"
    return "right" if data.decode(found.name).removeprefix("\ufeff") == table else "wrong"


def test_texts_in_any_encoding_are_read_as_their_label_says() -> None:
    folder = unpacked("chardet-5.2.0.tar.gz") / "chardet-5.2.0" / "tests"
    tried: dict[str, Callable[[], Verdict]] = {
        name: partial(judge, table, encoding) for name, encoding, table in tables(folder)
    }
    try_all("texts in any encoding (chardet's tests)", tried, explain(["CP932/y-moto.com.xml"], WAVE_DASH))
