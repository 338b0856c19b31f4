"""A folder as a destination, for its own sake or in a bucket's place."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from exports.destination import object_address
from exports.errors import ExportError

FILE_MODE = 0o640
"""Customers are nobody else's business; the group may be given the files to fetch."""


class Folder:
    """A folder of this machine; implements Destination."""

    verb = "written to"
    remark: str | None = None

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def folder(self) -> Path | None:
        return self._path

    def check(self) -> None:
        try:
            self._path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ExportError(f"{self._path} is no folder to export to: {error.strerror or error}") from error

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        # Within the folder, so that the last step is a rename and not a copy.
        try:
            scratch = tempfile.TemporaryDirectory(prefix=".export-", dir=self._path)
        except OSError as error:
            raise ExportError(f"{self._path} cannot be written to: {error.strerror or error}") from error
        with scratch as name:
            yield Path(name)

    def deliver(self, path: Path) -> str:
        try:
            path.chmod(FILE_MODE)
            _sync(path)
            target = path.replace(self._path / path.name)
            _sync(self._path)
        except OSError as error:
            raise ExportError(f"{self._path / path.name} cannot be written: {error.strerror or error}") from error
        return str(target)


class StandIn(Folder):
    """A folder that stands in for a prefix within a bucket; implements Destination."""

    verb = "uploaded to"

    def __init__(self, path: Path, url: str) -> None:
        super().__init__(path)
        self._url = url
        self.remark = f"No S3 credentials: {url} is the folder {path}"

    def deliver(self, path: Path) -> str:
        super().deliver(path)
        return object_address(self._url, path.name)


def _sync(path: Path) -> None:
    """Have the file, or the folder's names, on the disk before going on."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
