"""What an export says of itself, line by line or as JSON."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from exports.destination import Destination
from exports.export import Exported
from exports.files import Delivered


@dataclass
class Report:
    """Collects what happens, and says each thing at once where `say` is given."""

    say: Callable[[str], None] | None = None
    counts: Exported | None = None
    files: list[Delivered] = field(default_factory=list)

    def written(self, counts: Exported) -> None:
        """All rows are written."""
        self.counts = counts
        self._say(f"Initial rows: {counts.initial_rows}")
        self._say(f"Rows after cleaning: {counts.rows}")

    def delivered(self, file: Delivered) -> None:
        """A file is at its destination."""
        self.files.append(file)
        self._say(file.line)

    def as_json(self, destination: Destination) -> dict[str, Any]:
        """Everything, for scripts; `folder` is that of this machine which holds the files. All rows must be written."""
        assert self.counts is not None  # noqa: S101 (see the contract)
        return {
            "initial_rows": self.counts.initial_rows,
            "rows_after_cleaning": self.counts.rows,
            "local": destination.folder is not None,
            "folder": str(destination.folder) if destination.folder else None,
            "files": [{"name": one.name, "address": one.address, "bytes": one.bytes} for one in self.files],
        }

    def _say(self, line: str) -> None:
        if self.say:
            self.say(line)
