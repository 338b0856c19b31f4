"""Makes texts harmless that a spreadsheet would run when it opens a CSV file.

A cell that begins with = + - or @ is a formula there, which can send the other cells away or start a program (OWASP,
"CSV injection"). An apostrophe before it makes it a text. Where the comma is for decimals, a semicolon begins a cell.
"""

import pyarrow as pa
import pyarrow.compute as pc

from schemas.formulas import FORMULA, HARMLESS, LATER_CELL

_NUMBER = r"^[+-][\d\s().,/-]*$"
"""Telephone numbers above all: nothing to run."""


def harmless(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with an apostrophe before each text that a spreadsheet would run. Pure."""
    columns = [_column(column) if pa.types.is_string(column.type) else column for column in batch.columns]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def _column(texts: pa.Array) -> pa.Array:
    texts = pc.replace_substring_regex(texts, LATER_CELL, HARMLESS)
    begins = pc.match_substring_regex(texts, FORMULA)
    if not pc.any(begins).as_py():
        return texts
    dangerous = pc.and_not(begins, pc.match_substring_regex(texts, _NUMBER))
    return pc.if_else(dangerous, pc.binary_join_element_wise("'", texts, ""), texts)
