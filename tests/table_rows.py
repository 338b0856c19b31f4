"""Tables in documents that runs of tests write."""

import re


def with_row(text: str, name: str, row: str) -> str:
    """The document with this row in the place of the one whose first cell is `name`. Pure. Raises ValueError if it has
    none.
    """
    changed, found = re.subn(rf"^\| {re.escape(name)} \|.*$", lambda _: row, text, count=1, flags=re.MULTILINE)
    if not found:
        raise ValueError(f"the document has no row for {name}")
    return changed
