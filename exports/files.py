"""The files of one export: written aside, all of them to their end, before the first one is delivered."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from exports.destination import Destination
from exports.errors import ExportError
from exports.formats import FORMATS, FileWriter


@dataclass(frozen=True)
class Delivered:
    """A file that is at its destination, whole. `line` tells so in one sentence."""

    name: str
    address: str
    bytes: int
    line: str


class ExportFiles:
    """Files that are being written; make one with `export_files`."""

    def __init__(self, destination: Destination, writers: dict[Path, FileWriter]) -> None:
        self._destination = destination
        self._writers = writers
        self.rows = 0

    def write(self, batch: pa.RecordBatch) -> None:
        """Append a batch to every file. Blocking. Raises ExportError, as on a full disk."""
        for path, writer in self._writers.items():
            try:
                writer.write_batch(batch)
            except OSError as error:
                raise ExportError(f"{path} cannot be written: {error}") from error
        self.rows += batch.num_rows

    def deliver(self) -> Iterator[Delivered]:
        """Finish all files, then deliver them one by one. Blocking. Raises ExportError."""
        for writer in self._writers.values():
            writer.close()
        for path in self._writers:
            size = path.stat().st_size
            address = self._destination.deliver(path)
            line = f"File {path.name} successfully {self._destination.verb} {address}"
            yield Delivered(path.name, address, size, line)


@contextmanager
def export_files(
    destination: Destination, stem: str, formats: Sequence[str], schema: pa.Schema
) -> Iterator[ExportFiles]:
    """Files `<stem>.<format>` to write. What is not delivered when the block ends, however it ends, is gone."""
    with destination.workspace() as folder, ExitStack() as stack:
        writers = {}
        for name in formats:
            path = folder / f"{stem}.{name}"
            writers[path] = FORMATS[name](path, schema)
            stack.callback(writers[path].close)
        yield ExportFiles(destination, writers)
