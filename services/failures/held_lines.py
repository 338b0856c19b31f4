"""Lines about held records, for any client of Postgres; `headrace status` loads no SQLAlchemy."""

from collections.abc import Iterable, Sequence
from typing import Any

HELD_BY_SOURCE = """
    SELECT dataset, source_name, count(*) FROM ingest_failures WHERE state = 'held' GROUP BY 1, 2 ORDER BY 1, 2
"""


def held_lines(rows: Iterable[Sequence[Any]]) -> list[str]:
    """A line per source with held records, from the rows of HELD_BY_SOURCE: how many, and the way out. Pure."""
    lines = []
    for dataset, source, number in rows:
        chosen = f"--source {source}" if source else f"--dataset {dataset}"
        lines.append(
            f"{number:,} records of {source or 'no named source'} ({dataset}) are held, since nearly all of them "
            f"failed: `headrace failures release {chosen}`, or `headrace failures discard {chosen}`"
        )
    return lines
