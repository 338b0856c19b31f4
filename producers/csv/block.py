"""The block of kind `csv` in sources.toml."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator

from producers.csv.source import CsvSource
from producers.http.block import FetchBlock
from producers.http.downloaded_source import DownloadedSource, is_address
from producers.source import Source
from producers.text.text_encoding import EXPECTED, is_text_encoding
from runtime.settings import Settings
from schemas.field_reading import DecimalMark
from schemas.fields import Decimals, FieldType, Number, WholeNumber


def _tab(value: object) -> object:
    return "\t" if value in {"tab", "\\t"} else value


class CsvBlock(FetchBlock):
    """A block of kind `csv`; what it says about fetching is for a file at an address."""

    kind: Literal["csv"]
    has_lines = True
    path: Annotated[str, Field(min_length=1)]
    """A file, or its http(s) address."""
    encoding: str | None = None
    """Found out if not given: byte order mark, charset of the answer over HTTP, UTF-8, else guessed if that is sure."""
    delimiter: Annotated[str | None, BeforeValidator(_tab)] = None
    """One character, or `tab`; found out among `,` `;` tab `|` if not given."""
    decimal: DecimalMark | None = None
    """The decimal mark of its numbers, found out if not given: 1.234,56 is written with a comma."""
    skip_lines: Annotated[int, Field(ge=0)] = 0
    """Lines before the header that are not read: titles, dates of reports."""
    comment: Annotated[str | None, Field(min_length=1)] = None
    """Lines that begin with it are not read."""
    columns: tuple[str, ...] = ()
    """Names of all columns, where no line of the file is a header."""
    escape: Annotated[str | None, Field(min_length=1, max_length=1)] = None
    """What stands before a quote or a delimiter that is part of a value, where quotes are not doubled."""
    max_bytes: Annotated[int, Field(ge=1, le=1 << 40)] = 512 * 1_048_576

    @field_validator("encoding")
    @classmethod
    def _is_known(cls, value: str | None) -> str | None:
        if value is not None and not is_text_encoding(value):
            raise ValueError(EXPECTED)
        return value

    @field_validator("delimiter")
    @classmethod
    def _is_one_character(cls, value: str | None) -> str | None:
        if value is not None and (len(value) != 1 or value in '"\r\n'):
            raise ValueError('expected one character such as , ; | or the word tab, and no quote (")')
        return value

    def _decimal_of(self, field_type: FieldType) -> Decimals | None:
        if not isinstance(field_type, Number | WholeNumber) or self.decimal == ".":
            return None
        return self.decimal or "unsure"

    def build(self, name: str, settings: Settings, folder: Path) -> Source:  # noqa: ARG002 (files need no settings)
        address = self.path if is_address(self.path) else ""

        def at(path: Path, charset: str | None = None) -> CsvSource:
            layout = (self.encoding, self.delimiter, self.skip_lines, self.comment, self.columns, self.escape)
            return CsvSource(self.describe(name), path, *layout, charset=charset, address=address)

        if address:
            return DownloadedSource(self.path, at, f"{self.path} {at(Path()).layout}", self)
        return at(folder / self.path)
